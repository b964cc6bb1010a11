"""Supervised: encoder, predictor and a linear head trained end to end on the locations, the bound for all others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa.objectives.base import EncoderFactory, JointEmbedding, PredictorFactory, full_precision
from jepa.types import Batch, DataShapes, Losses, Rollout


def location_loss(predicted: Tensor, locations: Tensor) -> Tensor:
    """Squared differences summed over (x, y), averaged over time, sequences and dots. [T, B, K, 2] each. SPEC §7."""
    return (predicted - locations).square().sum(dim=-1).mean()


class Supervised(JointEmbedding):
    """A linear head, without bias like the probe, on z_0 and on the predictions of z_1 ... z_{T-1} (SPEC §5).

    Args:
        shapes: of the data.
        encoder, predictor: factories of its networks.
    """

    def __init__(self, *, shapes: DataShapes, encoder: EncoderFactory, predictor: PredictorFactory) -> None:
        super().__init__(shapes=shapes, encoder=encoder, predictor=predictor)
        self.head = nn.Linear(self.encoder.embedding_size, 2 * shapes.num_dots, bias=False)

    def forward(self, batch: Batch, noise: Tensor | None = None) -> Losses:
        # later frames are neither predicted from nor compared with: only the first ones are encoded, as in the original
        shown = self.rollout(batch.states[: self.predictor.burn_in], batch.actions)
        first = self.first_frame
        loss = location_loss(self.predict_locations(shown)[first:], batch.locations[first:])
        return Losses(loss, {"location": loss})

    def loss_weights(self) -> dict[str, str]:
        return {"location": "× 1"}

    def predict_locations(self, rollout: Rollout) -> Tensor:
        """The head's answers for all frames: from the encodings of the frames shown, then from predictions.

        rollout: encodings [burn_in or more, B, D], predictions [T-1, B, D]; returns normalised locations [T, B, K, 2].
        """
        first = self.first_frame
        embeddings = torch.cat([rollout.encodings[: first + 1], rollout.predictions[first:]])
        return full_precision(self.head(embeddings)).view(*embeddings.shape[:-1], self.shapes.num_dots, 2)
