"""The action hinge: penalises predictions that hardly depend on the actions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_number
from jepa.hyperparameters import register_hyperparameter
from jepa.losses.base import Embeddings, Term, full_precision


def action_hinge_loss(predictions: Tensor, idle: Tensor, margin: Tensor) -> Tensor:
    """Mean over time and batch of relu(cos(prediction, idle) - (1 - margin)).

    Args:
        predictions: predictions under the true actions [T-1, B, D].
        idle: predictions of the same frames without any action [T-1, B, D].
        margin: [], 0 to 2; the cosine that is not penalised is at most 1 - margin.

    Returns:
        [].

    Source: arXiv 2607.26712.
    """
    return F.relu(F.cosine_similarity(predictions, idle, dim=-1) - (1 - margin)).mean()


class ActionHinge(Term):
    """``action_hinge_loss``. The predictor runs a second time, with actions of length 0.

    Args:
        coeff: as for :class:`Term`.
        margin: see :func:`action_hinge_loss`.
    """

    hyperparameter_names = ("coeff", "margin")
    sees_all_frames = False  # the encodings of later frames are not used

    margin: Tensor  # []

    def __init__(self, *, coeff: float | None, margin: float) -> None:
        super().__init__(coeff=coeff)
        check_number("margin", margin, maximum=2.0)
        register_hyperparameter(self, "margin", margin, key="margin", positive=True)

    def forward(self, embeddings: Embeddings) -> Tensor:
        idle = embeddings.predict(torch.zeros_like(embeddings.batch.actions))
        with torch.autocast(idle.device.type, enabled=False):
            return action_hinge_loss(full_precision(embeddings.predictions), full_precision(idle), self.margin)
