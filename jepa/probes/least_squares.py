"""The exact minimiser of the probing objective, from streamed normal equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jepa.errors import check_number
from jepa.probes.base import FitPass, Probe
from jepa.probes.features import to_float64
from jepa.probes.maps import FittedMaps, LinearMap
from jepa.probes.targets.base import ProbeTarget

# Eigenvalues of the features' correlation matrix below this share of the largest count as zero. Along a direction in
# which float32 features do not vary, rounding leaves a standard deviation of about the root, 1e-6.
RELATIVE_CUTOFF = 1e-12


class LeastSquares(Probe):
    """Linear probes, fitted exactly, without holding all features in memory.

    Sums of h hᵀ [D, D], which all targets share, and of h yᵀ [D, N] for each target are accumulated in float64 (on the
    features' device; on the CPU for mps). A target with a constant has one more feature, which is 1.
    Embeddings that span fewer than D dimensions (collapsed, dead or repeated features) have many minimisers; the one
    with the smallest norm is taken. A job with non-finite embeddings gets NaN; other jobs are not affected.
    """

    def __init__(
        self,
        *,
        targets: Mapping[str, ProbeTarget],
        fit_sequences: int,
        judge_sequences: int,
        every_frame: bool,
        num_samples: int,
        ridge: float,
        judge_stream: str = "test",
    ) -> None:
        """ridge: weight of the map's squared norm, for features scaled to unit mean square; 0: none.

        The other arguments are those of :class:`Probe`.
        """
        super().__init__(
            targets=targets,
            fit_sequences=fit_sequences,
            judge_sequences=judge_sequences,
            every_frame=every_frame,
            num_samples=num_samples,
            judge_stream=judge_stream,
        )
        self.ridge = float(check_number("probe.ridge", ridge, minimum=0, maximum=1e6))

    def fit(
        self, targets: Mapping[str, ProbeTarget], fit_pass: FitPass, generators: Sequence[torch.Generator]
    ) -> dict[str, FittedMaps]:
        """Fit both maps of each target in one pass."""
        prediction, encoder = NormalEquations(targets), NormalEquations(targets)
        for features in fit_pass():
            values = features.values.items()
            prediction.add(features.trajectory.flatten(1, 2), {name: value.flatten(1, 2) for name, value in values})
            encoder.add(features.encodings[:, 0], {name: value[:, 0] for name, value in values})
        solved = prediction.solve(self.ridge), encoder.solve(self.ridge)
        return {name: FittedMaps(*(maps[name] for maps in solved)) for name in targets}


class NormalEquations:
    """Sums over rows, for ``J`` jobs at once: h hᵀ, and h yᵀ for each target; for constants also Σ h and Σ y."""

    def __init__(self, targets: Mapping[str, ProbeTarget]) -> None:
        self._targets = targets
        self._with_constant = any(target.constant for target in targets.values())
        # "gram" [J, D, D], "ones" [J, D, 1]; by target "moment/…" [J, D, N] and "sum/…" [J, 1, N]
        self._sums: dict[str, Tensor] = {}
        self._num_rows = 0

    def add(self, features: Tensor, values: Mapping[str, Tensor]) -> None:
        """Add M rows: features [J, M, D] and, by target, values [J, M, N]."""
        features = to_float64(features)
        transposed = features.transpose(1, 2)
        self._add_product("gram", transposed, features)
        if self._with_constant:
            self._add("ones", transposed.sum(2, keepdim=True))
            self._num_rows += features.shape[1]
        for name, target in self._targets.items():
            regressed = to_float64(target.regressed(values[name]))
            self._add_product(f"moment/{name}", transposed, regressed)
            if target.constant:
                self._add(f"sum/{name}", regressed.sum(1, keepdim=True))

    def _add_product(self, key: str, left: Tensor, right: Tensor) -> None:
        if key in self._sums:
            self._sums[key].baddbmm_(left, right)
        else:
            self._sums[key] = left @ right

    def _add(self, key: str, value: Tensor) -> None:
        self._sums[key] = self._sums[key] + value if key in self._sums else value

    def solve(self, ridge: float) -> dict[str, LinearMap]:
        """The minimisers over the rows added so far, by target."""
        plain = NormalInverse(self._sums["gram"], ridge)
        bordered = NormalInverse(self._bordered_gram(), ridge) if self._with_constant else plain
        maps = {}
        for name, target in self._targets.items():
            moment = self._sums[f"moment/{name}"]
            if target.constant:
                weight = bordered(torch.cat([moment, self._sums[f"sum/{name}"]], 1))
                maps[name] = LinearMap(weight[:, :-1], weight[:, -1:])
            else:
                maps[name] = LinearMap(plain(moment))
        return maps

    def _bordered_gram(self) -> Tensor:
        """Σ h hᵀ of features with a 1 behind them, [J, D+1, D+1]."""
        gram, ones = self._sums["gram"], self._sums["ones"]
        count = torch.full_like(ones[:, :1], self._num_rows)
        return torch.cat([torch.cat([gram, ones], 2), torch.cat([ones.transpose(1, 2), count], 2)], 1)


class NormalInverse:
    """The minimiser of mean |W̃ᵀh̃ - y|² + ridge·|W̃|², from moments; h̃ is h scaled to unit mean square.

    With scaled features the cut-off does not depend on the features' units. This scaling is within a factor of D of the
    best conditioning that any scaling gives (van der Sluis 1969).
    """

    def __init__(self, gram: Tensor, ridge: float = 0.0) -> None:
        """gram: Σ h hᵀ over rows, [J, D, D], float64."""
        self._finite = gram.isfinite().all(-1).all(-1)[:, None, None]  # [J, 1, 1]
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        gram = torch.where(self._finite, gram, identity)  # eigh raises on NaN, for all jobs
        norm = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()  # [J, D]
        self._scale = torch.where(norm > 0, 1 / norm, torch.zeros_like(norm)).unsqueeze(-1)
        correlation = self._scale * gram * self._scale.transpose(1, 2)
        eigenvalues, self._vectors = torch.linalg.eigh(correlation)
        kept = eigenvalues > RELATIVE_CUTOFF * eigenvalues[:, -1:]
        self._inverse = torch.where(kept, 1 / torch.where(kept, eigenvalues + ridge, 1.0), 0.0).unsqueeze(-1)

    def __call__(self, moment: Tensor) -> Tensor:
        """W [J, D, N] with y ≈ Wᵀh, for the moments Σ h yᵀ [J, D, N], float64.

        Of several minimisers, the one with the smallest norm of W̃. NaN for a job with non-finite sums.
        """
        vectors = self._vectors
        weight = self._scale * (vectors @ (self._inverse * (vectors.transpose(1, 2) @ (self._scale * moment))))
        finite = self._finite & moment.isfinite().all(-1).all(-1)[:, None, None]
        return torch.where(finite, weight, torch.nan)
