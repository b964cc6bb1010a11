"""Records that pass between data, models, training and probes, and the letters for their shapes.

``T`` time · ``B`` batch · ``K`` dots · ``C H W`` image · ``D`` embedding · ``A`` action · ``J`` packed jobs.
Time comes before batch. With packed jobs, ``J`` is the first axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A batch of sequences, normalised as in docs/science.md; not normalised if ``dataset.normalize`` is false."""

    states: Tensor  # [T, B, C, H, W], noisy frames
    actions: Tensor  # [T-1, B, A], actions of the action dot
    locations: Tensor  # [T, B, K, 2], (x, y) of every dot
    targets: dict[str, Tensor] = {}  # further targets of probes, by name; each [T, B, …]

    def from_frame(self, first: int) -> Batch:
        """The batch from frame ``first`` on: frames, actions, locations and targets."""
        targets = {name: target[first:] for name, target in self.targets.items()}
        return Batch(self.states[first:], self.actions[first:], self.locations[first:], targets)


class Counterfactuals(NamedTuple):
    """A batch, and the frames that the same sequences would have with other distractors or with other dots."""

    batch: Batch
    overlay: Tensor  # [T, B, C, H, W], what the distractors add to the frames, normalised like them
    other_overlay: Tensor  # [T, B, C, H, W], frames of the same dots under the distractors of other sequences
    other_dots: Tensor  # [T, B, C, H, W], frames of the dots of other sequences under the same distractors


class Rollout(NamedTuple):
    """The embeddings that a frozen model computes from a batch. Probes judge these embeddings."""

    encodings: Tensor  # [T, B, D], z_t of every frame
    predictions: Tensor  # [T-1, B, D], predictions of z_1 ... z_{T-1}


class Losses(NamedTuple):
    """A training loss and its terms before weighting."""

    total: Tensor  # []
    terms: dict[str, Tensor]  # each []


@dataclass(frozen=True)
class DataShapes:
    """The sizes of the data that a model needs to build its networks."""

    num_steps: int  # T
    channels: int  # C
    image_size: int  # H = W
    num_dots: int  # K
    action_size: int  # A
