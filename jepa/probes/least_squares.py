"""The exact minimiser of the probing objective, from streamed normal equations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jepa.errors import check_number
from jepa.probes.base import FitPass, Probe, Readouts
from jepa.probes.features import to_float64
from jepa.probes.maps import LinearMap

# Eigenvalues of the features' correlation matrix below this share of the largest count as zero. Its root, 1e-6, is
# about what rounding float32 features leaves of a direction in which they do not vary.
RELATIVE_CUTOFF = 1e-12


class LeastSquares(Probe):
    """Linear probes without bias, fitted exactly; no matrix of all features is ever held.

    Sums of h hᵀ [D, D] and h yᵀ [D, 2K] are accumulated in float64 (on the features' device; on the CPU for mps).
    Embeddings that span less than D dimensions (collapsed, dead or repeated features) have many minimisers: the one
    of smallest norm is taken. A job with non-finite embeddings gets NaN, and leaves the other jobs alone.
    """

    def __init__(
        self, *, fit_sequences: int, judge_sequences: int, every_frame: bool, num_samples: int, ridge: float
    ) -> None:
        """ridge: weight of the squared norm of the map, on features scaled to unit mean square; 0: none."""
        super().__init__(
            fit_sequences=fit_sequences,
            judge_sequences=judge_sequences,
            every_frame=every_frame,
            num_samples=num_samples,
        )
        self.ridge = float(check_number("probe.ridge", ridge, minimum=0, maximum=1e6))

    def _fit(self, fit_pass: FitPass, generators: Sequence[torch.Generator]) -> Readouts:
        prediction, encoder = NormalEquations(), NormalEquations()
        for features in fit_pass():
            targets = features.locations.flatten(3)  # [J, T, b, 2K]
            prediction.add(features.trajectory.flatten(1, 2), targets.flatten(1, 2))
            encoder.add(features.encodings[:, 0], targets[:, 0])
        return Readouts(LinearMap(prediction.solve(self.ridge)), LinearMap(encoder.solve(self.ridge)))


class NormalEquations:
    """Running sums of h hᵀ and h yᵀ over rows, for ``J`` jobs at once."""

    def __init__(self) -> None:
        self._gram: Tensor | None = None  # [J, D, D]
        self._moment: Tensor | None = None  # [J, D, N]

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Add the rows of features [J, M, D] and targets [J, M, N]."""
        features, targets = to_float64(features), to_float64(targets)
        transposed = features.transpose(1, 2)
        if self._gram is None or self._moment is None:
            self._gram, self._moment = transposed @ features, transposed @ targets
        else:
            self._gram.baddbmm_(transposed, features)
            self._moment.baddbmm_(transposed, targets)

    def solve(self, ridge: float) -> Tensor:
        """The minimiser [J, D, N] over the rows added so far."""
        assert self._gram is not None and self._moment is not None
        return solve_normal_equations(self._gram, self._moment, ridge)


def solve_normal_equations(gram: Tensor, moment: Tensor, ridge: float = 0.0) -> Tensor:
    """Minimise mean |W̃ᵀh̃ - y|² + ridge·|W̃|², where h̃ is h with every feature scaled to unit mean square; return W.

    gram: Σ h hᵀ [J, D, D]; moment: Σ h yᵀ [J, D, N]; both float64, of any number of rows.
    Returns W [J, D, N] with y ≈ Wᵀh: among several minimisers the one with the smallest W̃; NaN for a job with
    non-finite sums. Scaling first makes the cut-off indifferent to the features' units (and is within a factor of D
    of the best conditioning that scaling can give: van der Sluis 1969).
    """
    finite = (gram.isfinite().all(-1) & moment.isfinite().all(-1)).all(-1)[:, None, None]  # [J, 1, 1]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    gram = torch.where(finite, gram, identity)  # eigh raises on NaN, for all jobs
    norm = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()  # [J, D]
    scale = torch.where(norm > 0, 1 / norm, torch.zeros_like(norm)).unsqueeze(-1)
    correlation = scale * gram * scale.transpose(1, 2)
    eigenvalues, vectors = torch.linalg.eigh(correlation)
    kept = eigenvalues > RELATIVE_CUTOFF * eigenvalues[:, -1:]
    inverse = torch.where(kept, 1 / torch.where(kept, eigenvalues + ridge, 1.0), 0.0).unsqueeze(-1)
    weight = scale * (vectors @ (inverse * (vectors.transpose(1, 2) @ (scale * moment))))
    return torch.where(finite, weight, torch.nan)
