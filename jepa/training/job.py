"""One job within a trainer: what it was asked for, how far it is, and what it leaves in its folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from jepa.data.environment import Environment
from jepa.data.normalization import Normalizer
from jepa.data.stream import Stream
from jepa.files import is_disk_full
from jepa.loggers.base import Logger, RunInfo
from jepa.methods.base import Method
from jepa.optim.base import Optimizer
from jepa.probes import Probe, ProbeReport
from jepa.provenance import made_by, other_code, timestamp
from jepa.results.backend import prepare_matplotlib
from jepa.results.reference import verdict
from jepa.seeding import generator
from jepa.store import checkpoint, layout
from jepa.store.checkpoint import Latest
from jepa.store.metrics import read_metrics
from jepa.store.result import write_result

log = logging.getLogger(__name__)

@dataclass(frozen=True)
class TrainerSettings:
    """How long to train, and how often to look and to save."""

    epochs: int
    log_every_steps: int
    probe_every_epochs: int  # 0: only at the end
    checkpoint_every_epochs: int  # 0: only when interrupted and at the end
    compile: str  # "true", "false" or "auto": where it pays
    cuda_graph: bool  # record the train step once and replay it


@dataclass(frozen=True)
class RunSpec:
    """Everything one run needs, decided once in ``jepa.run``."""

    dataset: Environment
    build_method: Callable[[], Method]  # draws its initial weights from torch's global generator
    optimizer: Optimizer
    probe: Probe
    seed: int
    device: torch.device
    precision: str
    settings: TrainerSettings
    folder: Path
    resume: bool  # continue from the folder's checkpoint, where there is one
    init_from: Path | None
    objective_metric: str
    plots: bool  # draw them at the end
    record: Mapping[str, Any]  # provenance that goes into result.json as it is
    loggers: Sequence[Logger] = ()
    sweep: str | None = None  # the name of the sweep that the run is a job of
    on_probe: Callable[[int, Mapping[str, float]], bool] | None = None  # (epoch, metrics) -> stop, as pruned


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its status (finished, failed, pruned), what was measured, and the number a search minimises.

    error, reason: of a failed job: a line for people, and a word for programs ("not_finite", "error").
    """

    status: str
    objective: float
    metrics: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    reason: str | None = None


class Job:
    """The host-side state of one job; its tensors live in the program."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.loggers = list(spec.loggers)
        self.step = 0
        self.train_seconds = 0.0
        self.metrics: dict[str, Any] = {}
        self.outcome: Outcome | None = None
        self.found: Latest | None = None  # the checkpoint it goes on from; None: it was not asked to
        self.loss_weights: Mapping[str, str] = {}  # how each term enters the total, for the plots
        self.context_frames: int | None = None  # how many frames predictions start from, where that is known
        self.broken: list[str] = []  # names of the last probe's errors that are not finite numbers
        self._warnings: tuple[str, ...] = ()  # of the last probe
        self._seconds_at_log = 0.0

    # --- streams and state -------------------------------------------------------------------------------------

    def start_fresh(self, device: torch.device) -> None:
        """Streams at their beginning, statistics estimated anew."""
        self._make_streams(self.spec.dataset.estimate_normalizer(self.spec.seed, device), device)

    def _make_streams(self, normalizer: Normalizer | None, device: torch.device) -> None:
        self.normalizer = normalizer
        self.stream = Stream(self.spec.dataset, self.spec.seed, "train", normalizer, device)
        self.model_generator = generator(self.spec.seed, "train/model", device)

    def separate_stream(self, purpose: str, device: torch.device) -> Stream:
        """A fresh stream beside the training's, for example for judging probes (``probe_judge``)."""
        return Stream(self.spec.dataset, self.spec.seed, purpose, self.normalizer, device)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides the program's tensors."""
        return {
            "config_hash": self.spec.record["config_hash"],
            "step": self.step,
            "stream": self.stream.state_dict(),
            "model_generator": self.model_generator.get_state(),
            "normalizer": None if self.normalizer is None else self.normalizer.state_dict(),
            "train_seconds": self.train_seconds,
            "seconds_at_log": self._seconds_at_log,
            **{name: self.spec.record.get(name) for name in ("started", "resumed", "code")},
            # A run that is stopped after its last step, while it is judged, logs no losses again.
            "metrics": {name: value for name, value in self.metrics.items() if isinstance(value, float)},
        }

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue where :meth:`state` was taken."""
        saved = state["normalizer"]
        self._make_streams(None if saved is None else Normalizer.of(saved, device), device)
        self.stream.load_state_dict(state["stream"])
        self.model_generator.set_state(state["model_generator"])
        self.step = state["step"]
        self.train_seconds = state["train_seconds"]
        self._seconds_at_log = state.get("seconds_at_log", math.nan)  # a checkpoint from before: no rate is known
        self.metrics.update(state["metrics"])
        self._take_over_record(state)

    def _take_over_record(self, state: Mapping[str, Any]) -> None:
        """Keep the time of the first start, and note this one as a resume."""
        now, record = self.spec.record.get("started"), dict(self.spec.record)
        if state.get("started"):
            record.update(started=state["started"], resumed=[*(state.get("resumed") or []), now])
        self.spec = replace(self.spec, record=record)
        begun_by = state.get("code")
        if begun_by and made_by({"code": begun_by}) == "other":
            log.warning("%s: begun by other code (%s)", self.spec.folder, other_code({"code": begun_by}))

    # --- while it trains ---------------------------------------------------------------------------------------

    def open(self, *, total_steps: int, steps_per_epoch: int) -> None:
        """Tell the loggers that the job starts, or goes on after ``step``; damaged checkpoints are set aside first."""
        for path, reason in self.found.damaged if self.found else []:
            log.warning("%s; it is kept as %s", reason, checkpoint.set_aside(path).name)
        if self.found is not None and self.found.damaged:
            begin = f"continues from {self.found.path}, step {self.step}" if self.found.path else "starts again"
            log.warning("%s: the run %s", self.spec.folder, begin)
        run = RunInfo(
            folder=self.spec.folder,
            record=self.spec.record,
            step=self.step,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            sweep=self.spec.sweep,
        )
        self._tell(lambda logger: logger.start(run))

    def log(self, means: Mapping[str, float], num_steps: int, learning_rate: float) -> bool:
        """Write the means of the losses since the last record; false where the total is no longer finite."""
        seconds = self.train_seconds - self._seconds_at_log
        sequences = num_steps * self.spec.dataset.batch_size
        self.metrics.update(means)
        self._record(
            "train",
            {
                **means,
                "learning_rate": learning_rate,
                "sequences_per_second": sequences / seconds if seconds > 0 else math.nan,
            },
        )
        self._seconds_at_log = self.train_seconds
        return math.isfinite(means["loss/total"])

    def report(self, epoch: int, report: ProbeReport) -> bool:
        """Record a probe between epochs; true where the search says to stop here."""
        self._take(report)
        stop = self.spec.on_probe
        return stop is not None and stop(epoch, {k: v for k, v in self.metrics.items() if isinstance(v, float)})

    def judge(self, report: ProbeReport) -> None:
        """Take the final probe, keep its maps, and draw the plots."""
        self._take(report)
        self._keep_maps(report)
        if self.spec.plots:
            for path in self._draw(report):
                self._tell(lambda logger, path=path: logger.plot(path.stem, path))  # type: ignore[misc]

    def _keep_maps(self, report: ProbeReport) -> None:
        """Save the fitted maps, so that locations can be read out again. Nothing but that depends on the file."""
        try:
            checkpoint.write(self.spec.folder / layout.PROBE, dict(report.maps))
        except OSError as error:
            log.warning("the probe's maps could not be saved, the run goes on without them: %s", error)

    def _draw(self, report: ProbeReport) -> list[Path]:
        """Draw the plots. What goes wrong with a picture costs the picture, not the run."""
        try:
            prepare_matplotlib()
            from jepa.results.run_plots import draw_all

            folder = self.spec.folder / "plots"
            return draw_all(
                folder,
                samples=report.samples,
                metrics=self.metrics,
                records=read_metrics(self.spec.folder),
                reference=self._reference(),
                loss_weights=self.loss_weights,
            )
        except Exception as error:
            log.warning("the plots could not be drawn, the run goes on without them: %s", _words(error))
            return []

    def _tell(self, act: Callable[[Logger], None]) -> None:
        """Call every logger. One that raises is left out from then on, unless the run cannot do without it."""
        for logger in list(self.loggers):
            try:
                act(logger)
            except Exception as error:
                if logger.essential:
                    raise
                self.loggers.remove(logger)
                log.warning("%s: the run goes on without it: %s", type(logger).__name__, _words(error))

    def _reference(self) -> Mapping[str, Any] | None:
        """The data set's reference lines, where it has some and there is an error to compare with them."""
        if "prediction_rmse_px" not in self.metrics:
            return None
        try:
            lines = self.spec.dataset.reference_lines()
        except Exception as error:  # the result is worth more than what it is compared with
            log.warning("the reference lines could not be computed, the run goes on without them: %s", _words(error))
            return None
        if lines is not None and self.context_frames is not None and self.context_frames > 1:
            lines["no_verdict"] = f"the predictor is shown {self.context_frames} frames, the lines hold for one"
        return lines

    def _take(self, report: ProbeReport) -> None:
        self._warnings, self.broken = report.warnings, report.broken
        metrics = report.as_metrics()
        self.metrics.update(metrics)
        self._record("probe", {name: value for name, value in metrics.items() if isinstance(value, float)})

    def _record(self, kind: str, values: Mapping[str, float]) -> None:
        place = {"step": self.step, "epoch": self.step / self.spec.dataset.steps_per_epoch}
        self._tell(lambda logger: logger.record({**place, "kind": kind, "time_s": self.train_seconds, **values}))

    # --- the end -----------------------------------------------------------------------------------------------

    def finish(self, status: str, *, error: str | None = None, reason: str | None = None) -> None:
        """Write ``result.json``, last and atomically, and close the loggers.

        error, reason: of a failed job, as in :class:`Outcome`.
        """
        spec = self.spec
        metrics = {**self.metrics, "train_seconds": self.train_seconds}
        if self.train_seconds > 0:
            metrics["sequences_per_second"] = self.step * spec.dataset.batch_size / self.train_seconds
        objective = metrics.get(spec.objective_metric, math.nan) if error is None else math.nan
        reference = self._reference()
        words, no_verdict = verdict(metrics, reference, self._warnings)
        result = {
            "status": status,
            "objective": objective,
            "objective_metric": spec.objective_metric,
            "verdict": words,
            "verdict_reason": no_verdict,
            "warnings": list(self._warnings),
            "metrics": metrics,
            "reference": reference,
            **spec.record,
            "epochs_trained": self.step / spec.dataset.steps_per_epoch,
            "epochs_total": spec.settings.epochs,
            "finished": timestamp(),
            "error": error,
            "reason": reason,
        }
        if status == "finished":  # before the result: a run killed in between would keep it for ever
            checkpoint.drop_previous(spec.folder)
        write_result(spec.folder, result)
        self.outcome = Outcome(status, objective, metrics, error, reason)
        self._tell(lambda logger: logger.finish(result))

    def abandon(self, error: BaseException, *, packed: bool) -> None:
        """The trainer stops with ``error``: a signal leaves the job to be continued, anything else fails it.

        packed: the error may be another job's, or that of too large a pack; this job is left to be continued, too.
        """
        if self.outcome is not None:
            return
        if packed or isinstance(error, KeyboardInterrupt):
            self._tell(lambda logger: logger.finish({"status": "interrupted"}))
            return
        try:
            self.finish("failed", error=_words(error), reason="disk_full" if is_disk_full(error) else "error")
        except OSError as second:  # a full disk takes no result either; the folder stays that of an interrupted run
            log.warning("%s: the failure could not be recorded: %s", self.spec.folder, second)
            self._tell(lambda logger: logger.finish({"status": "interrupted"}))


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
