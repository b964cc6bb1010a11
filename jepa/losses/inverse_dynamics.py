"""The inverse-dynamics term: the error of actions that are inferred from two successive embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_choice
from jepa.losses.base import Embeddings, Sizes, Term, full_precision
from jepa.models.heads import ActionPredictor, check_head

ACTION_INPUTS = ("faithful", "encodings")


def pairs(encodings: Tensor, predictions: Tensor, action_input: str) -> tuple[Tensor, Tensor]:
    """The two embeddings that each action is inferred from, [T-1, B, D] each.

    Args:
        encodings: [T, B, D].
        predictions: predictions of z_1 ... z_{T-1} [T-1, B, D].
        action_input: ``faithful`` (the original code): c_0 = z_0, and c_t is the prediction of z_t, so that the term
            trains the predictor. ``encodings`` (the paper's text): c_t = z_t.
    """
    before = torch.cat([encodings[:1], predictions[:-1]]) if action_input == "faithful" else encodings[:-1]
    return before, encodings[1:]


class InverseDynamics(Term):
    """Mean squared error of the action that a network infers from [c_t, z_{t+1}].

    Source: Sobal et al. 2022 (arXiv 2211.10831), appendix; ``action_input`` states the deviation. The MLP is that of
    PLDM, Sobal et al. 2025 (arXiv 2502.14819).

    Args:
        coeff: as for :class:`Term`.
        action_input: see :func:`pairs`.
        head, hidden: the network, see :class:`jepa.models.heads.ActionPredictor`.
    """

    infers_actions = True

    # The defaults of head and hidden stand here, too: in the presets of the study they would change every hash.
    def __init__(
        self, *, coeff: float | None, action_input: str, head: str = "linear", hidden: str | int = "512"
    ) -> None:
        super().__init__(coeff=coeff)
        self.action_input = check_choice("action_input", action_input, ACTION_INPUTS)
        self.hidden = check_head(head, hidden)

    def build(self, sizes: Sizes) -> None:
        self.action_predictor = ActionPredictor(
            input_size=2 * sizes.embedding_size, action_size=sizes.shapes.action_size, hidden=self.hidden
        )

    def forward(self, embeddings: Embeddings) -> Tensor:
        before, after = pairs(embeddings.encodings, embeddings.predictions, self.action_input)
        return F.mse_loss(full_precision(self.action_predictor(before, after)), embeddings.batch.actions)
