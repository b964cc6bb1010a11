"""The prediction term: the squared error between predicted and encoded embeddings."""

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
    """``prediction_loss`` of the predictions of z_1 ... z_{T-1}.

    The gradient also flows into the targets, unless they are those of an averaged encoder.

    Args:
        coeff: as for :class:`Term`.
        after_projector: compare projections (true) or embeddings (false, as published).
    """

    def __init__(self, *, coeff: float | None, after_projector: bool) -> None:
        super().__init__(coeff=coeff)
        self.after_projector = check_flag("after_projector", after_projector)
        self.smallest_batch = 2 if after_projector else 1  # batch norm in the projector needs 2

    def forward(self, embeddings: Embeddings) -> Tensor:
        if not self.after_projector:
            return prediction_loss(embeddings.predictions, embeddings.targets[1:])
        targets = embeddings.target_projections[1:]
        return prediction_loss(embeddings.project_predictions(), targets)
