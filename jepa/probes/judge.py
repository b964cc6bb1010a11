"""Sums errors over the judged batches, and makes the reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from jepa.probes.features import Features, with_jobs
from jepa.probes.maps import FittedMaps
from jepa.probes.report import JUDGED_FROM, LOCATION, FloatArray, Metrics, ProbeReport, ProbeSamples, metric_name
from jepa.probes.targets.base import ProbeTarget
from jepa.types import Batch


class Judge:
    """Accumulates errors on the device, in float64. Only ``reports`` waits for the device."""

    def __init__(self, targets: Mapping[str, ProbeTarget], num_samples: int, first_judged: int = 0) -> None:
        self._targets = targets
        self._first_judged = first_judged  # features are those of frames from this one on
        self._num_samples = num_samples
        # Keys: the target, and "prediction", "encoder" (z_0), "frames" (the encoder probe on every frame), "head", or
        # "statistics" (for the target's comparison).
        self._counts: dict[tuple[str, str], int] = {}  # number of sequences
        self._sums: dict[tuple[str, str], Tensor] = {}  # sums over sequences, [J, S, P] each
        self._samples: list[ProbeSamples] = []  # of the first batch, one for each job

    def add(
        self, features: Features, fitted: Mapping[str, FittedMaps], *, batch: Batch, own: Tensor | None
    ) -> None:
        """Judge one batch.

        Args:
            features: the features of the batch; the encodings may be those of all frames, or of leading frames only.
            fitted: the maps, by target.
            batch: the batch itself, all T frames.
            own: locations from the model's own head [(J,) T, B, K, 2], normalised, or None.
        """
        for name, target in self._targets.items():
            true = target.true(features.values[name])
            predicted = _answers(target, fitted[name].prediction, features.trajectory)
            encoded = _answers(target, fitted[name].encoder, features.encodings)
            self._accumulate(name, "prediction", target.errors(predicted, true))
            self._accumulate(name, "encoder", target.errors(encoded[:, :1], true[:, :1]))
            if encoded.shape[1] == true.shape[1]:
                self._accumulate(name, "frames", target.errors(encoded, true))
            if target.comparison is not None:
                self._accumulate(name, "statistics", target.statistics(true))
            if name == LOCATION and own is not None:
                answered = with_jobs(own, 5, true.shape[0])[:, self._first_judged :, : true.shape[2]].flatten(3)
                self._accumulate(name, "head", target.errors(target.read(answered), true))
            if name == LOCATION and not self._samples:
                self._keep_samples(batch, target, predicted)

    def reports(self) -> list[ProbeReport]:
        """One report for each job."""
        means = {key: (total / self._counts[key]).cpu().numpy() for key, total in self._sums.items()}
        return [
            ProbeReport(
                {
                    name: self._metrics(target, {what: mean[job] for (of, what), mean in means.items() if of == name})
                    for name, target in self._targets.items()
                },
                samples,
            )
            for job, samples in enumerate(self._samples)
        ]

    def _accumulate(self, target: str, what: str, errors: Tensor) -> None:
        """Add errors [J, S, b, P] of ``b`` sequences."""
        total, key = errors.sum(2), (target, what)
        self._sums[key] = total if key not in self._sums else self._sums[key] + total
        self._counts[key] = self._counts.get(key, 0) + errors.shape[2]

    def _keep_samples(self, batch: Batch, target: ProbeTarget, predicted: Tensor) -> None:
        num_jobs, _, count = predicted.shape[:3]
        true = target.true(with_jobs(target.values(batch), 4, num_jobs))
        kept = min(self._num_samples, count)
        tensors = (with_jobs(batch.states, 6, num_jobs), true, _padded(predicted, self._first_judged))
        arrays = [tensor[:, :, :kept].float().cpu().numpy() for tensor in tensors]
        self._samples = [ProbeSamples(*(array[job] for array in arrays)) for job in range(num_jobs)]

    def _metrics(self, target: ProbeTarget, mean: Mapping[str, FloatArray]) -> Metrics:
        """As :func:`_metrics`; the errors by time step begin with NaN for each frame that is not judged."""
        metrics = _metrics(target, mean)
        if self._first_judged == 0:
            return metrics
        unknown = [math.nan] * self._first_judged
        for name, value in metrics.items():
            if name.endswith("_per_step") and isinstance(value, list):
                metrics[name] = unknown + value
        return {**metrics, JUDGED_FROM: self._first_judged} if target.name == LOCATION else metrics


def _padded(answers: Tensor, first: int) -> Tensor:
    """Answers [J, S, b, ...] with NaN for each of the ``first`` frames before them."""
    missing = answers.new_full((answers.shape[0], first, *answers.shape[2:]), math.nan)
    return torch.cat([missing, answers], dim=1)


def _answers(target: ProbeTarget, fitted: Callable[[Tensor], Tensor], embeddings: Tensor) -> Tensor:
    """The answers of a map for embeddings [J, S, b, D], in the target's unit: [J, S, b, ...]."""
    answers = fitted(embeddings.flatten(1, 2))
    return target.read(answers.view(*embeddings.shape[:3], answers.shape[-1]))


def _metrics(target: ProbeTarget, mean: Mapping[str, FloatArray]) -> Metrics:
    """The metrics of one target of one job, from the means over sequences, [S, P] each."""
    prediction, encoder = mean["prediction"], mean["encoder"][0]  # [T, P], [P]
    frames = [encoder, *mean["frames"][1:]] if "frames" in mean else [encoder]  # z_0 of all sequences
    per_step = {"prediction": [step.mean() for step in prediction], "encoder": [step.mean() for step in frames]}
    per_part = {"prediction": prediction.mean(0), "encoder": encoder}
    overall = {"prediction": prediction.mean(), "encoder": encoder.mean()}

    def number(mean_error: float) -> float:
        value = target.report(mean_error)
        return value if math.isfinite(value) else math.nan

    def named(probe: str, suffix: str = "") -> str:
        return metric_name(probe, target.name, target.measure + suffix)

    metrics: Metrics = {named(probe): number(value) for probe, value in overall.items()}
    if target.comparison is not None:
        covered = {"prediction": mean["statistics"].mean(0), "encoder": mean["statistics"][0]}
        for probe, statistics in covered.items():
            compared = target.compare(overall[probe], statistics)
            metrics[metric_name(probe, target.name, target.comparison)] = compared
    metrics |= {named(probe, "_per_step"): [number(value) for value in values] for probe, values in per_step.items()}
    if target.part is not None:
        suffix = f"_per_{target.part}"
        metrics |= {named(probe, suffix): [number(value) for value in values] for probe, values in per_part.items()}
    if "head" in mean:
        metrics[named("head")] = number(mean["head"].mean())
    return metrics
