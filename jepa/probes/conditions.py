"""Probing under other noise than that of training (``dataset.eval``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jepa.probes import features as features_module
from jepa.probes.features import BatchStream, Features, Judged
from jepa.probes.judge import Judge
from jepa.probes.maps import FittedMaps
from jepa.probes.report import LOCATION, Metrics
from jepa.probes.targets.base import ProbeTarget
from jepa.types import Batch, Rollout

if TYPE_CHECKING:
    from jepa.probes.base import Probe

MEASURED = ("prediction_rmse_px", "encoder_rmse_px")


def refitted_name(metric: str, condition: str) -> str:
    """The metric under a condition, of maps that are fitted under the condition."""
    return f"{metric}_on_{condition}"


def kept_name(metric: str, condition: str) -> str:
    """The metric under a condition, of the maps that are fitted under the noise of training."""
    return f"{metric}_kept_on_{condition}"


def condition_metric_names(conditions: Iterable[str]) -> list[str]:
    """The names of all numbers that :meth:`Probing.under` reports, but for the model's own head."""
    return [name(metric, c) for c in conditions for metric in MEASURED for name in (refitted_name, kept_name)]


@dataclass(frozen=True)
class Probing:
    """What all conditions share: the arguments of :meth:`jepa.probes.Probe.run_jobs`."""

    probe: Probe
    rollout: Callable[[Batch], Rollout]
    target: ProbeTarget  # the location
    generators: Sequence[torch.Generator]
    predict_locations: Callable[[Rollout], Tensor] | None
    context_frames: int | None
    first_judged: int

    def under(
        self, condition: str, fit_stream: BatchStream, judge_stream: BatchStream, kept: FittedMaps
    ) -> list[Metrics]:
        """The errors under one condition, for each job.

        Maps are fitted anew on ``fit_stream``; these and the maps ``kept`` from the noise of training are judged on the
        same batches of ``judge_stream``. The model's own head is judged too (``head_rmse_px_on_...``).
        """
        targets = {LOCATION: self.target}

        def fit_pass() -> Iterator[Features]:
            for judged in self._embedded(targets, fit_stream, self.probe.fit_sequences):
                yield judged.features

        refitted = self.probe.fit(targets, fit_pass, self.generators)
        judges = Judge(targets, 0, self.first_judged), Judge(targets, 0, self.first_judged)
        for judged in self._embedded(targets, judge_stream, self.probe.judge_sequences):
            features = judged.features._replace(encodings=judged.features.encodings[:, :1])
            own = None if self.predict_locations is None else self.predict_locations(judged.rollout)
            for judge, maps in zip(judges, (refitted, {LOCATION: kept}), strict=True):
                judge.add(features, maps, batch=judged.batch, own=own)
        return [
            _named(condition, anew.as_metrics(), old.as_metrics())
            for anew, old in zip(*(judge.reports() for judge in judges), strict=True)
        ]

    def _embedded(self, targets: Mapping[str, ProbeTarget], stream: BatchStream, number: int) -> Iterator[Judged]:
        return features_module.iterate(
            self.rollout, stream, targets, number, self.context_frames, first_judged=self.first_judged
        )


def _named(condition: str, refitted: Metrics, kept: Metrics) -> Metrics:
    found: Metrics = {}
    for metric in MEASURED:
        found[refitted_name(metric, condition)] = refitted[metric]
        found[kept_name(metric, condition)] = kept[metric]
    if "head_rmse_px" in kept:
        found[refitted_name("head_rmse_px", condition)] = kept["head_rmse_px"]
    return found
