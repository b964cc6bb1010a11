"""Variance and covariance of embeddings centred per sequence, and slow-feature whitening."""

from __future__ import annotations

from torch import Tensor

from jepa.losses.base import FeaturesTerm, TimeCenteredTerm
from jepa.losses.covariance import covariance_loss
from jepa.losses.variance import variance_loss


def pooled(centered: Tensor) -> tuple[Tensor, int]:
    """All frames of all sequences as one batch, and its degrees of freedom.

    centered: [B, T, F], each feature's mean over the frames of its sequence removed.
    Returns [1, B·T, F] and B·(T-1): one is lost for the mean of each sequence.
    """
    num_sequences, num_frames, _ = centered.shape
    return centered.flatten(0, 1).unsqueeze(0), num_sequences * (num_frames - 1)


class WithinVariance(TimeCenteredTerm):
    """Mean over features of relu(1 - sqrt(Var + 1e-4)), Var over the frames of all sequences, each minus its own mean.

    What is constant in a sequence adds nothing to this variance. Unlike :class:`jepa.losses.temporal.TemporalVariance`
    not every sequence must vary in every feature. No published source; after Bardes et al. 2022 (arXiv 2105.04906).
    """

    def of_centered(self, centered: Tensor) -> Tensor:
        frames, freedom = pooled(centered)
        return variance_loss(frames, freedom=freedom)


class WithinCovariance(TimeCenteredTerm):
    """Sum of squared off-diagonal covariances over F of what :class:`WithinVariance` takes variances of."""

    def of_centered(self, centered: Tensor) -> Tensor:
        frames, freedom = pooled(centered)
        return covariance_loss(frames, freedom=freedom)


def whitening_loss(differences: Tensor) -> Tensor:
    """Squared distance of the second moments of ``differences`` [N, F] from the identity, over F; returns [].

    It is 1 if nothing differs, and 0 if every feature changes by a mean square of 1 and no two change together.
    """
    num_rows, num_features = differences.shape
    scaled = differences / num_rows**0.5
    # ||M - I||² = ||M||² - 2 tr M + F, and ||X^T X|| = ||X X^T||: use the smaller of the two matrices.
    product = scaled @ scaled.mT if num_rows < num_features else scaled.mT @ scaled
    loss: Tensor = (product.square().sum() - 2 * scaled.square().sum()) / num_features + 1
    return loss


class SlowFeatureWhitening(FeaturesTerm):
    """:func:`whitening_loss` of all steps z_{t+1} - z_t: no feature may be slow, and all change in ways of their own.

    Slow feature analysis (Wiskott and Sejnowski 2002) whitens the features and makes their steps small. Here the steps
    themselves are whitened. No published source.

    Arguments as for :class:`FeaturesTerm`.
    """

    fewest_frames = 2

    def of_features(self, features: Tensor) -> Tensor:
        return whitening_loss((features[1:] - features[:-1]).flatten(0, 1))
