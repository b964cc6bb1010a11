"""Baselines without training: what an encoder with random weights, or a predictor that does nothing, is worth."""

from __future__ import annotations

from torch import Tensor

from jepa.objectives.base import JointEmbedding
from jepa.types import Batch, Losses


class Untrained(JointEmbedding):
    """Networks as they were initialised; no training takes place, and the probe judges them so.

    Args:
        shapes: of the data.
        encoder, predictor: factories of its networks.
    """

    trainable = False

    def forward(self, batch: Batch, noise: Tensor | None = None) -> Losses:
        raise RuntimeError("a baseline without training has no loss")
