"""The interface of loss terms, and the embeddings that they are computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from jepa.errors import check_choice, check_flag
from jepa.hyperparameters import register_hyperparameter
from jepa.models.heads import Projector
from jepa.types import Batch, DataShapes

Space = Literal["embedding", "projection"]
SPACES = ("embedding", "projection")


@dataclass(frozen=True)
class Sizes:
    """The sizes from which a term makes networks of its own."""

    shapes: DataShapes
    embedding_size: int  # D
    projection_size: int  # F


class Target(NamedTuple):
    """Encodings of a network that is not trained, and the projector that belongs to them."""

    encodings: Tensor  # [T, B, D]
    projector: Callable[[Tensor], Tensor]  # [T, B, D] to [T, B, F]


class Embeddings:
    """A method's embeddings of one training batch. Frame 0 here is the frame from which predictions run.

    Projections and centred features are computed once, at their first use.
    """

    def __init__(
        self,
        *,
        encodings: Tensor,
        predictions: Tensor,
        batch: Batch,
        projector: Projector,
        predict: Callable[[Tensor], Tensor] | None = None,
        normals: Tensor | None = None,
        target: Target | None = None,
    ) -> None:
        """Args:
        encodings: z_t [T, B, D]; [1, B, D] if no term needs more than the first frame.
        predictions: predictions of z_1 ... z_{T-1} [T-1, B, D].
        batch: frames [T, B, C, H, W], actions [T-1, B, A] and locations [T, B, K, 2], normalised.
        projector: maps embeddings to the space ``projection``.
        predict: runs the predictor again, see :meth:`predict`.
        normals: standard normals [N], drawn for this batch; N is the largest ``num_normals`` of the terms, which share
            them. None: no term asks for any.
        target: what predictions are compared with; None: the encodings.
        """
        self.encodings = encodings
        self.predictions = predictions
        self.batch = batch
        self._projector = projector
        self.normals = normals
        self._predict = predict
        self._target = target
        self._projections: Tensor | None = None
        self._target_projections: Tensor | None = None
        self._centered: dict[tuple[Space, bool], Tensor] = {}
        self._centered_in_time: dict[tuple[Space, bool], Tensor] = {}

    @property
    def projections(self) -> Tensor:
        """P(z_t) [T, B, F]. Batch norm takes statistics over all time steps together, as in the original."""
        if self._projections is None:
            self._projections = self._projector(self.encodings)
        return self._projections

    def project_predictions(self) -> Tensor:
        """P of the predictions [T-1, B, F]. Batch norm takes statistics over each time step, as in the original."""
        return self._projector.steps(self.predictions)

    def predict(self, actions: Tensor) -> Tensor:
        """The predictions [T-1, B, D] from the same encodings under other actions [T-1, B, A], normalised."""
        assert self._predict is not None
        return self._predict(actions)

    @property
    def targets(self) -> Tensor:
        """What predictions are compared with, [T, B, D]: z_t, or the encodings of an averaged encoder."""
        return self.encodings if self._target is None else self._target.encodings

    @property
    def target_projections(self) -> Tensor:
        """The projections of :attr:`targets` [T, B, F]."""
        if self._target is None:
            return self.projections
        if self._target_projections is None:
            self._target_projections = self._target.projector(self._target.encodings)
        return self._target_projections

    def features(self, space: Space) -> Tensor:
        """z_t [T, B, D] or P(z_t) [T, B, F]."""
        return self.projections if space == "projection" else self.encodings

    def centered(self, space: Space, *, skip_first_step: bool) -> Tensor:
        """Features in single precision, minus each feature's mean over the batch, [T or T-1, B, F].

        skip_first_step: leave out frame 0, which is not predicted.
        """
        key = (space, skip_first_step)
        if key not in self._centered:
            features = self.features(space)
            features = full_precision(features[1:] if skip_first_step else features)
            self._centered[key] = features - features.mean(dim=-2, keepdim=True)
        return self._centered[key]

    def centered_in_time(self, space: Space, *, skip_first_step: bool) -> Tensor:
        """Features in single precision, minus each feature's mean over its sequence's frames, [B, T or T-1, F]."""
        key = (space, skip_first_step)
        if key not in self._centered_in_time:
            features = self.features(space)
            features = full_precision(features[1:] if skip_first_step else features).transpose(0, 1)
            self._centered_in_time[key] = features - features.mean(dim=-2, keepdim=True)
        return self._centered_in_time[key]


class Term(nn.Module, ABC):
    """Abstract: one term of a method's loss, written for one job.

    Numbers in which packed jobs may differ are buffers (:func:`register_hyperparameter`); a subclass lists their names
    in ``hyperparameter_names``. State that is not trained is kept in buffers, too.
    """

    hyperparameter_names: tuple[str, ...] = ("coeff",)
    smallest_batch: int = 1  # 2 if the term compares the sequences of a batch
    fewest_frames: int = 1  # 2 or more if the term compares the frames of a sequence
    infers_actions: bool = False  # the term is the mean squared error of inferred actions
    num_normals: int = 0  # standard normals that a batch's value needs; may depend on sizes, known after ``build``
    sees_all_frames: bool = True  # False: the term needs encodings only of the frames from which predictions start

    coeff: Tensor | None  # []

    def __init__(self, *, coeff: float | None) -> None:
        """coeff: weight of the term in the method's loss, 0 or more. At 0 the method leaves the term out. None: the
        term is added without a multiplication.
        """
        super().__init__()
        self.is_on = True
        if coeff is None:
            self.coeff = None
        else:
            self.is_on = register_hyperparameter(self, "coeff", coeff, key="coeff")

    def weighted(self, value: Tensor) -> Tensor:
        """``value`` [] of the term, times the coefficient."""
        return value if self.coeff is None else self.coeff * value

    def weight_in_words(self) -> str:
        """The coefficient as text for the screen and for figures, such as "× 118.4"."""
        return "× 1" if self.coeff is None else f"× {self.coeff.item():.4g}"

    @property
    def image_decoder(self) -> nn.Module | None:
        """The term's network that makes images [T, B, C, H, W] of encodings [T, B, D], where it has one."""
        return None

    def build(self, sizes: Sizes) -> None:
        """Make the term's networks. Called once, before training, in the order of the terms."""
        del sizes

    @abstractmethod
    def forward(self, embeddings: Embeddings) -> Tensor:
        """The unweighted loss, []."""


    def trivial(self, embeddings: Embeddings) -> Tensor:
        """The unweighted loss [] of embeddings that hold nothing about dots and actions.

        A term without networks is computed as usual. The best answer of an ``infers_actions`` term is the actions'
        mean, so the loss is the variance of the actions. NaN for any other term with networks: they were trained on
        other embeddings.
        """
        if self.infers_actions:
            actions = embeddings.batch.actions
            return (actions - actions.mean(dim=(0, 1))).square().mean()
        if next(self.children(), None) is not None:
            return embeddings.encodings.new_full((), torch.nan)
        value: Tensor = self(embeddings)
        return value


class FeaturesTerm(Term):
    """Abstract: a term computed from the features of one space as they are."""

    def __init__(self, *, coeff: float | None, space: str) -> None:
        """Args:
        coeff: as for :class:`Term`.
        space: the features to use: "embedding" or "projection".
        """
        super().__init__(coeff=coeff)
        self.space = check_space(space)

    def forward(self, embeddings: Embeddings) -> Tensor:
        with torch.autocast(embeddings.encodings.device.type, enabled=False):
            return self.of_features(full_precision(embeddings.features(self.space)))

    @abstractmethod
    def of_features(self, features: Tensor) -> Tensor:
        """The unweighted loss. features: [T, B, F], in single precision; returns []."""


class CenteredTerm(Term):
    """Abstract: a term computed from each time step's features minus their mean over the batch."""

    def __init__(self, *, coeff: float | None, space: str, skip_first_step: bool) -> None:
        """Args:
        coeff: as for :class:`Term`.
        space: the features to use: "embedding" or "projection".
        skip_first_step: leave out frame 0, which is not predicted (as published).
        """
        super().__init__(coeff=coeff)
        self.space = check_space(space)
        self.skip_first_step = check_flag("skip_first_step", skip_first_step)

    def forward(self, embeddings: Embeddings) -> Tensor:
        with torch.autocast(embeddings.encodings.device.type, enabled=False):
            return self.of_centered(embeddings.centered(self.space, skip_first_step=self.skip_first_step))

    @abstractmethod
    def of_centered(self, centered: Tensor) -> Tensor:
        """The unweighted loss. centered: [T or T-1, B, F], in single precision; returns []."""


class TimeCenteredTerm(Term):
    """Abstract: a term computed from each sequence's features minus their mean over the sequence's frames."""

    fewest_frames = 2

    def __init__(self, *, coeff: float | None, space: str, skip_first_step: bool) -> None:
        """Arguments as for :class:`CenteredTerm`."""
        super().__init__(coeff=coeff)
        self.space = check_space(space)
        self.skip_first_step = check_flag("skip_first_step", skip_first_step)
        self.fewest_frames = 3 if skip_first_step else 2

    def forward(self, embeddings: Embeddings) -> Tensor:
        with torch.autocast(embeddings.encodings.device.type, enabled=False):
            return self.of_centered(embeddings.centered_in_time(self.space, skip_first_step=self.skip_first_step))

    @abstractmethod
    def of_centered(self, centered: Tensor) -> Tensor:
        """The unweighted loss. centered: [B, T or T-1, F], in single precision; returns []."""


def check_space(space: str) -> Space:
    """Return ``space`` if it is one of SPACES. Raises ConfigError otherwise."""
    return "projection" if check_choice("space", space, SPACES) == "projection" else "embedding"


def full_precision(tensor: Tensor) -> Tensor:
    """``tensor`` in single precision if it has half precision; other types stay."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
