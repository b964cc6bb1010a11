"""The embeddings that probes are fitted and judged on, batch by batch; with or without the axis ``J``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from jepa.types import Batch, Rollout

if TYPE_CHECKING:
    from jepa.probes.targets.base import ProbeTarget


class BatchStream(Protocol):
    """A source of batches. In a pack, every tensor has a leading ``J``."""

    def next(self) -> Batch:
        """The next batch."""


class Features(NamedTuple):
    """The inputs of probes for ``b`` sequences of ``J`` jobs (``J`` = 1 for a job alone).

    If probes judge frames from frame f on alone, f takes the place of 0, and T and E count frames from f on.
    """

    trajectory: Tensor  # [J, T, b, D]: z_0, then the predictions of z_1 ... z_{T-1}
    encodings: Tensor  # [J, E, b, D]: z_0 ... z_{E-1}
    values: dict[str, Tensor]  # by target: the true values [J, T, b, N]

    def from_frame(self, first: int) -> Features:
        """The features of frames from ``first`` on."""
        values = {name: value[:, first:] for name, value in self.values.items()}
        return Features(self.trajectory[:, first:], self.encodings[:, first:], values)


class Judged(NamedTuple):
    """One judged batch: the batch, the model's rollout, and the features made of both."""

    batch: Batch
    rollout: Rollout
    features: Features


def iterate(
    rollout: Callable[[Batch], Rollout],
    stream: BatchStream,
    targets: Mapping[str, ProbeTarget],
    num_sequences: int,
    num_frames: int | None,
    *,
    whole_sequences: int = 0,
    first_judged: int = 0,
) -> Iterator[Judged]:
    """Draw and embed exactly ``num_sequences`` sequences, each once.

    Args:
        rollout: the frozen model. It is called on whole batches; the features of the last batch are cut afterwards.
        stream: the source of batches.
        targets: the targets by name.
        num_sequences: number of sequences.
        num_frames: number of leading frames that the model is shown; None: all.
        whole_sequences: the model is shown all frames in every batch that holds one of this many first sequences.
        first_judged: the features are those of frames from this one on.
    """
    left = num_sequences
    while left > 0:
        batch = stream.next()
        whole = num_sequences - left < whole_sequences
        embedded = rollout(batch if num_frames is None or whole else _leading_frames(batch, num_frames))
        features = _features(embedded, {name: target.values(batch) for name, target in targets.items()}, left)
        features = features.from_frame(first_judged) if first_judged else features
        left -= features.trajectory.shape[2]
        yield Judged(batch, embedded, features)


def with_jobs(tensor: Tensor, ndim: int, num_jobs: int = 1) -> Tensor:
    """``tensor`` if it has ``ndim`` axes; else ``num_jobs`` equal entries along a new leading axis ``J``."""
    return tensor if tensor.ndim == ndim else tensor.unsqueeze(0).expand(num_jobs, *tensor.shape)


def to_float64(tensor: Tensor) -> Tensor:
    """``tensor`` in float64 on its device; on the CPU if the device has no float64 (Apple's mps)."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


def _leading_frames(batch: Batch, num_frames: int) -> Batch:
    time = batch.states.ndim - 5  # index of the axis T: 0, or 1 after J
    return batch._replace(states=batch.states.narrow(time, 0, min(num_frames, batch.states.shape[time])))


def _features(rollout: Rollout, values: Mapping[str, Tensor], limit: int) -> Features:
    encodings, predictions = with_jobs(rollout.encodings, 4), with_jobs(rollout.predictions, 4)
    trajectory = torch.cat([encodings[:, :1], predictions], dim=1)
    num_jobs = encodings.shape[0]
    cut = {name: with_jobs(value, 4, num_jobs)[:, :, :limit] for name, value in values.items()}
    return Features(trajectory[:, :, :limit], encodings[:, :, :limit], cut)
