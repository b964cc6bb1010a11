"""What every method is: networks, a training loss, and the embeddings that probes judge."""

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
    """What conf/model/encoder gives: an encoder but for what the data decide."""

    def __call__(self, *, in_channels: int, image_size: int) -> Encoder: ...


class PredictorFactory(Protocol):
    """What conf/model/predictor gives: a predictor but for what data and encoder decide."""

    def __call__(self, *, embedding_size: int, action_size: int) -> Predictor: ...


class ProjectorFactory(Protocol):
    """What conf/model/projector gives: a projector but for what the encoder decides."""

    def __call__(self, *, embedding_size: int) -> Projector: ...


class Method(nn.Module, ABC):
    """Abstract: a method. Called in training mode it gives a loss; ``rollout`` in evaluation mode gives embeddings.

    Numbers that may differ between packed jobs are buffers (``register_hyperparameter``); all else that the computation
    depends on is in ``structure()``.
    """

    trainable: bool = True  # False: there is nothing to train, and forward is never called
    gains_compiled: bool = True  # False: its step was measured to be no faster on a CPU when torch.compile has made it

    def __init__(self, *, shapes: DataShapes) -> None:
        super().__init__()
        self.shapes = shapes
        self.hyperparameter_names: tuple[str, ...] = ()  # below "model.", as the configuration spells them

    def register_hyperparameter(self, name: str, value: float, *, minimum: float = 0.0, positive: bool = False) -> bool:
        """Hold ``model.<name>`` as a buffer, see :func:`jepa.hyperparameters.register_hyperparameter`."""
        self.hyperparameter_names = (*self.hyperparameter_names, name)
        return register_hyperparameter(self, name, value, key=f"model.{name}", minimum=minimum, positive=positive)

    def structure(self) -> Hashable:
        """What jobs of one pack must have in common: classes, switches, names and sizes of tensors; not values."""
        parts: list[Hashable] = [self.shapes]
        for name, module in self.named_modules():
            switches = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str, tuple))}
            parts.append((name, type(module).__qualname__, tuple(sorted(switches.items(), key=lambda item: item[0]))))
        tensors = [*self.named_parameters(), *self.named_buffers()]
        return tuple(parts), tuple((name, tuple(tensor.shape)) for name, tensor in tensors)

    @property
    def smallest_batch(self) -> int:
        """The least number of sequences that the loss is defined for; 2 where it compares those of a batch."""
        return 1

    def loss_weights(self) -> dict[str, str]:
        """How each of the losses' terms enters the total, in words such as "× 118.4"; what is not known is left out."""
        return {}

    @abstractmethod
    def forward(self, batch: Batch, latent_noise: Tensor | None = None) -> Losses:
        """The training loss of a batch; its ``terms`` are unweighted.

        latent_noise: what ``draw_latent_noise`` gave.
        """

    def after_step(self) -> None:
        """Update state that is not trained, after the optimizer's step: buffers alone, in place.

        The weights are those after the step. Called without gradients; under packing once for each job. Buffers are
        saved in checkpoints like weights, unless they are registered with ``persistent=False``.
        """

    @abstractmethod
    def rollout(self, states: Tensor, actions: Tensor, latent_noise: Tensor | None = None) -> Rollout:
        """Embeddings for probes.

        Args:
            states: [S, B, C, H, W]; S may be less than T: the frames that predictions start from are enough.
            actions: [T-1, B, A].
            latent_noise: what ``draw_rollout_noise`` gave.

        Returns:
            encodings of the frames given [S, B, D] and predictions of frames 1 ... T-1 [T-1, B, D].
        """

    @property
    def has_location_head(self) -> bool:
        """Whether the method has a map of its own from embeddings to locations, ``predict_locations(rollout)``."""
        return False

    @property
    def context_frames(self) -> int | None:
        """How many leading frames the predictions of ``rollout`` depend on; None: nothing is known, show it all."""
        return None

    def draw_latent_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor | None:
        """Standard normals that one training loss needs; None where it needs none."""
        return None

    def draw_rollout_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor | None:
        """Standard normals that one rollout needs; None where it needs none."""
        return None
