"""The interface of methods: networks, a training loss, and the embeddings that probes judge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Protocol

import torch
from torch import Tensor, nn

from jepa.hyperparameters import register_hyperparameter
from jepa.models.encoders import Encoder
from jepa.models.heads import Projector
from jepa.models.predictors import Predictor
from jepa.types import Batch, DataShapes, Losses, Rollout


class EncoderFactory(Protocol):
    """Makes an encoder; an option of conf/model/encoder without the sizes that the data decide."""

    def __call__(self, *, in_channels: int, image_size: int) -> Encoder: ...


class PredictorFactory(Protocol):
    """Makes a predictor; an option of conf/model/predictor without the sizes that data and encoder decide."""

    def __call__(self, *, embedding_size: int, action_size: int) -> Predictor: ...


class ProjectorFactory(Protocol):
    """Makes a projector; an option of conf/model/projector without the size that the encoder decides."""

    def __call__(self, *, embedding_size: int) -> Projector: ...


class Method(nn.Module, ABC):
    """Abstract: a method. ``forward`` (in training mode) returns losses; ``rollout`` (in evaluation mode) embeddings.

    Numbers in which packed jobs may differ are buffers (``register_hyperparameter``). Everything else on which the
    computation depends is in ``structure()``.
    """

    trainable: bool = True  # False: nothing is trained, and forward is never called
    gains_compiled: bool = True  # False: torch.compile was measured not to make the train step faster on a CPU

    def __init__(self, *, shapes: DataShapes) -> None:
        super().__init__()
        self.shapes = shapes
        self.hyperparameter_names: tuple[str, ...] = ()  # configuration keys, below "model."

    def register_hyperparameter(self, name: str, value: float, *, minimum: float = 0.0, positive: bool = False) -> bool:
        """Hold ``model.<name>`` as a buffer, see :func:`jepa.hyperparameters.register_hyperparameter`."""
        self.hyperparameter_names = (*self.hyperparameter_names, name)
        return register_hyperparameter(self, name, value, key=f"model.{name}", minimum=minimum, positive=positive)

    def structure(self) -> Hashable:
        """What jobs of one pack must agree in: classes, switches, and names and shapes of tensors, but not values."""
        parts: list[Hashable] = [self.shapes]
        for name, module in self.named_modules():
            switches = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str, tuple))}
            parts.append((name, type(module).__qualname__, tuple(sorted(switches.items(), key=lambda item: item[0]))))
        tensors = [*self.named_parameters(), *self.named_buffers()]
        return tuple(parts), tuple((name, tuple(tensor.shape)) for name, tensor in tensors)

    @property
    def smallest_batch(self) -> int:
        """The smallest batch size for which the loss is defined; 2 if it compares the sequences of a batch."""
        return 1

    def loss_weights(self) -> dict[str, str]:
        """The weight of each loss term in the total, as text such as "× 118.4"; unknown weights are left out."""
        return {}

    @abstractmethod
    def forward(self, batch: Batch, latent_noise: Tensor | None = None) -> Losses:
        """The training losses of a batch, each []; ``terms`` are unweighted.

        batch: [T, B, ...]. latent_noise: from ``draw_latent_noise``.
        """

    def encode_batch(self, batch: Batch) -> Tensor:
        """The embeddings that ``forward`` computes its losses from, [S, B, D]; see :meth:`contributions`."""
        raise NotImplementedError

    def contributions(self, encodings: Tensor, batch: Batch, latent_noise: Tensor | None) -> dict[str, Tensor]:
        """What each term adds to the total loss, by name, each []; it is differentiated with respect to ``encodings``.

        Args:
            encodings: from ``encode_batch``.
            batch, latent_noise: as for ``forward``.
        """
        raise NotImplementedError

    @property
    def has_contributions(self) -> bool:
        """Whether the method has ``encode_batch`` and ``contributions``, from which gradient norms are logged."""
        return type(self).contributions is not Method.contributions

    @property
    def has_after_step(self) -> bool:
        """Whether ``after_step`` does anything; a pack calls it for each job only then."""
        return type(self).after_step is not Method.after_step

    def after_step(self) -> None:
        """Update buffers in place after the optimizer's step, for example averaged weights.

        The weights are those after the step. Gradients are disabled. In a pack it is called once for each job.
        Checkpoints hold buffers as they hold weights, unless a buffer is registered with ``persistent=False``.
        """

    @abstractmethod
    def rollout(self, states: Tensor, actions: Tensor, latent_noise: Tensor | None = None) -> Rollout:
        """Embeddings for probes.

        Args:
            states: the first S frames [S, B, C, H, W]; S is at least ``context_frames``, and may be less than T.
            actions: [T-1, B, A].
            latent_noise: from ``draw_rollout_noise``.

        Returns:
            Encodings of the S frames [S, B, D], and predictions of frames 1 ... T-1 [T-1, B, D].
        """

    def seen(self, states: Tensor) -> Tensor:
        """What the encoder is shown of ``states`` [T, B, C, H, W]: [T, B, C', H, W]."""
        return states

    def trivial_loss(self, batch: Batch, copies: Tensor) -> Tensor:
        """The training loss [] if the encoder copied the overlay and the predictor repeated the copy.

        NaN where the loss is not defined by embeddings alone. The diagnostics compare a trained method with it.

        Args:
            batch: [T, B, ...].
            copies: [T, B, D], the embeddings of such an encoder.
        """
        del batch
        return copies.new_full((), torch.nan)

    @property
    def predicts_actions_effects(self) -> bool:
        """Whether :meth:`predict` is there and its predictions depend on the actions; planning needs this."""
        return False

    def predict(self, encodings: Tensor, actions: Tensor, latent_noise: Tensor | None = None) -> Tensor:
        """Predictions from encodings, as ``rollout`` makes them from frames.

        Args:
            encodings: of the first frames [``context_frames`` or more, B, D].
            actions: [N, B, A], normalised; any number of steps.
            latent_noise: from ``draw_rollout_noise``, for N steps or more.

        Returns:
            [N, B, D].
        """
        raise NotImplementedError(f"{type(self).__name__} predicts from frames only")

    @property
    def has_location_head(self) -> bool:
        """Whether the method has a map of its own from embeddings to locations, ``predict_locations(rollout)``."""
        return False

    @property
    def has_decoder(self) -> bool:
        """Whether the method has a network that makes images of embeddings, called by ``reconstructions``."""
        return False

    def reconstructions(self, states: Tensor, actions: Tensor, latent_noise: Tensor | None) -> dict[str, Tensor]:
        """Images decoded from embeddings, for people to look at; called in evaluation mode.

        Args:
            states: [T, B, C, H, W].
            actions: [T-1, B, A].
            latent_noise: what ``draw_latent_noise`` gave.

        Returns:
            By a name of what they are decoded from: [T, B, C, H, W]. Empty if the method has no decoder.
        """
        del states, actions, latent_noise
        return {}

    @property
    def context_frames(self) -> int | None:
        """Number of leading frames that the predictions of ``rollout`` depend on; None: unknown, so give all frames."""
        return None

    @property
    def first_judged(self) -> int:
        """Index of the first frame that probes judge. Before it the model has not seen enough to tell anything."""
        return 0

    def draw_latent_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor | None:
        """The standard normals for one call of ``forward``; None if it needs none."""
        return None

    def draw_rollout_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor | None:
        """The standard normals for one call of ``rollout``; None if it needs none."""
        return None
