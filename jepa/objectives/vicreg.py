"""VICReg: predictions near their targets, features that vary within a batch and do not covary.

Source: Bardes et al. 2022 (arXiv 2105.04906), eq. 1-6; Sobal et al. 2022 (arXiv 2211.10831) for time and its switches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import ConfigError, check_choice, check_flag
from jepa.models.heads import ActionPredictor
from jepa.objectives.base import (
    DecoderFactory,
    EncoderFactory,
    JointEmbedding,
    PredictorFactory,
    ProjectorFactory,
    full_precision,
)
from jepa.types import Batch, DataShapes, Losses, Rollout

ACTION_INPUTS = ("faithful", "encodings")


def variance_loss(centered: Tensor) -> Tensor:
    """Mean over features and time steps of relu(1 - sqrt(Var + 1e-4)), Var unbiased over the batch.

    centered: [T, B, D], each feature's mean over the batch removed. Source: arXiv 2105.04906, eq. 1-2.
    """
    variance = centered.square().sum(dim=-2) / (centered.shape[-2] - 1)
    return F.relu(1 - (variance + 1e-4).sqrt()).mean()


def covariance_loss(centered: Tensor) -> Tensor:
    """Mean over time steps of the sum of squared off-diagonal covariances over D; divisor B - 1.

    centered: [T, B, D], each feature's mean over the batch removed. With fewer samples than features, X X^T [B, B] has
    the sum of squares of X^T X [D, D], less the latter's diagonal. Source: arXiv 2105.04906, eq. 3-4.
    """
    batch_size, num_features = centered.shape[-2:]
    scaled = centered / (batch_size - 1) ** 0.5
    if batch_size < num_features:
        squares = (scaled @ scaled.mT).square().sum(dim=(-2, -1)) - scaled.square().sum(dim=-2).square().sum(dim=-1)
    else:
        diagonal = torch.eye(num_features, dtype=torch.bool, device=centered.device)
        squares = (scaled.mT @ scaled).masked_fill(diagonal, 0).square().sum(dim=(-2, -1))
    loss: Tensor = squares.mean() / num_features
    return loss


def action_loss(predictor: ActionPredictor, rollout: Rollout, actions: Tensor, action_input: str) -> Tensor:
    """Inverse dynamics: mean squared error of the action predicted from [c_t, z_{t+1}].

    Args:
        predictor: the Linear.
        rollout: encodings [T, B, D], predictions [T-1, B, D].
        actions: [T-1, B, A], normalised.
        action_input: ``faithful``: c_0 = z_0, then c_t is the prediction of z_t; ``encodings`` (the paper): c_t = z_t.
    """
    encodings, predictions = rollout
    before = torch.cat([encodings[:1], predictions[:-1]]) if action_input == "faithful" else encodings[:-1]
    return F.mse_loss(full_precision(predictor(before, encodings[1:])), actions)


class VICReg(JointEmbedding):
    """VICReg on sequences (SPEC §5). A coefficient of 0 means that its term is neither built nor computed.

    Args:
        shapes: of the data.
        encoder, predictor, projector, decoder: factories of its networks; the decoder's for ``decoding_coeff`` only.
        sim_coeff: of the prediction loss.
        std_coeff, cov_coeff: of variance and covariance of P(z).
        enc_std_coeff, enc_cov_coeff: of variance and covariance of z.
        action_coeff: of inverse dynamics.
        decoding_coeff: of the error of images decoded from z.
        repr_loss_after_projector: whether the prediction loss compares P(.) or the embeddings themselves.
        skip_first_step_variance_covariance: whether frame 0, which nothing predicts, is left out of those terms.
        action_input: as for ``action_loss``.
    """

    sim_coeff: Tensor
    std_coeff: Tensor
    cov_coeff: Tensor
    enc_std_coeff: Tensor
    enc_cov_coeff: Tensor
    action_coeff: Tensor
    decoding_coeff: Tensor

    def __init__(
        self,
        *,
        shapes: DataShapes,
        encoder: EncoderFactory,
        predictor: PredictorFactory,
        projector: ProjectorFactory,
        decoder: DecoderFactory | None = None,
        sim_coeff: float,
        std_coeff: float,
        cov_coeff: float,
        enc_std_coeff: float,
        enc_cov_coeff: float,
        action_coeff: float,
        decoding_coeff: float,
        repr_loss_after_projector: bool,
        skip_first_step_variance_covariance: bool,
        action_input: str,
    ) -> None:
        super().__init__(shapes=shapes, encoder=encoder, predictor=predictor)
        size = self.encoder.embedding_size
        self.projector = projector(embedding_size=size)
        self.with_prediction = self.register_hyperparameter("sim_coeff", sim_coeff)
        self.with_variance = self.register_hyperparameter("std_coeff", std_coeff)
        self.with_covariance = self.register_hyperparameter("cov_coeff", cov_coeff)
        self.with_encoder_variance = self.register_hyperparameter("enc_std_coeff", enc_std_coeff)
        self.with_encoder_covariance = self.register_hyperparameter("enc_cov_coeff", enc_cov_coeff)
        self.with_action = self.register_hyperparameter("action_coeff", action_coeff)
        self.with_reconstruction = self.register_hyperparameter("decoding_coeff", decoding_coeff)
        if not any((sim_coeff, std_coeff, cov_coeff, enc_std_coeff, enc_cov_coeff, action_coeff, decoding_coeff)):
            raise ConfigError("model: every coefficient is 0; at least one term must have a weight")
        self.repr_loss_after_projector = check_flag("model.repr_loss_after_projector", repr_loss_after_projector)
        self.skip_first_step_variance_covariance = check_flag(
            "model.skip_first_step_variance_covariance", skip_first_step_variance_covariance
        )
        self.action_input = check_choice("model.action_input", action_input, ACTION_INPUTS)
        if self.with_action:
            self.action_predictor = ActionPredictor(embedding_size=size, action_size=shapes.action_size)
        if self.with_reconstruction:
            if decoder is None:
                raise ConfigError(
                    f"model.decoding_coeff={decoding_coeff!r}: needs a decoder, for example model/decoder=menet5"
                )
            self.decoder = decoder(input_size=size, channels=shapes.channels, image_size=shapes.image_size)

    def forward(self, batch: Batch, noise: Tensor | None = None) -> Losses:
        rollout, actions = self.training_rollout(batch)
        projections = self.projector(rollout.encodings)
        terms: dict[str, Tensor] = {}
        if self.with_prediction:
            terms["prediction"] = self._prediction_loss(rollout, projections)
        terms |= self._regularisers(projections, "", self.with_variance, self.with_covariance)
        terms |= self._regularisers(
            rollout.encodings, "encoder_", self.with_encoder_variance, self.with_encoder_covariance
        )
        if self.with_action:
            terms["action"] = action_loss(self.action_predictor, rollout, actions, self.action_input)
        if self.with_reconstruction:
            images = self.decoder(rollout.encodings)
            terms["reconstruction"] = F.mse_loss(full_precision(images), batch.states[self.first_frame :])
        return Losses(self._total(terms), terms)

    def _prediction_loss(self, rollout: Rollout, projections: Tensor) -> Tensor:
        """Mean over time steps 1 ... T-1 of the mean squared error. projections: P(z) [T, B, F]."""
        if self.repr_loss_after_projector:
            # as in the original, the batch statistics of P are those of all z together, and of one step's predictions
            predicted, target = self.projector.steps(rollout.predictions), projections
        else:
            predicted, target = rollout.predictions, rollout.encodings
        return F.mse_loss(full_precision(predicted), full_precision(target[1:]))

    def _regularisers(self, features: Tensor, prefix: str, variance: bool, covariance: bool) -> dict[str, Tensor]:
        """Variance and covariance terms of features [T, B, F], in single precision."""
        if not (variance or covariance):
            return {}
        features = features[1:] if self.skip_first_step_variance_covariance else features
        terms = {}
        with torch.autocast(features.device.type, enabled=False):
            features = full_precision(features)
            centered = features - features.mean(dim=-2, keepdim=True)
            if variance:
                terms[f"{prefix}variance"] = variance_loss(centered)
            if covariance:
                terms[f"{prefix}covariance"] = covariance_loss(centered)
        return terms

    def loss_weights(self) -> dict[str, str]:
        return {name: f"× {value.item():.4g}" for name, value in self._coefficients().items() if value.item()}

    def _total(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum of the terms, each times its coefficient."""
        coefficients = self._coefficients()
        return torch.stack([coefficients[name] * value for name, value in terms.items()]).sum()

    def _coefficients(self) -> dict[str, Tensor]:
        """What each term is multiplied by."""
        return {
            "prediction": self.sim_coeff,
            "variance": self.std_coeff,
            "covariance": self.cov_coeff,
            "encoder_variance": self.enc_std_coeff,
            "encoder_covariance": self.enc_cov_coeff,
            "action": self.action_coeff,
            "reconstruction": self.decoding_coeff,
        }
