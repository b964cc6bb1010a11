"""NT-Xent, the contrastive loss: a prediction is compared with all embeddings of its time step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_flag
from jepa.hyperparameters import register_hyperparameter
from jepa.losses.base import Embeddings, Term, full_precision


def nt_xent_loss(predictions: Tensor, targets: Tensor, temperature: Tensor) -> Tensor:
    """Normalised-temperature cross-entropy among the 2B vectors of a time step; mean over vectors and time steps.

    A vector's positive is the other vector of its sequence; the 2B - 2 others are negatives. The similarity is the dot
    product divided by the temperature; for unit vectors the dot product is the cosine.

    Args:
        predictions: [T-1, B, F].
        targets: [T-1, B, F].
        temperature: [], positive.

    Returns:
        [].

    Source: Chen et al. 2020 (arXiv 2002.05709), eq. 1.
    """
    features = torch.cat([predictions, targets], dim=-2)
    similarity = (features @ features.mT) / temperature  # [T-1, 2B, 2B]
    positives = similarity.diagonal(offset=predictions.shape[-2], dim1=-2, dim2=-1)  # [T-1, B], alike for both vectors
    itself = torch.eye(similarity.shape[-1], dtype=torch.bool, device=features.device)
    others = similarity.masked_fill(itself, -torch.inf).logsumexp(dim=-1)
    return (others - torch.cat([positives, positives], dim=-1)).mean()


class NTXent(Term):
    """``nt_xent_loss`` between the projections of predictions and of embeddings.

    Args:
        coeff: as for :class:`Term`.
        temperature: divides the similarities.
        normalize_embeddings: true: scale vectors to norm 1 first; false: use them unscaled.
    """

    hyperparameter_names = ("coeff", "temperature")
    smallest_batch = 2

    temperature: Tensor  # []

    def __init__(self, *, coeff: float | None, temperature: float, normalize_embeddings: bool) -> None:
        super().__init__(coeff=coeff)
        register_hyperparameter(self, "temperature", temperature, key="temperature", positive=True)
        self.normalize_embeddings = check_flag("normalize_embeddings", normalize_embeddings)

    def forward(self, embeddings: Embeddings) -> Tensor:
        predicted = full_precision(embeddings.project_predictions())
        targets = full_precision(embeddings.target_projections[1:])
        if self.normalize_embeddings:
            predicted, targets = F.normalize(predicted, dim=-1), F.normalize(targets, dim=-1)
        with torch.autocast(predicted.device.type, enabled=False):
            return nt_xent_loss(predicted, targets, self.temperature)
