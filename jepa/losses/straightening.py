"""The straightening term: penalises a trajectory of embeddings that turns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.losses.base import Embeddings, Term, full_precision

SHORTEST = 1e-6  # steps that are no longer than this in any feature have no direction


def straightening_loss(encodings: Tensor) -> Tensor:
    """Mean over t and sequences of 1 - cos(z_{t+1} - z_t, z_{t+2} - z_{t+1}), between 0 and 2.

    encodings: [T, B, D], T at least 3; returns []. A part of z that is constant in time does not matter. A step of
    length 0, of a dot that rests, has no direction: its cosines are 0, without a gradient, which would be infinite.
    Source: arXiv 2603.12231.
    """
    steps = encodings[1:] - encodings[:-1]
    moves = steps.abs().amax(dim=-1, keepdim=True) > SHORTEST
    directions = F.normalize(steps, dim=-1) * moves
    return 1 - (directions[:-1] * directions[1:]).sum(dim=-1).mean()


class Straightening(Term):
    """``straightening_loss`` of the embeddings z_t. coeff: as for :class:`Term`."""

    fewest_frames = 3

    def forward(self, embeddings: Embeddings) -> Tensor:
        with torch.autocast(embeddings.encodings.device.type, enabled=False):
            return straightening_loss(full_precision(embeddings.encodings))
