"""The state of a run besides the tensors of its program: counters, random streams, and the files in its folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jepa.data.normalization import Normalizer
from jepa.data.stream import Stream
from jepa.errors import error_words
from jepa.files import is_disk_full
from jepa.loggers.base import Logger, RunInfo
from jepa.loggers.group import LoggerGroup
from jepa.methods.base import Method
from jepa.probes import ProbeReport
from jepa.probes.report import FloatArray
from jepa.provenance import made_by, other_code
from jepa.results.backend import prepare_matplotlib
from jepa.seeding import generator
from jepa.store import checkpoint, layout
from jepa.store.metrics import read_metrics
from jepa.store.result import metric_value, write_result
from jepa.training.moved import weights_moved
from jepa.training.outcome import Outcome, reference_lines, result_of
from jepa.training.plan import Plan

log = logging.getLogger(__name__)

Decode = Callable[[], Mapping[str, FloatArray]]  # images by what they are decoded from, each [T, n, C, H, W]


class Restored(NamedTuple):
    """Where a run begins."""

    state: dict[str, Any] | None  # the checkpoint that the run continues from
    initial_model: dict[str, Tensor] | None  # without a checkpoint: the weights of init_from, if given


class RunState:
    """The streams, counters, metrics and files of a run; the program holds the tensors."""

    def __init__(self, plan: Plan, *, loggers: Sequence[Logger] = (), resume: bool) -> None:
        """loggers: they receive the run's numbers. resume: continue from the folder's checkpoint, if there is one."""
        self.plan = plan
        self._loggers = LoggerGroup(loggers)
        self.record = plan.record()  # provenance, copied into result.json
        self.found = checkpoint.latest(plan.folder, plan.config_hash) if resume else None
        self.step = 0
        self.train_seconds = 0.0
        self.metrics: dict[str, Any] = {}
        self.outcome: Outcome | None = None
        self._loss_weights: Mapping[str, str] = {}  # how each term enters the total, for the plots
        self._context_frames: int | None = None  # number of leading frames that predictions depend on; None: unknown
        self._warnings: tuple[str, ...] = ()  # of the last probe
        self._seconds_at_log = 0.0

    def describe(self, method: Method) -> None:
        """Note the properties of the method that plots and reference lines show."""
        self._loss_weights, self._context_frames = method.loss_weights(), method.context_frames

    # --- streams and state -------------------------------------------------------------------------------------

    def restore(self, current: Mapping[str, Tensor], *, total_steps: int) -> Restored:
        """Restore streams and counters from the checkpoint, or make fresh ones; return what the program has to load.

        current: the model's present tensors, by name.

        Raises:
            ConfigError: ``init_from`` is missing, is damaged or has other shapes; images are missing.
        """
        state = None if self.found is None else self.found.state
        if state is not None:
            self._load_state(state)
            log.info("continuing from %s, step %d of %d", self.found and self.found.path, self.step, total_steps)
            return Restored(state, None)
        self._make_streams(self.plan.dataset.estimate_normalizer(self.plan.config.seed, self.plan.device))
        path = self.plan.config.init_from
        if path is None:
            return Restored(None, None)
        model, unused = checkpoint.initial_model(Path(path), current)
        if unused:
            log.info("init_from=%s: not used: %s", path, ", ".join(unused))
        return Restored(None, model)

    def _make_streams(self, normalizer: Normalizer | None) -> None:
        self.normalizer = normalizer
        self.stream = self.separate_stream("train")
        self.model_generator = self.generator("train/model")

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh generator for one purpose of this run, on its device."""
        return generator(self.plan.config.seed, purpose, self.plan.device)

    def separate_stream(self, purpose: str, condition: str | None = None) -> Stream:
        """A fresh stream for one purpose, for example for judging probes (``probe_judge``).

        condition: the name of the condition whose noise it has; None: the noise of training. The motion and the
          normalisation are those of training in any case.
        """
        dataset = self.plan.dataset if condition is None else self.plan.conditions[condition]
        if purpose != "train":
            dataset = self.plan.probe.prepared(dataset)
        return Stream(dataset, self.plan.config.seed, purpose, self.normalizer, self.plan.device)

    def state(self) -> dict[str, Any]:
        """The entries of a checkpoint besides the tensors of the program."""
        return {
            "config_hash": self.plan.config_hash,
            "step": self.step,
            "stream": self.stream.state_dict(),
            "model_generator": self.model_generator.get_state(),
            "normalizer": None if self.normalizer is None else self.normalizer.state_dict(),
            "train_seconds": self.train_seconds,
            "seconds_at_log": self._seconds_at_log,
            **{name: self.record.get(name) for name in ("started", "resumed", "code")},
            # A run that is stopped while it is judged, after its last step, logs no losses when it is resumed.
            "metrics": {name: value for name, value in self.metrics.items() if isinstance(value, float)},
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, which :meth:`state` returned."""
        saved = state["normalizer"]
        self._make_streams(None if saved is None else Normalizer.of(saved, self.plan.device))
        self.stream.load_state_dict(state["stream"])
        self.model_generator.set_state(state["model_generator"])
        self.step = state["step"]
        self.train_seconds = state["train_seconds"]
        self._seconds_at_log = state.get("seconds_at_log", math.nan)  # an older checkpoint: the rate is unknown
        self.metrics.update(state["metrics"])
        if state.get("started"):  # keep the time of the first start, and note this one as a resume
            now = self.record["started"]
            self.record.update(started=state["started"], resumed=[*(state.get("resumed") or []), now])
        begun_by = state.get("code")
        if begun_by and made_by({"code": begun_by}) == "other":
            log.warning("%s: begun by other code (%s)", self.plan.folder, other_code({"code": begun_by}))

    # --- during training ---------------------------------------------------------------------------------------

    def open(self, total_steps: int) -> None:
        """Set damaged checkpoints aside; then tell the loggers that the run starts, or continues after ``step``."""
        for path, reason in self.found.damaged if self.found else []:
            log.warning("%s; it is kept as %s", reason, checkpoint.set_aside(path).name)
        if self.found is not None and self.found.damaged:
            begin = f"continues from {self.found.path}, step {self.step}" if self.found.path else "starts again"
            log.warning("%s: the run %s", self.plan.folder, begin)
        run = RunInfo(
            folder=self.plan.folder,
            record=self.record,
            step=self.step,
            total_steps=total_steps,
            steps_per_epoch=self.plan.dataset.steps_per_epoch,
            sweep=self.plan.sweep_name,
        )
        self._loggers.tell(lambda logger: logger.start(run))

    def log(self, means: Mapping[str, float], num_steps: int, learning_rate: float) -> None:
        """Record the losses' means over the last ``num_steps`` steps. A total that is not finite fails the run."""
        seconds = self.train_seconds - self._seconds_at_log
        sequences = num_steps * self.plan.dataset.batch_size
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
        if not math.isfinite(means["loss/total"]):
            self.finish("failed", error=f"the loss was not finite by step {self.step}", reason="not_finite")

    def report(self, epoch: int, report: ProbeReport) -> None:
        """Record a probe between epochs. If ``on_probe`` returns true, the run ends here as pruned."""
        self._take(report)
        stop = self.plan.on_probe
        if stop is not None and stop(epoch, {k: v for k, v in self.metrics.items() if isinstance(v, float)}):
            self.finish("pruned")

    def save(self, program: Mapping[str, Any]) -> None:
        """Write a checkpoint. program: the entries of the program and of the trainer, beside those of :meth:`state`."""
        checkpoint.save(self.plan.folder, {**program, **self.state()})

    def judge(
        self,
        report: ProbeReport,
        model: Mapping[str, Tensor],
        decode: Decode | None = None,
        *,
        diagnostics: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the final probe, save its maps, draw the plots, and finish.

        Args:
            model: the trained weights by name.
            decode: makes the images that the method decodes from the first judged sequences, if it has a decoder.
            diagnostics: further metrics of the representation (``jepa.probes.diagnostics``).
        """
        self._take(report)
        self.metrics.update(diagnostics or {})
        moved = weights_moved(self.plan, model)
        self.metrics.update({} if moved is None else {"weights_moved": moved})
        self._keep_maps(report)
        if self.plan.planner is not None and not report.broken:
            self._plan(report, model)
        if self.plan.config.plots:
            for path in self._draw(report, decode):
                self._show(path)
        if report.broken:
            error = f"the probe's result is not finite: {', '.join(report.broken)}"
            self.finish("failed", error=error, reason="not_finite")
        else:
            self.finish("finished")

    def _plan(self, report: ProbeReport, model: Mapping[str, Tensor]) -> None:
        """Plan with the trained model; the numbers are metrics, and what moves them is the entry ``planning``."""
        from jepa.training.planning import draw, plan_after_training

        planned = plan_after_training(self.plan, model, self.normalizer, report.maps)
        self.metrics.update(planned.metrics)
        self._record("plan", planned.metrics)
        self.record["planning"] = planned.record
        for text in planned.record["warnings"]:
            log.info("warning: %s", text)
        if self.plan.config.plots:
            for path in draw(self.plan.folder, planned):
                self._show(path)

    def _keep_maps(self, report: ProbeReport) -> None:
        """Save the fitted maps, with which ``run.probe`` reads locations out. Nothing else reads the file."""
        try:
            checkpoint.write(self.plan.folder / layout.PROBE, dict(report.maps))
        except OSError as error:
            log.warning("the fitted probes could not be saved, the run goes on without them: %s", error)

    def _draw(self, report: ProbeReport, decode: Decode | None) -> list[Path]:
        """Draw the plots. If drawing fails, log a warning and go on without plots."""
        try:
            prepare_matplotlib()
            from jepa.results.run_plots import draw_all

            folder = self.plan.folder / layout.PLOTS
            return draw_all(
                folder,
                samples=report.samples,
                metrics=self.metrics,
                records=read_metrics(self.plan.folder),
                reference=self._reference(),
                loss_weights=self._loss_weights,
                decode=decode,
            )
        except Exception as error:
            log.warning("the plots could not be drawn, the run goes on without them: %s", error_words(error))
            return []

    def _reference(self) -> Mapping[str, Any] | None:
        return reference_lines(self.plan, self.metrics, self._context_frames)

    def _take(self, report: ProbeReport) -> None:
        self._warnings = report.warnings
        metrics = report.as_metrics()
        self.metrics.update(metrics)
        self._record("probe", {name: value for name, value in metrics.items() if isinstance(value, float)})

    def _record(self, kind: str, values: Mapping[str, float]) -> None:
        epoch = self.step / self.plan.dataset.steps_per_epoch
        place = {"step": self.step, "epoch": epoch, "kind": kind, "time_s": self.train_seconds}
        self._loggers.tell(lambda logger: logger.record({**place, **values}))

    def _show(self, path: Path) -> None:
        """Tell the loggers of a plot."""
        self._loggers.tell(lambda logger: logger.plot(path.stem, path))

    # --- the end -----------------------------------------------------------------------------------------------

    def finish(self, status: str, *, error: str | None = None, reason: str | None = None) -> None:
        """Write ``result.json`` atomically, after all other files, and close the loggers.

        status, error, reason: as in :class:`Outcome`.
        """
        plan = self.plan
        metrics = {**self.metrics, "train_seconds": self.train_seconds}
        if self.train_seconds > 0:
            metrics["sequences_per_second"] = self.step * plan.dataset.batch_size / self.train_seconds
        measured = metric_value(metrics, plan.config.objective) if error is None else None
        outcome = Outcome(status, math.nan if measured is None else measured, metrics, error, reason)
        result = result_of(
            plan, outcome, self.record, step=self.step, reference=self._reference(), warnings=self._warnings
        )
        if status == "finished":  # before the result is written: nothing would delete it after a kill in between
            checkpoint.drop_previous(plan.folder)
        write_result(plan.folder, result)
        self.outcome = outcome
        self._loggers.tell(lambda logger: logger.finish(result))

    def abandon(self, error: BaseException, *, packed: bool = False) -> None:
        """End the run after ``error``: a KeyboardInterrupt leaves it unfinished; any other error makes it failed.

        packed: the run is one of a pack. Another run of the pack may have caused the error, so this run is left
          unfinished and can be continued.
        """
        if self.outcome is not None:
            return
        if packed or isinstance(error, KeyboardInterrupt):
            self._loggers.tell(lambda logger: logger.finish({"status": "interrupted"}))
            return
        try:
            self.finish("failed", error=error_words(error), reason="disk_full" if is_disk_full(error) else "error")
        except OSError as second:  # the disk is too full for a result; the run can be continued
            log.warning("%s: the failure could not be recorded: %s", self.plan.folder, second)
            self._loggers.tell(lambda logger: logger.finish({"status": "interrupted"}))
