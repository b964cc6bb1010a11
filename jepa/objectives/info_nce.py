"""SimCLR: a prediction is to be told from all other embeddings of its time step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_flag
from jepa.objectives.base import EncoderFactory, JointEmbedding, PredictorFactory, ProjectorFactory, full_precision
from jepa.types import Batch, DataShapes, Losses


def nt_xent_loss(predictions: Tensor, targets: Tensor, temperature: Tensor) -> Tensor:
    """Normalised-temperature cross-entropy among the 2B vectors of a time step, the mean over vectors and time steps.

    A vector's positive is the other one of its sequence; the 2B - 2 others are negatives; similarity is the dot product
    over the temperature, so that cosines come from unit vectors.

    Args:
        predictions: [T-1, B, F].
        targets: [T-1, B, F].
        temperature: [], positive.

    Source: Chen et al. 2020 (arXiv 2002.05709), eq. 1.
    """
    features = torch.cat([predictions, targets], dim=-2)
    similarity = (features @ features.mT) / temperature  # [T-1, 2B, 2B]
    positives = similarity.diagonal(offset=predictions.shape[-2], dim1=-2, dim2=-1)  # [T-1, B], alike for both vectors
    itself = torch.eye(similarity.shape[-1], dtype=torch.bool, device=features.device)
    others = similarity.masked_fill(itself, -torch.inf).logsumexp(dim=-1)
    return (others - torch.cat([positives, positives], dim=-1)).mean()


class SimCLR(JointEmbedding):
    """SimCLR on sequences (SPEC §5): NT-Xent between P(prediction of z_t) and P(z_t), the mean over t >= 1.

    Args:
        shapes: of the data.
        encoder, predictor, projector: factories of its networks.
        temperature: divides the similarities.
        normalize_embeddings: true: similarity of unit vectors; false: dot products.
    """

    temperature: Tensor

    def __init__(
        self,
        *,
        shapes: DataShapes,
        encoder: EncoderFactory,
        predictor: PredictorFactory,
        projector: ProjectorFactory,
        temperature: float,
        normalize_embeddings: bool,
    ) -> None:
        super().__init__(shapes=shapes, encoder=encoder, predictor=predictor)
        self.projector = projector(embedding_size=self.encoder.embedding_size)
        self.register_hyperparameter("temperature", temperature, positive=True)
        self.normalize_embeddings = check_flag("model.normalize_embeddings", normalize_embeddings)

    def forward(self, batch: Batch, noise: Tensor | None = None) -> Losses:
        rollout, _ = self.training_rollout(batch)
        # as in the original, the batch statistics of P are those of all z together, and of one step's predictions
        predicted = full_precision(self.projector.steps(rollout.predictions))
        targets = full_precision(self.projector(rollout.encodings)[1:])
        if self.normalize_embeddings:
            predicted, targets = F.normalize(predicted, dim=-1), F.normalize(targets, dim=-1)
        with torch.autocast(batch.states.device.type, enabled=False):
            loss = nt_xent_loss(predicted, targets, self.temperature)
        return Losses(loss, {"nt_xent": loss})

    def loss_weights(self) -> dict[str, str]:
        return {"nt_xent": "× 1"}
