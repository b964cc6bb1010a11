"""The records that flow from data to result, and the one legend of shapes.

``T`` time · ``B`` batch · ``K`` dots · ``C H W`` image · ``D`` embedding · ``A`` action · ``J`` packed jobs.
Time comes before batch; ``J``, where there is one, before everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A batch of sequences, normalised as docs/science.md says (raw where ``dataset.normalize`` is false)."""

    states: Tensor  # [T, B, C, H, W], noisy frames
    actions: Tensor  # [T-1, B, A], of the action dot
    locations: Tensor  # [T, B, K, 2], (x, y) of every dot
    targets: dict[str, Tensor] = {}  # what else a probe may ask for, by name: [T, B, …] each

    def from_frame(self, first: int) -> Batch:
        """The batch without its frames, and what belongs to them, before frame ``first``."""
        targets = {name: target[first:] for name, target in self.targets.items()}
        return Batch(self.states[first:], self.actions[first:], self.locations[first:], targets)


class Rollout(NamedTuple):
    """What a frozen model makes of a batch: the embeddings that probes judge."""

    encodings: Tensor  # [T, B, D], z_t of every frame
    predictions: Tensor  # [T-1, B, D], the prediction of z_1 ... z_{T-1}


class Losses(NamedTuple):
    """A training loss and the unweighted terms it is the sum of."""

    total: Tensor  # []
    terms: dict[str, Tensor]  # each []


@dataclass(frozen=True)
class DataShapes:
    """What a model has to know of the data it is given."""

    num_steps: int  # T
    channels: int  # C
    image_size: int  # H = W
    num_dots: int  # K
    action_size: int  # A
