"""Terms over the frames of one sequence: variance, covariance and similarity in time."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from jepa.hyperparameters import register_hyperparameter
from jepa.losses.base import FeaturesTerm, TimeCenteredTerm
from jepa.losses.covariance import covariance_loss
from jepa.losses.variance import variance_loss


def temporal_similarity_loss(features: Tensor) -> Tensor:
    """Mean over t, sequences and features of (z_{t+1} - z_t)². features: [T, B, F]; returns [].

    Source: Sobal et al. 2025 (arXiv 2502.14819), PLDM.
    """
    return F.mse_loss(features[1:], features[:-1])


class TemporalVariance(TimeCenteredTerm):
    """Mean of relu(target - sqrt(Var + 1e-4)), Var the variance of a feature over the frames of one sequence.

    A feature that is constant in every sequence is penalised fully, however much it differs between sequences.
    Source: Sobal et al. 2025 (arXiv 2502.14819), PLDM.

    Args:
        coeff, space, skip_first_step: as for :class:`jepa.losses.base.CenteredTerm`.
        target: standard deviation in time below which a feature is penalised.
    """

    hyperparameter_names = ("coeff", "target")

    target: Tensor  # []

    def __init__(self, *, coeff: float | None, space: str, skip_first_step: bool, target: float) -> None:
        super().__init__(coeff=coeff, space=space, skip_first_step=skip_first_step)
        register_hyperparameter(self, "target", target, key="target", positive=True)

    def of_centered(self, centered: Tensor) -> Tensor:
        return variance_loss(centered, target=self.target)


class TemporalCovariance(TimeCenteredTerm):
    """Sum of squared off-diagonal covariances over F; each covariance is one over the frames of one sequence.

    Mean over sequences. The T frames span at most T-1 directions, so this term cannot reach 0 beside a temporal
    variance of F > T-1 features. Source: Sobal et al. 2025 (arXiv 2502.14819), PLDM; divided by F, as here for VICReg.
    """

    def of_centered(self, centered: Tensor) -> Tensor:
        return covariance_loss(centered)


class TemporalSimilarity(FeaturesTerm):
    """:func:`temporal_similarity_loss`; arguments as for :class:`FeaturesTerm`."""

    fewest_frames = 2

    def of_features(self, features: Tensor) -> Tensor:
        return temporal_similarity_loss(features)
