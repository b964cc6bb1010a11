"""What every method is: networks, a training loss, and the embeddings that probes judge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Protocol

import torch
from torch import Tensor, nn

from jepa.errors import ConfigError, check_number
from jepa.models.encoders import Encoder
from jepa.models.heads import Projector
from jepa.models.predictors import Predictor
from jepa.types import Batch, DataShapes, Losses, Rollout

# What a coefficient may be: products of a loss with these are numbers in float32, and so are their gradients.
SMALLEST, LARGEST = 1e-6, 1e6


class EncoderFactory(Protocol):
    """What conf/model/encoder gives: an encoder but for what the data decide."""

    def __call__(self, *, in_channels: int, image_size: int) -> Encoder: ...


class PredictorFactory(Protocol):
    """What conf/model/predictor gives: a predictor but for what data and encoder decide."""

    def __call__(self, *, embedding_size: int, action_size: int) -> Predictor: ...


class ProjectorFactory(Protocol):
    """What conf/model/projector gives: a projector but for what the encoder decides."""

    def __call__(self, *, embedding_size: int) -> Projector: ...


class DecoderFactory(Protocol):
    """What conf/model/decoder gives: a decoder, [T, B, input_size] -> [T, B, C, H, W], but for these sizes."""

    def __call__(self, *, input_size: int, channels: int, image_size: int) -> nn.Module: ...


class Objective(nn.Module, ABC):
    """Abstract: a method. Called in training mode it gives a loss; ``rollout`` in evaluation mode gives embeddings.

    Numbers that may differ between packed jobs are buffers (``register_hyperparameter``); all else that the computation
    depends on is in ``structure()``.
    """

    trainable: bool = True  # False: there is nothing to train, and forward is never called
    gains_compiled: bool = True  # False: its step was measured to be no faster on a CPU when torch.compile has made it

    def __init__(self, *, shapes: DataShapes) -> None:
        super().__init__()
        self.shapes = shapes
        self.hyperparameter_names: tuple[str, ...] = ()

    def register_hyperparameter(self, name: str, value: float, *, minimum: float = 0.0, positive: bool = False) -> bool:
        """Hold ``value`` as the 0-d buffer ``name``, which is no part of a checkpoint; returns whether it is non-zero.

        Raises:
            ConfigError: names ``model.<name>``; outside [minimum, LARGEST]; less than SMALLEST though ``positive``.
        """
        check_number(f"model.{name}", value, minimum=max(minimum, SMALLEST if positive else minimum), maximum=LARGEST)
        self.register_buffer(name, torch.tensor(float(value)), persistent=False)
        self.hyperparameter_names = (*self.hyperparameter_names, name)
        return value != 0

    def structure(self) -> Hashable:
        """What jobs of one pack must have in common: classes, switches, names and sizes of tensors; not values."""
        parts: list[Hashable] = [self.shapes]
        for name, module in self.named_modules():
            switches = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str, tuple))}
            parts.append((name, type(module).__qualname__, tuple(sorted(switches.items(), key=lambda item: item[0]))))
        tensors = [*self.named_parameters(), *self.named_buffers()]
        return tuple(parts), tuple((name, tuple(tensor.shape)) for name, tensor in tensors)

    def loss_weights(self) -> dict[str, str]:
        """How each of the losses' terms enters the total, in words such as "× 118.4"; what is not known is left out."""
        return {}

    @abstractmethod
    def forward(self, batch: Batch, noise: Tensor | None = None) -> Losses:
        """The training loss of a batch; ``noise`` is what ``draw_noise`` gave. ``terms`` are unweighted."""

    @abstractmethod
    def rollout(self, states: Tensor, actions: Tensor, noise: Tensor | None = None) -> Rollout:
        """Embeddings for probes.

        Args:
            states: [S, B, C, H, W]; S may be less than T: the frames that predictions start from are enough.
            actions: [T-1, B, A].
            noise: what ``draw_rollout_noise`` gave.

        Returns:
            encodings of the frames given [S, B, D] and predictions of frames 1 ... T-1 [T-1, B, D].
        """

    @property
    def context_frames(self) -> int | None:
        """How many leading frames the predictions of ``rollout`` depend on; None: nothing is known, show it all."""
        return None

    def draw_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor | None:
        """Standard normals that one training loss needs; None where it needs none."""
        return None

    def draw_rollout_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor | None:
        """Standard normals that one rollout needs; None where it needs none."""
        return None


class JointEmbedding(Objective):
    """Abstract: an encoder, and a predictor in its space."""

    def __init__(self, *, shapes: DataShapes, encoder: EncoderFactory, predictor: PredictorFactory) -> None:
        super().__init__(shapes=shapes)
        self.encoder = encoder(in_channels=shapes.channels, image_size=shapes.image_size)
        self.predictor = predictor(embedding_size=self.encoder.embedding_size, action_size=shapes.action_size)
        if self.predictor.burn_in >= shapes.num_steps:
            raise ConfigError(
                f"model.predictor.burn_in={self.predictor.burn_in}: must be below dataset.num_steps={shapes.num_steps}"
            )

    @property
    def first_frame(self) -> int:
        """Index of the frame from which predictions run; losses regard the frames from it on."""
        return self.predictor.burn_in - 1

    @property
    def context_frames(self) -> int:
        return self.predictor.burn_in

    def encode(self, states: Tensor) -> Tensor:
        """states: [T, B, C, H, W]; returns [T, B, D], all frames in one call."""
        return self.encoder(states.flatten(0, 1)).reshape(*states.shape[:2], -1)  # type: ignore[no-any-return]

    def rollout(self, states: Tensor, actions: Tensor, noise: Tensor | None = None) -> Rollout:
        encodings = self.encode(states)
        return Rollout(encodings, self.predictor(encodings, actions))

    def training_rollout(self, batch: Batch) -> tuple[Rollout, Tensor]:
        """Embeddings and actions from ``first_frame`` on, which is frame 0 of what is returned."""
        first = self.first_frame
        encodings, predictions = self.rollout(batch.states, batch.actions)
        return Rollout(encodings[first:], predictions[first:]), batch.actions[first:]


def full_precision(tensor: Tensor) -> Tensor:
    """``tensor`` for use in a loss: half-precision types become single precision, others stay."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
