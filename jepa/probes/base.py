"""The base class of probes: fit two maps for each target on one stream, judge them on another, report errors."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jepa.data.environment import Environment
from jepa.errors import ConfigError, check_choice, check_count, check_flag
from jepa.probes import features as features_module
from jepa.probes.conditions import Probing
from jepa.probes.features import BatchStream, Features
from jepa.probes.judge import Judge
from jepa.probes.maps import FittedMaps, MapState
from jepa.probes.report import LOCATION, Metrics, ProbeReport, metric_name
from jepa.probes.targets.base import ProbeTarget
from jepa.probes.targets.location import Location
from jepa.types import Batch, Rollout

# The encoder probe is judged on every frame of this many sequences. The sampling error of its RMSE is then below 2 %.
# Encoding every frame of more sequences would take longer than the rest of probing.
EVERY_FRAME_SEQUENCES = 2000

# The purpose of the random stream that probes are judged on, by ``probe.judge_stream``. A search that picks its best
# trial by the validation stream leaves the test stream for the picked settings.
JUDGE_STREAMS = {"test": "probe_judge", "validation": "probe_validation"}

# With fewer rows for each feature the fitted map overfits, and its error says little about the representation. For 512
# random features of a clean dot the error is 5.6 px when fitted on 10 000 sequences, 7.5 px on 1024, 19 px on 600 and
# 113 px on 512.
ROWS_PER_FEATURE = 2

# Each call draws fresh fitting sequences from the stream.
FitPass = Callable[[], Iterator[Features]]


class Probe(ABC):
    """Fits maps from frozen embeddings to its targets and judges them on new data (docs/science.md).

    Each target has two maps: the prediction probe and the encoder probe. Every sequence is embedded once, for all maps.
    Packed jobs (leading axis ``J``) are fitted and judged together. Each job's report equals that of the job alone, up
    to rounding: 1e-9 relative for least squares, which works in float64, and 1e-4 for Adam, which works in float32.
    """

    def __init__(
        self,
        *,
        targets: Mapping[str, ProbeTarget],
        fit_sequences: int,
        judge_sequences: int,
        every_frame: bool,
        num_samples: int,
        judge_stream: str = "test",
    ) -> None:
        """Check the settings.

        Args:
            targets: the targets by name; ``location`` is one of them.
            fit_sequences: number of sequences that the maps are fitted on.
            judge_sequences: number of sequences that the maps are judged on.
            every_frame: judge the encoder probe on frame 0 of all sequences, and on all T frames of the first
                EVERY_FRAME_SEQUENCES of them; false: on frame 0 alone.
            num_samples: number of judged sequences that the report holds for plots (at most one batch).
            judge_stream: the stream that the maps are judged on, a key of JUDGE_STREAMS. Configurations of earlier
                versions have no such key: they were judged on the test stream.
        """
        self.targets = _check_targets(targets)
        self.fit_sequences = check_count("probe.fit_sequences", fit_sequences, minimum=2, maximum=10**8)
        self.judge_sequences = check_count("probe.judge_sequences", judge_sequences, maximum=10**8)
        self.every_frame = check_flag("probe.every_frame", every_frame)
        self.num_samples = check_count("probe.num_samples", num_samples, minimum=0, maximum=1000)
        self.judge_stream = check_choice("probe.judge_stream", judge_stream, JUDGE_STREAMS)

    @property
    def judging_purpose(self) -> str:
        """The purpose of the random stream that the maps are judged on, one of ``jepa.data.draws.PURPOSES``."""
        return JUDGE_STREAMS[self.judge_stream]

    def asked(self, environment: Environment) -> dict[str, ProbeTarget]:
        """The targets by name, bound to ``environment``.

        Raises:
            ConfigError: the environment does not offer one of them.
        """
        return {name: target.of(name, environment) for name, target in self.targets.items()}

    def prepared(self, environment: Environment) -> Environment:
        """The environment for the streams that maps are fitted and judged on: batches hold what the targets need."""
        for target in self.targets.values():
            environment = target.prepared(environment)
        return environment

    @property
    def metric_names(self) -> list[str]:
        """Names of the numbers in a report: those of the location first, then those of the other targets."""
        names = sorted(self.targets, key=lambda name: name != LOCATION)
        measured = [(name, m) for name in names for m in (self.targets[name].measure, self.targets[name].comparison)]
        return [metric_name(probe, name, m) for name, m in measured if m for probe in ("prediction", "encoder")]

    def run(
        self,
        rollout: Callable[[Batch], Rollout],
        fit_stream: BatchStream,
        judge_stream: BatchStream,
        environment: Environment,
        generator: torch.Generator,
        predict_locations: Callable[[Rollout], Tensor] | None = None,
        *,
        context_frames: int | None = None,
        first_judged: int = 0,
        conditions: Mapping[str, tuple[BatchStream, BatchStream]] | None = None,
    ) -> ProbeReport:
        """Probe one job: ``run_jobs`` without the axis ``J``."""
        [report] = self.run_jobs(
            rollout,
            fit_stream,
            judge_stream,
            environment,
            [generator],
            predict_locations,
            context_frames=context_frames,
            first_judged=first_judged,
            conditions=conditions,
        )
        return report

    @torch.no_grad()
    def run_jobs(
        self,
        rollout: Callable[[Batch], Rollout],
        fit_stream: BatchStream,
        judge_stream: BatchStream,
        environment: Environment,
        generators: Sequence[torch.Generator],
        predict_locations: Callable[[Rollout], Tensor] | None = None,
        *,
        context_frames: int | None = None,
        first_judged: int = 0,
        conditions: Mapping[str, tuple[BatchStream, BatchStream]] | None = None,
    ) -> list[ProbeReport]:
        """Probe ``J`` jobs.

        Do not call this under ``torch.inference_mode``: Adam needs gradients of the maps' parameters.

        Args:
            rollout: the frozen model in evaluation mode. Takes a batch and returns encodings [J, T, B, D] and
                predictions [J, T-1, B, D], both without ``J`` for one job. From the first E frames alone it returns
                encodings [J, E, B, D] and all T-1 predictions.
            fit_stream, judge_stream: give batches with or without ``J``; without, the jobs share batches.
            environment: the environment of the batches, for units and labels.
            generators: one for each job, for random numbers in fitting (least squares draws none).
            predict_locations: the model's own head, judged as ``head_rmse_px``. Takes a rollout and returns normalised
                locations [J, T, B, K, 2], with ``J`` if the rollout has it.
            context_frames: number of leading frames that the predictions depend on (1, or a predictor's burn-in).
                Frames after these are encoded only where a probe needs them. None: all T frames are always encoded.
            first_judged: index of the first frame that the maps are fitted and judged on, in the place of frame 0.
            conditions: by name, a stream to fit on and a stream to judge on, with other noise. The location is probed
                under each of them too; see :mod:`jepa.probes.conditions`.

        Returns:
            One report for each job, in order.
        """
        targets = self.asked(environment)
        sizes: set[tuple[int, int]] = set()  # of the features: (T, D)

        def fit_pass() -> Iterator[Features]:
            for judged in features_module.iterate(
                rollout, fit_stream, targets, self.fit_sequences, context_frames, first_judged=first_judged
            ):
                sizes.add((judged.features.trajectory.shape[1], judged.features.trajectory.shape[3]))
                yield judged.features

        fitted = self.fit(targets, fit_pass, generators)
        judge = Judge(targets, self.num_samples, first_judged)
        whole = EVERY_FRAME_SEQUENCES if self.every_frame else 0
        for judged in features_module.iterate(
            rollout,
            judge_stream,
            targets,
            self.judge_sequences,
            context_frames,
            whole_sequences=whole,
            first_judged=first_judged,
        ):
            features = judged.features
            if not self.every_frame:
                features = features._replace(encodings=features.encodings[:, :1])
            own = None if predict_locations is None else predict_locations(judged.rollout)
            judge.add(features, fitted, batch=judged.batch, own=own)
        [(num_steps, num_features)] = sizes
        warnings = self._warnings(num_steps, num_features)
        reports = judge.reports()
        probing = Probing(self, rollout, targets[LOCATION], generators, predict_locations, context_frames, first_judged)
        further = _under_conditions(probing, conditions or {}, fitted[LOCATION], num_jobs=len(reports))
        return [
            replace(
                report,
                metrics={**report.metrics, **further[job]},
                warnings=warnings,
                maps={name: _states(maps, job) for name, maps in fitted.items()},
            )
            for job, report in enumerate(reports)
        ]

    @property
    def fit_passes(self) -> int:
        """How often ``fit`` calls ``fit_pass``, and so draws ``fit_sequences`` new sequences."""
        return 1

    def _warnings(self, num_steps: int, num_features: int) -> tuple[str, ...]:
        """A sentence for each of the two probes that is fitted on too few rows; it holds for all targets.

        Args:
            num_steps: T. A sequence gives T rows to the prediction probe, and one row to the encoder probe.
            num_features: D.
        """
        drawn = self.fit_sequences * self.fit_passes
        sizes = {
            "prediction": (drawn * num_steps, f"{drawn} sequences of {num_steps} frames"),
            "encoder": (drawn, f"{drawn} sequences"),
        }
        enough = math.ceil(ROWS_PER_FEATURE * num_features / self.fit_passes)  # for both probes
        return tuple(
            f"the {probe} probe has {words} to fit {num_features} features, too few: "
            f"set probe.fit_sequences={enough} or more"
            for probe, (rows, words) in sizes.items()
            if rows < ROWS_PER_FEATURE * num_features
        )

    @abstractmethod
    def fit(
        self, targets: Mapping[str, ProbeTarget], fit_pass: FitPass, generators: Sequence[torch.Generator]
    ) -> dict[str, FittedMaps]:
        """Fit both maps of each target; called under ``torch.no_grad``.

        Args:
            targets: the targets by name.
            fit_pass: draws the fitting sequences and gives their features, batch by batch.
            generators: one for each job, for random numbers in fitting.

        Returns:
            The two maps of each target, by name.
        """


def _under_conditions(
    probing: Probing, conditions: Mapping[str, tuple[BatchStream, BatchStream]], kept: FittedMaps, *, num_jobs: int
) -> list[dict[str, Metrics]]:
    """For each job, the location's metrics under each condition, as entries of a report's ``metrics``.

    conditions: as for :meth:`Probe.run_jobs`. kept: the maps that were fitted under the noise of training.
    """
    entries: list[dict[str, Metrics]] = [{} for _ in range(num_jobs)]
    for name, (fit_on, judge_on) in conditions.items():
        for own, metrics in zip(entries, probing.under(name, fit_on, judge_on, kept), strict=True):
            own[f"{LOCATION} under {name}"] = metrics
    return entries


def _states(maps: FittedMaps, job: int) -> dict[str, MapState]:
    return {name: fitted.job_state(job) for name, fitted in maps._asdict().items()}


def _check_targets(targets: Mapping[str, ProbeTarget]) -> dict[str, ProbeTarget]:
    if not isinstance(targets, Mapping) or not isinstance(targets.get(LOCATION), Location):
        raise ConfigError("probe.targets.location: must stay jepa.probes.targets.location.Location; add other targets")
    for name in targets:
        if not re.fullmatch(r"[A-Za-z]\w*", str(name)):
            raise ConfigError(f"probe.targets.{name}: a name must be a word of letters, digits and _")
    return dict(targets)
