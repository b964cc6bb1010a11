"""The location term: the error of a head that reads the dots' locations from embeddings, trained with the encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa.losses.base import Embeddings, Sizes, Term, full_precision


def location_loss(predicted: Tensor, locations: Tensor) -> Tensor:
    """Squared differences summed over (x, y), averaged over time, sequences and dots. [T, B, K, 2] each; returns []."""
    return (predicted - locations).square().sum(dim=-1).mean()


class Location(Term):
    """``location_loss`` of a linear head on z_0 and on the predictions of later frames. Like the probe, it has no bias.

    Args:
        coeff: as for :class:`Term`.
    """

    sees_all_frames = False  # the encodings of later frames are not used

    def build(self, sizes: Sizes) -> None:
        self._num_dots = sizes.shapes.num_dots
        self.head = nn.Linear(sizes.embedding_size, 2 * self._num_dots, bias=False)

    def forward(self, embeddings: Embeddings) -> Tensor:
        shown = torch.cat([embeddings.encodings[:1], embeddings.predictions])
        return location_loss(self.predict_locations(shown), embeddings.batch.locations)

    def predict_locations(self, embeddings: Tensor) -> Tensor:
        """The head's answers, normalised: [..., D] to [..., K, 2]."""
        return full_precision(self.head(embeddings)).view(*embeddings.shape[:-1], self._num_dots, 2)
