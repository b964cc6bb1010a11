"""IDM, the inverse dynamics baseline: the action must be found in two successive embeddings."""

from __future__ import annotations

from torch import Tensor

from jepa.errors import check_choice
from jepa.models.heads import ActionPredictor
from jepa.objectives.base import EncoderFactory, JointEmbedding, PredictorFactory
from jepa.objectives.vicreg import ACTION_INPUTS, action_loss
from jepa.types import Batch, DataShapes, Losses


class InverseDynamics(JointEmbedding):
    """L_action alone (SPEC §5); the original's was VICReg with all other coefficients at 0.

    Args:
        shapes: of the data.
        encoder, predictor: factories of its networks.
        action_coeff: multiplies the loss.
        action_input: ``faithful``: c_0 = z_0, then c_t is the prediction of z_t, so that the predictor is trained;
            ``encodings``: c_t = z_t, as in the paper's text, which leaves the predictor untrained.
    """

    action_coeff: Tensor

    def __init__(
        self,
        *,
        shapes: DataShapes,
        encoder: EncoderFactory,
        predictor: PredictorFactory,
        action_coeff: float,
        action_input: str,
    ) -> None:
        super().__init__(shapes=shapes, encoder=encoder, predictor=predictor)
        self.register_hyperparameter("action_coeff", action_coeff, positive=True)
        self.action_input = check_choice("model.action_input", action_input, ACTION_INPUTS)
        self.action_predictor = ActionPredictor(
            embedding_size=self.encoder.embedding_size, action_size=shapes.action_size
        )

    def forward(self, batch: Batch, noise: Tensor | None = None) -> Losses:
        rollout, actions = self.training_rollout(batch)
        loss = action_loss(self.action_predictor, rollout, actions, self.action_input)
        return Losses(self.action_coeff * loss, {"action": loss})

    def loss_weights(self) -> dict[str, str]:
        return {"action": f"× {self.action_coeff.item():.4g}"}
