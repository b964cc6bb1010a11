"""Prediction: a predicted embedding is to be near the embedding of the frame."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_flag
from jepa.losses.base import Embeddings, Term, full_precision


def prediction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over time, batch and features. predicted, target: [T-1, B, F] each; returns [].

    Source: Sobal et al. 2022 (arXiv 2211.10831), section 2.
    """
    return F.mse_loss(full_precision(predicted), full_precision(target))


class Prediction(Term):
    """``prediction_loss`` of the predictions of z_1 ... z_{T-1}; the targets carry a gradient as well.

    Args:
        coeff: weight in the method's loss; None: it counts as it is.
        after_projector: compare projections (true) or embeddings (false, as published).
    """

    def __init__(self, *, coeff: float | None, after_projector: bool) -> None:
        super().__init__(coeff=coeff)
        self.after_projector = check_flag("after_projector", after_projector)
        self.smallest_batch = 2 if after_projector else 1  # the projector's batch norm

    def forward(self, embeddings: Embeddings) -> Tensor:
        if not self.after_projector:
            return prediction_loss(embeddings.predictions, embeddings.encodings[1:])
        targets = embeddings.projections[1:]
        return prediction_loss(embeddings.project_predictions(), targets)
