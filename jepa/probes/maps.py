"""Fitted maps from embeddings to normalised locations: applied to J jobs at once, saved one job at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from jepa.probes.features import to_float64

MapState = dict[str, Any]  # strings, and tensors or lists of tensors without the job axis: what torch.save can hold


class FittedMap(Protocol):
    """Features [J, M, D] -> normalised locations [J, M, 2K], each job by a map of its own."""

    def __call__(self, features: Tensor, /) -> Tensor:
        """Apply the maps."""

    def job_state(self, job: int) -> MapState:
        """One job's map, for :func:`load_map`."""


class LinearMap:
    """One matrix a job, applied in float64."""

    def __init__(self, weight: Tensor) -> None:
        """weight: [J, D, N], float64."""
        self.weight = weight

    def __call__(self, features: Tensor) -> Tensor:
        """Features [J, M, D], any floating type -> [J, M, N], float64."""
        return to_float64(features) @ self.weight

    def job_state(self, job: int) -> MapState:
        """The matrix [D, N]."""
        return {"kind": "linear", "weight": self.weight[job].detach().cpu()}


class FrozenMLP:
    """Linear, batch norm with running statistics, ReLU; then a Linear without bias. All parameters carry J."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        gains: Sequence[Tensor],
        offsets: Sequence[Tensor],
        means: Sequence[Tensor],
        variances: Sequence[Tensor],
    ) -> None:
        """weights: [J, in, out] a layer; the others [J, out], one for each hidden layer."""
        self.parts = {
            "weights": weights,
            "gains": gains,
            "offsets": offsets,
            "means": means,
            "variances": variances,
        }

    def __call__(self, features: Tensor) -> Tensor:
        """Features [J, M, D] -> [J, M, N], float32."""
        *hidden, last = self.parts["weights"]
        norms = zip(*(self.parts[name] for name in ("means", "variances", "gains", "offsets")), strict=True)
        values = features.float()
        for weight, (mean, variance, gain, offset) in zip(hidden, norms, strict=True):
            values = functional.relu(batch_norm(values @ weight, mean, variance, gain, offset, training=False))
        return values @ last

    def job_state(self, job: int) -> MapState:
        """The job's parameters, without J."""
        return {
            "kind": "mlp",
            **{name: [part[job].detach().cpu() for part in parts] for name, parts in self.parts.items()},
        }


def batch_norm(
    values: Tensor, mean: Tensor, variance: Tensor, gain: Tensor, offset: Tensor, *, training: bool
) -> Tensor:
    """Batch norm over M of values [J, M, N], the jobs' features side by side as channels; the others are [J, N].

    training: use the batch's statistics and update ``mean`` and ``variance``; false: use these.
    """
    flat = values.transpose(0, 1).flatten(1)  # [M, J·N]
    normalised = functional.batch_norm(
        flat, mean.view(-1), variance.view(-1), gain.view(-1), offset.view(-1), training=training
    )
    return normalised.view(values.shape[1], values.shape[0], -1).transpose(0, 1)


def load_map(state: Mapping[str, Any], device: torch.device | str) -> FittedMap:
    """The map of one job (J = 1) that ``job_state`` gave."""
    if state["kind"] == "linear":
        return LinearMap(state["weight"].to(device).unsqueeze(0))
    names = ("weights", "gains", "offsets", "means", "variances")
    return FrozenMLP(*([part.to(device).unsqueeze(0) for part in state[name]] for name in names))
