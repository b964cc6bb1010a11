"""The packed launcher's work: compose the jobs, group them into packs, run each pack in a separate process.

If a pack is killed or runs out of memory, the other packs go on. The pack is split into smaller packs, which continue
from the checkpoints of their jobs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

from jepa.errors import error_words
from jepa.packing.pack import PackFailed, PackOptions, automatic_pack_size, group, run_pack
from jepa.prepare import make_plan
from jepa.store import locks
from jepa.store.layout import OUTPUT_LOG
from jepa.store.result import DONE
from jepa.sweep import devices, folders, records
from jepa.sweep.child import forked, in_child
from jepa.sweep.task import JobTask
from jepa.training.plan import Plan
from jepa.training.runtime import prepare

log = logging.getLogger(__name__)

POLL_S = 0.1
EXIT_FAILED = 1
EXIT_SPLIT = 3  # the program of the whole pack failed: retry the jobs in smaller packs
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class PackedJob:
    """One job of a launch."""

    overrides: list[str]
    config: DictConfig
    plan: Plan


def launch(
    *,
    loader: ConfigLoader,
    config: DictConfig,
    task: Callable[[DictConfig], Any],
    options: PackOptions,
    num_workers: int,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> list[JobReturn]:
    """Run every job.

    Args:
        loader, config: used to compose the jobs.
        task: from the project's sweeper a :class:`JobTask`, whose leases and operational keys are used. From another
            sweeper the task function ``jepa.run.run``, which is not called, because this module does its work.
        options: settings of the packs.
        num_workers: concurrent packs, each with an equal share of the cores.
        job_overrides: the overrides of each job.
        initial_job_idx: the number of the first job.

    Returns:
        One JobReturn for each job, in order, with the objective or with the error of a failed job.
    """
    sitting_task = task if isinstance(task, JobTask) else None
    jobs = [
        _compose(loader, config, list(overrides), initial_job_idx + index, sitting_task)
        for index, overrides in enumerate(job_overrides)
    ]
    waiting = [index for index, job in enumerate(jobs) if _done(job.plan) is None]
    plans = [jobs[index].plan for index in waiting]
    size = options.pack_size or (_measured_pack_size(plans[0]) if plans else 1)
    packs = [[waiting[row] for row in rows] for rows in group(plans, pack_size=size)]
    threads = devices.threads_per_job(num_workers)
    _run_packs(jobs, packs, num_workers, lambda pack: _train(pack, options, threads, sitting_task), sitting_task)
    return [_job_return(job) for job in jobs]


def _compose(
    loader: ConfigLoader, config: DictConfig, overrides: list[str], number: int, task: JobTask | None
) -> PackedJob:
    cfg = loader.load_sweep_config(config, overrides)
    with open_dict(cfg):
        cfg.hydra.job.id = str(number)
        cfg.hydra.job.num = number
    if task is not None:
        cfg = task.prepared(cfg, Path(str(cfg.hydra.sweep.subdir)).name)
    return PackedJob(overrides, cfg, make_plan(cfg))


def _done(plan: Plan) -> dict[str, Any] | None:
    return None if plan.config.rerun else records.done_result(plan.folder, plan.config_hash, plan.config.objective)


# --- packs, each in a process ----------------------------------------------------------------------------------------


def _run_packs(
    jobs: Sequence[PackedJob],
    packs: Sequence[list[int]],
    num_workers: int,
    train: Callable[[list[PackedJob]], int],
    task: JobTask | None,
) -> None:
    """Run ``packs``, ``num_workers`` at a time. A pack that fails as a whole is replaced by smaller packs."""
    queue = list(packs)
    running: dict[int, list[int]] = {}
    try:
        while running or (queue and not _stopping(task)):
            while queue and len(running) < num_workers and not _stopping(task):
                rows = queue.pop(0)
                running[_fork([jobs[row] for row in rows], train)] = rows
            for child in list(running):
                ended, status = os.waitpid(child, os.WNOHANG)
                if not ended:
                    continue
                rows = running.pop(child)
                code = os.waitstatus_to_exitcode(status)
                if (code == EXIT_SPLIT or code < 0) and len(rows) > 1 and not _stopping(task):
                    log.warning("a pack of %d jobs ended (exit code %d); it goes on as smaller ones", len(rows), code)
                    queue[:0] = _smaller(jobs, rows)
            time.sleep(POLL_S)
    except BaseException:
        for child in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        for child in running:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
        raise


def _smaller(jobs: Sequence[PackedJob], rows: list[int]) -> list[list[int]]:
    """Split a pack: new packs of at most half its size, each of jobs with checkpoints of the same step."""
    left = [row for row in rows if _done(jobs[row].plan) is None]
    packs = group([jobs[row].plan for row in left], pack_size=len(rows) // 2)
    return [[left[index] for index in pack] for pack in packs]


def _stopping(task: JobTask | None) -> bool:
    return task is not None and task.sitting.stop_file.exists()


def _fork(pack: list[PackedJob], train: Callable[[list[PackedJob]], int]) -> int:
    """Start ``train(pack)`` in a child process. Returns the child's process id."""
    child = forked()
    if child == 0:
        code = EXIT_FAILED
        with contextlib.suppress(BaseException):
            os.setpgid(0, 0)  # Ctrl-C in the terminal reaches only the sweep, which stops its jobs
            code = train(pack)
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return child


def _measured_pack_size(plan: Plan) -> int:
    """The number of jobs like ``plan`` that fit in memory, measured in a child process."""
    text = in_child(lambda: str(automatic_pack_size(plan)))
    if not text:
        log.warning(
            "hydra.launcher.pack_size=null: how many jobs fit in memory could not be found out; each is a pack of its "
            "own, which is slow on a GPU (hydra.launcher.pack_size=8, say, decides it)"
        )
    return int(text or 1)


def _train(pack: list[PackedJob], options: PackOptions, threads: int, task: JobTask | None) -> int:
    """Run one pack in this (child) process. Returns the exit code of the process."""
    with _held(pack, task) as plans:
        if not plans:
            return 0
        config = plans[0].config
        prepare(device=plans[0].device, threads=config.threads or threads, precision=config.precision)
        try:
            run_pack(plans, options)
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except PackFailed:
            for plan in plans:  # write to the jobs' logs, because the screen shows the sweep's display
                with open(plan.folder / OUTPUT_LOG, "a", encoding="utf-8") as file:
                    traceback.print_exc(file=file)
            return EXIT_SPLIT
        except Exception as error:
            for plan in plans:
                records.write_failure(
                    plan.folder,
                    job_hash=plan.config_hash,
                    error=error_words(error),
                    overrides=plan.overrides,
                    traceback=traceback.format_exc(),
                )
            return EXIT_FAILED
    return 0


@contextlib.contextmanager
def _held(pack: Sequence[PackedJob], task: JobTask | None) -> Iterator[list[Plan]]:
    """Hold the leases of the jobs that are not done yet, and stop the pack when the sweep stops."""
    if task is None:
        yield [job.plan for job in pack]
        return
    with contextlib.ExitStack() as stack:
        plans, leases = [], []
        for job in pack:
            held = locks.Lease.take(job.plan.folder, {"sitting": task.sitting.name})
            if held is None:
                continue  # another process runs the job
            stack.callback(held.release)
            if _done(job.plan) is None:
                folders.make_way(job.plan.folder, job.plan.config.objective, job.plan.scientific)
                plans.append(job.plan)
                leases.append(held)
        stack.enter_context(task.watched(locks.Leases(leases), here=False))
        if pack:
            stack.enter_context(task.gpu(pack[0].config))
        yield plans


# --- the return values for Hydra -----------------------------------------------------------------------------------


def _job_return(job: PackedJob) -> JobReturn:
    result = records.read_result(job.plan.folder) or {"status": "interrupted"}
    done = result["status"] in DONE
    returned = JobReturn(
        overrides=job.overrides,
        cfg=job.config,
        hydra_cfg=OmegaConf.masked_copy(job.config, "hydra"),
        working_dir=str(job.plan.folder),
        task_name="run",
    )
    returned.status = JobStatus.COMPLETED if done else JobStatus.FAILED
    returned.return_value = (
        result.get("objective") if done else RuntimeError(str(result.get("error") or result["status"]))
    )
    return returned
