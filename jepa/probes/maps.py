"""Fitted maps from embeddings to targets: applied to J jobs at once, saved and read out one job at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from jepa.probes.features import to_float64
from jepa.probes.targets.base import ProbeTarget

MapState = dict[str, Any]  # for torch.save: strings, and tensors or lists of tensors without the axis J


class FittedMap(Protocol):
    """Features [J, M, D] -> answers [J, M, N], with a map of its own for each job."""

    def __call__(self, features: Tensor, /) -> Tensor:
        """Apply the maps."""

    def job_state(self, job: int) -> MapState:
        """One job's map, for :func:`load_map`."""


class FittedMaps(NamedTuple):
    """The two maps of a target (docs/science.md)."""

    prediction: FittedMap  # fitted on z_0 and the predictions together
    encoder: FittedMap  # fitted on z_0 alone


class LinearMap:
    """A matrix for each job and, optionally, a constant; applied in float64."""

    def __init__(self, weight: Tensor, constant: Tensor | None = None) -> None:
        """weight: [J, D, N], float64; constant: [J, 1, N], float64, or None."""
        self.weight, self.constant = weight, constant

    def __call__(self, features: Tensor) -> Tensor:
        """Features [J, M, D], any floating type -> [J, M, N], float64."""
        answers = to_float64(features) @ self.weight
        return answers if self.constant is None else answers + self.constant

    def job_state(self, job: int) -> MapState:
        """The matrix [D, N] and the constant [1, N]."""
        return {"kind": "linear", "weight": self.weight[job].detach().cpu(), **_constant_state(self.constant, job)}


class FrozenMLP:
    """Layers of Linear, batch norm with running statistics, and ReLU; then a Linear. All parameters have the axis J."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        gains: Sequence[Tensor],
        offsets: Sequence[Tensor],
        means: Sequence[Tensor],
        variances: Sequence[Tensor],
        constant: Tensor | None = None,
    ) -> None:
        """weights: [J, in, out] for each layer; the others: [J, out] for each hidden layer; constant: [J, 1, N]."""
        self.constant = constant
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
        answers = values @ last
        return answers if self.constant is None else answers + self.constant

    def job_state(self, job: int) -> MapState:
        """The job's parameters, without J."""
        return {
            "kind": "mlp",
            **{name: [part[job].detach().cpu() for part in parts] for name, parts in self.parts.items()},
            **_constant_state(self.constant, job),
        }


def _constant_state(constant: Tensor | None, job: int) -> MapState:
    return {} if constant is None else {"constant": constant[job].detach().cpu()}


def batch_norm(
    values: Tensor, mean: Tensor, variance: Tensor, gain: Tensor, offset: Tensor, *, training: bool
) -> Tensor:
    """Batch norm over M of values [J, M, N]: the features of all jobs are channels of one call. The others: [J, N].

    training: use the batch's statistics and update ``mean`` and ``variance``; false: use ``mean`` and ``variance``.
    """
    flat = values.transpose(0, 1).flatten(1)  # [M, J·N]
    normalised = functional.batch_norm(
        flat, mean.view(-1), variance.view(-1), gain.view(-1), offset.view(-1), training=training
    )
    return normalised.view(values.shape[1], values.shape[0], -1).transpose(0, 1)


def load_map(state: Mapping[str, Any], device: torch.device | str) -> FittedMap:
    """The map of one job (J = 1), from ``job_state``."""
    constant = state["constant"].to(device).unsqueeze(0) if "constant" in state else None
    if state["kind"] == "linear":
        return LinearMap(state["weight"].to(device).unsqueeze(0), constant)
    names = ("weights", "gains", "offsets", "means", "variances")
    weights, gains, offsets, means, variances = ([p.to(device).unsqueeze(0) for p in state[name]] for name in names)
    return FrozenMLP(weights, gains, offsets, means, variances, constant)


class ProbeMaps:
    """The two fitted probes of a run for one target, such as the location."""

    def __init__(self, target: ProbeTarget, *, prediction: FittedMap, encoder: FittedMap) -> None:
        """prediction, encoder: maps of one run (J = 1), as :func:`load_map` returns them."""
        self._target = target
        self._prediction, self._encoder = prediction, encoder

    def prediction(self, embeddings: Tensor) -> Tensor:
        """The prediction probe's answers, for z_0 or predicted embeddings [..., D].

        Returns:
            Locations [..., K, 2] in px. For another target: values in the unit of the target, or classes [...].
        """
        return self._read(self._prediction, embeddings)

    def encoder(self, embeddings: Tensor) -> Tensor:
        """The encoder probe's answers, for encodings [..., D]; returned as by ``prediction``. It was fitted on z_0."""
        return self._read(self._encoder, embeddings)

    def _read(self, fitted: FittedMap, embeddings: Tensor) -> Tensor:
        flat = fitted(embeddings.reshape(1, -1, embeddings.shape[-1]))
        answers = self._target.read(flat.reshape(*embeddings.shape[:-1], -1))
        return answers.float() if answers.is_floating_point() else answers
