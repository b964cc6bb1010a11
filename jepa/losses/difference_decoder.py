"""The difference decoder: the error of actions that are inferred from the difference of two successive embeddings."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from jepa.losses.base import Embeddings, Sizes, Term, full_precision
from jepa.models.heads import ActionPredictor, check_head


class DifferenceDecoder(Term):
    """Mean squared error of the action that a network infers from z_{t+1} - z_t alone.

    A part of the embedding that is constant over a sequence cancels in the difference.
    Source: latent-difference action decoder, LDAD (arXiv 2606.31232).

    Args:
        coeff: as for :class:`Term`.
        head, hidden: the network, see :class:`jepa.models.heads.ActionPredictor`.
    """

    infers_actions = True

    def __init__(self, *, coeff: float | None, head: str, hidden: str | int) -> None:
        super().__init__(coeff=coeff)
        self.hidden = check_head(head, hidden)

    def build(self, sizes: Sizes) -> None:
        self.action_predictor = ActionPredictor(
            input_size=sizes.embedding_size, action_size=sizes.shapes.action_size, hidden=self.hidden
        )

    def forward(self, embeddings: Embeddings) -> Tensor:
        z = embeddings.encodings
        return F.mse_loss(full_precision(self.action_predictor(z[1:] - z[:-1])), embeddings.batch.actions)
