"""Run the jobs of one sweep folder: select the jobs left, handle signals, show the display, print the summary."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from jepa.errors import ConfigError
from jepa.files import remove_leftovers
from jepa.store import locks
from jepa.store.result import DONE
from jepa.store.sweep import write_state
from jepa.sweep import folders, records, report
from jepa.sweep.execution import LauncherKind, Runner, make_launcher
from jepa.sweep.jobs import Job, distinct
from jepa.sweep.overview import Overview
from jepa.sweep.points import short
from jepa.sweep.progress import Display
from jepa.sweep.sitting import Sitting
from jepa.sweep.spec import Switches
from jepa.sweep.task import job_in_this_process
from jepa.training.interrupts import heeded

FAILED, INTERRUPTED = 1, 130
NAME_LENGTH = 100  # the most characters of a job's label in the name for its loggers
POLL_S = 0.5
GRACE_S = 10.0  # while stopping: how long to wait for the launcher to return when none of its jobs runs


@dataclass(frozen=True)
class Context:
    """The objects that Hydra gives a sweeper, and the dotted path of the function that checks a job."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction
    check: str | None


@dataclass(kw_only=True)
class Work:
    """Runs the jobs of one sweep folder."""

    context: Context
    folder: Path  # the sweep's folder; absolute
    kind: LauncherKind
    switches: Switches
    retries: int  # how often a killed job is started again
    axes: dict[str, list[str]]  # the keys in which jobs differ, with their values
    command: str  # the user's command line
    name: str  # the sweep's name
    auto: list[str]  # the overrides that hydra/launcher=auto chose, for sweep.json
    jobs: list[Job] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)  # by job hash: why its folder cannot be used

    def __post_init__(self) -> None:
        self.overview = Overview(parallel=self.kind.parallel)
        self._stopped = False

    def add(self, jobs: Sequence[Job]) -> None:
        """Add jobs. The display does not announce results that exist already."""
        self.jobs = distinct([*self.jobs, *jobs])
        for job in jobs:
            job.extras.update(self._extras(job))
        self.overview.add(jobs)

    def to_do(self, jobs: Sequence[Job]) -> list[Job]:
        """Copy results from other sweeps (``reuse``). Returns the jobs that still need to run."""
        found = []
        for job in distinct(jobs):
            state = records.status(job.folder, job.hash, job.metric)
            if not self.switches.rerun and (state in DONE or self._reused(job)):
                continue
            if (state != "failed" or self.switches.retry_failed) and self._is_usable(job, state):
                found.append(job)
        return found

    def _is_usable(self, job: Job, state: str) -> bool:
        """Whether the job's folder can be used. Prints a line about damaged files. Renames folders that block locks."""
        if state != "running" and job.damage:
            print(f"{job.label}: {job.damage}; what is in {job.folder} is kept, and the job is run again", flush=True)
        try:
            folders.clear_claims(job.folder)
        except OSError as error:
            self.unusable[job.hash] = f"its folder cannot be used ({error.strerror})"
            return False
        return True

    def _reused(self, job: Job) -> bool:
        for source in (records.place_in(folder, job.hash) for folder in self.switches.reuse):
            if records.reuse_result(source, job.folder, job.hash, job.metric, job.names):
                return True
            if records.earlier_result(source, job.hash) is not None:
                print(f"not reused: {source} has no metric {job.metric!r}; {job.label} is run")
        return False

    # --- running -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def sitting(self, launch_config: DictConfig, on_result: Callable[[Job], None] | None = None) -> Iterator[None]:
        """Prepare :meth:`run`: hold the sitting's lock, handle signals, and show the display until the block ends.

        Args:
            launch_config: the configuration for the launcher's setup.
            on_result: called in another thread for every job that gets a result.
        """
        folders.make(self.folder)
        remove_leftovers(self.folder)
        self._sitting = Sitting.here(self.folder, f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        config, context = self.context.config, self.context
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(self.folder)
        self._runner = Runner(
            launcher=make_launcher(config, context.hydra_context, context.task_function),
            hydra_context=context.hydra_context,
            task_function=context.task_function,
            config=launch_config,
            sitting=self._sitting,
            kind=self.kind,
            retries=self.retries,
            stopping=lambda: self._stopped,
        )
        if (done := self.overview.count(*DONE)) and not self.switches.rerun:
            print(f"{done} of {len(self.jobs)} jobs are done already", flush=True)
        self._display = Display(self.overview, mode=self.switches.progress, on_result=on_result)
        with self._sitting.held(), self._signals(), self._display:
            yield

    def run(self, jobs: Sequence[Job]) -> None:
        """Launch these jobs and wait for all of them.

        Raises:
            SystemExit: 130 if a signal stopped the sweep.
        """
        for job in jobs:
            self.overview.forget(job)
        try:
            self._runner.run(jobs)
        except KeyboardInterrupt:
            self._stopped = True
            self._sitting.stop()
        if self._stopped:
            done = sum(records.done_result(job.folder, job.hash, job.metric) is not None for job in self.jobs)
            self._display.note(
                f"interrupted: {done} of {len(self.jobs)} jobs are done; the same command goes on:\n  {self.command}"
            )
            raise SystemExit(INTERRUPTED)

    def finish(self) -> list[dict[str, Any]]:
        """Print the last lines. Returns the results of all jobs, in order.

        Raises:
            SystemExit: 1 if a job failed or has no result.
        """
        self.overview.settle()
        results = self.overview.results
        for key, error in self.unusable.items():
            results[key] = {"status": "failed", "error": error, "metrics": {}, "objective": None}
        failed = [job for job in self.jobs if results.get(job.hash, {}).get("status") == "failed"]
        report.ending(self.overview, self.jobs, folder=self.folder, failed=failed)
        if failed or len(results) < len(self.jobs):
            raise SystemExit(FAILED)
        return [results[job.hash] for job in self.jobs]

    def write_state(self) -> None:
        """Write sweep.json: the sweep's name, its axes, and the label and overrides of each job folder.

        Raises:
            ConfigError: the file cannot be written.
        """
        state = {
            "name": self.name,
            "command": self.command,
            "launcher": self.kind.name,
            **({"auto": self.auto} if self.auto else {}),
            "axes": self.axes,
            "jobs": {job.hash: _entry(job) for job in self.jobs},
        }
        try:
            write_state(self.folder, state)
        except OSError as error:
            raise ConfigError(f"{self.folder}: cannot be written ({error.strerror})") from error

    def _extras(self, job: Job) -> dict[str, Any]:
        """Operational keys for one job: no progress display, and a name and tags for loggers that have these keys."""
        config = self.context.config
        extras: dict[str, Any] = {}
        if OmegaConf.select(config, "progress") is not None:
            extras["progress"] = "none"
        axes = {short(key) for key, values in self.axes.items() if values}  # the axes of a search list no values
        words = [word for word in job.label.split() if word.partition("=")[0] in axes]
        for key, node in (OmegaConf.select(config, "logger") or {}).items():
            if node is not None and "tags" in node:
                extras[f"logger.{key}.tags"] = [*(node.tags or []), *words]
            if node is not None and "name" in node and node.name is None:
                extras[f"logger.{key}.name"] = f"{job.label[:NAME_LENGTH]} {job.hash[:6]}"
        return extras

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle signals. The first one tells the running jobs to save their checkpoints. The second one ends at once.

        A closed terminal sends SIGHUP more than once, so a second SIGHUP changes nothing.

        A launcher would wait for jobs in a cluster's queue. Therefore, when no job of the sweep runs any more, this
        process sends itself the second signal.
        """
        over = threading.Event()

        def insist() -> None:
            idle_since = time.monotonic()
            while not over.wait(POLL_S):
                if any(locks.holder(job.folder) for job in self.jobs):
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > GRACE_S:
                    os.kill(os.getpid(), signal.SIGINT)
                    return

        def handle(number: int, frame: FrameType | None) -> None:
            again, self._stopped = self._stopped, True
            if again and number == signal.SIGHUP:
                return
            self._sitting.stop()
            if again or job_in_this_process():
                raise KeyboardInterrupt
            self._display.note("stopping: the running jobs save their checkpoints (Ctrl-C again: at once)")
            threading.Thread(target=insist, daemon=True).start()

        before = {number: signal.signal(number, handle) for number in heeded()}
        try:
            yield
        finally:
            over.set()
            for number, handler in before.items():
                signal.signal(number, handler)


def _entry(job: Job) -> dict[str, Any]:
    """A job's entry in sweep.json."""
    entry: dict[str, Any] = {"label": job.label, "overrides": job.overrides}
    places = {"trial": job.trial, "final_of": job.final_of}
    return {**entry, **{key: place for key, place in places.items() if place is not None}}
