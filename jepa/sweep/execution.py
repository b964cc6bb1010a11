"""Run jobs through a Hydra launcher until each has a result.

The files of the jobs decide which jobs are left. The launcher's return values and exceptions do not.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from jepa.errors import ConfigError, check_choice, check_count
from jepa.store import locks
from jepa.store.metrics import recorded_bytes
from jepa.sweep import devices, records
from jepa.sweep.jobs import Job
from jepa.sweep.packed import EXECUTORS
from jepa.sweep.sitting import Sitting
from jepa.sweep.task import JobTask, locate

log = logging.getLogger(__name__)

LEAVING_S = 90.0  # after the launcher has raised: how long to wait for its jobs to save their checkpoints
POLL_S = 0.2
FRUITLESS = 5  # give up after this many launches in a row without a result, a killed job or a new record


@dataclass(frozen=True)
class LauncherKind:
    """Properties of a launcher that Hydra's interface does not tell."""

    name: str
    parallel: int  # concurrent jobs
    isolate: bool  # its workers may fork a child process for each job
    tied: bool  # its jobs stop when the sweep ends
    deals_gpus: bool  # the launcher assigns GPUs, so JobTask does not


def launcher_kind(config: DictConfig) -> LauncherKind:
    """The properties of the launcher chosen with ``hydra/launcher=``. An unknown launcher counts as a serial one.

    Raises:
        ConfigError: the launcher's number of processes is invalid.
    """
    node = config.hydra.launcher
    target = str(node.get("_target_", ""))
    if "joblib" in target:
        n_jobs = _whole(node, "n_jobs")
        if n_jobs == 0:
            raise ConfigError("hydra.launcher.n_jobs=0: must be a number of processes, or -1 for one a core")
        return LauncherKind(
            "joblib",
            n_jobs if n_jobs > 0 else devices.cores(),
            isolate=sys.platform.startswith("linux"),
            tied=True,
            deals_gpus=False,
        )
    if "submitit" in target:
        parallel = _whole(node, "array_parallelism", 1)
        return LauncherKind("submitit", parallel, isolate=False, tied=False, deals_gpus=True)
    if "ray" in target.lower():
        cpus = OmegaConf.select(node, "ray.remote.num_cpus") or 1  # of a job; may be a fraction
        if isinstance(cpus, bool) or not isinstance(cpus, (int, float)) or cpus <= 0:
            raise ConfigError(f"hydra.launcher.ray.remote.num_cpus={cpus!r}: must be a number above 0")
        total = _whole(node, "ray.init.num_cpus", devices.cores())
        return LauncherKind("ray", max(1, int(total // cpus)), isolate=False, tied=True, deals_gpus=True)
    if "packed" in target:
        if (workers := _whole(node, "num_workers")) < 1:
            raise ConfigError(f"hydra.launcher.num_workers={workers}: must be at least 1")
        check_count("hydra.launcher.pack_size", _whole(node, "pack_size", 1))
        if node.get("executor") is not None:
            check_choice("hydra.launcher.executor", node.executor, EXECUTORS)
        return LauncherKind("packed", workers, isolate=False, tied=True, deals_gpus=False)
    if "basic" in target:
        return LauncherKind("basic", 1, isolate=False, tied=True, deals_gpus=True)
    return LauncherKind(target.rpartition(".")[2], 1, isolate=False, tied=True, deals_gpus=True)


def _whole(node: DictConfig, key: str, default: int | None = None) -> int:
    """The whole number at ``key`` of a launcher's configuration; ``default`` where the key is missing or null."""
    value = OmegaConf.select(node, key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"hydra.launcher.{key}={value!r}: must be a whole number")
    return value


@dataclass
class Runner:
    """Launches jobs of one sitting."""

    launcher: Launcher
    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig  # for the launcher's setup
    sitting: Sitting
    kind: LauncherKind
    retries: int  # of a job that was killed
    on_batch: Callable[[Sequence[Job]], None] = lambda jobs: None
    next_index: int = 0
    stopping: Callable[[], bool] = lambda: False
    troubles: list[str] = field(default_factory=list)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run every job to a result, and wait for jobs that another process runs.

        Returns early if the sweep is stopping. A failed job raises nothing.
        """
        pending = list(jobs)
        fruitless = 0
        while pending and not self.stopping():
            before = _progress(pending)
            self._launch(pending)
            pending = [job for job in pending if not self._settled(job)]
            if self.stopping() or not pending:
                return
            if all(locks.holder(job.folder) for job in pending):
                time.sleep(POLL_S)
                continue
            fruitless = 0 if _progress(pending) != before else fruitless + 1
            if fruitless >= FRUITLESS:
                self._give_up(pending)
                return

    def _launch(self, jobs: Sequence[Job]) -> None:
        """Call the launcher once for the jobs that no other process runs."""
        batch = [job for job in jobs if locks.holder(job.folder) is None]
        if not batch:
            return
        self.on_batch(batch)
        task = JobTask(
            task=self.task_function,
            home=locate(self.task_function),
            sitting=self.sitting,
            isolate=self.kind.isolate,
            tied=self.kind.tied,
            num_workers=0 if self.kind.deals_gpus else self.kind.parallel,
            extras={job.hash: job.extras for job in batch if job.extras},
        )
        self.launcher.setup(hydra_context=self.hydra_context, task_function=task, config=self.config)
        try:
            self.launcher.launch([job.launch_overrides for job in batch], initial_job_idx=self.next_index)
        except Exception as error:  # a worker died or a queue refused: the jobs' files tell which are left
            self.troubles.append(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")
            log.debug("the launcher raised", exc_info=True)
            self._let_leave(batch)
        self.next_index += len(batch)

    def _let_leave(self, jobs: Sequence[Job]) -> None:
        """Wait for the jobs of this sweep that still hold their folder: they are saving their checkpoints."""
        if not self.kind.tied:
            return
        deadline = time.monotonic() + LEAVING_S
        while time.monotonic() < deadline and any(self._is_mine(job) for job in jobs if locks.holder(job.folder)):
            time.sleep(POLL_S)

    def _is_mine(self, job: Job) -> bool:
        return bool(locks.last_holder(job.folder).get("sitting") == self.sitting.name)

    def _settled(self, job: Job) -> bool:
        """Whether the job needs no further launch.

        Counts the kill of a job. A job that was killed more than ``retries`` times gets a failed result.
        """
        if records.done_result(job.folder, job.hash, job.metric) is not None:
            return True
        if locks.holder(job.folder) is not None:
            return False
        if records.read_result(job.folder) is not None:
            return True  # failed
        record = locks.last_holder(job.folder)
        killed = record.get("sitting") == self.sitting.name and not record.get("left")
        if self.stopping() or not killed:
            return False
        locks.forget(job.folder)
        job.deaths += 1
        if job.deaths <= self.retries:
            return False
        error = f"killed {job.deaths} times (no word from the process; out of memory?)"
        records.write_failure(job.folder, job_hash=job.hash, error=error, overrides=job.overrides, reason="died")
        return True

    def _give_up(self, jobs: Sequence[Job]) -> None:
        reason = self.troubles[-1] if self.troubles else "the launcher started nothing"
        for job in jobs:
            records.write_failure(
                job.folder, job_hash=job.hash, error=f"could not be run: {reason}", overrides=job.overrides
            )


def _progress(jobs: Sequence[Job]) -> list[tuple[str, int, int]]:
    """A value that changes when a launch makes progress: the jobs left, their kills, the bytes of their metrics."""
    return [(job.hash, job.deaths, recorded_bytes(job.folder)) for job in jobs]


def make_launcher(config: DictConfig, hydra_context: HydraContext, task_function: TaskFunction) -> Launcher:
    """The launcher that ``hydra/launcher=`` names.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        return Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
    except (ImportError, RuntimeError) as error:
        name = str(config.hydra.runtime.choices.get("hydra/launcher"))
        extra = name.split("_")[0]
        raise ConfigError(
            f"hydra/launcher={name}: its package is not installed; pip install -e .[{extra}] ({error})"
        ) from error
