"""The state of job folders: finished, pruned, failed, running, interrupted or new. The state is read from files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jepa.files import Damaged, atomic_path, remove_leftovers
from jepa.provenance import timestamp
from jepa.store import locks
from jepa.store.archive import archived_run
from jepa.store.config import write_config
from jepa.store.layout import CONFIG, METRICS, OVERRIDES, RESULT, RUN_LOG
from jepa.store.metrics import begin_metrics
from jepa.store.result import DONE, counted, write_result
from jepa.store.result import read_result as read_stored
from jepa.store.run_log import append_failure


def read_result(folder: Path, metric: str | None = None) -> dict[str, Any] | None:
    """The result in ``folder`` as a sweep counts it; None if there is no readable result.

    metric: as in :func:`jepa.store.result.counted`.
    """
    try:
        result = read_stored(folder)
    except Damaged:
        return None
    return None if result is None else counted(result, metric)


def done_result(folder: Path, job_hash: str, metric: str | None = None) -> dict[str, Any] | None:
    """The finished or pruned result of the configuration ``job_hash`` in ``folder``, or None.

    metric: as in :func:`read_result`.
    """
    result = read_result(folder, metric)
    if result is None or result["status"] not in DONE or result.get("config_hash", job_hash) != job_hash:
        return None
    return result


def status(folder: Path, job_hash: str, metric: str | None = None) -> str:
    """The job's state: ``finished``, ``pruned``, ``failed``, ``running``, ``interrupted`` (has files) or ``new``."""
    done = done_result(folder, job_hash, metric)
    if done is not None:
        return str(done["status"])
    if locks.holder(folder) is not None:
        return "running"
    result = read_result(folder, metric)
    if result is not None and result["status"] == "failed":
        return "failed"
    return "interrupted" if folder.is_dir() and any(folder.iterdir()) else "new"


def write_failure(
    folder: Path, *, job_hash: str, error: str, overrides: Iterable[str], traceback: str = "", reason: str = "error"
) -> None:
    """Write a failed result for a job that did not write one itself. An existing result is kept.

    Args:
        folder: the job's folder.
        job_hash: the hash of the job's configuration.
        error: the error, in one line.
        overrides: the job's overrides.
        traceback: the full traceback, for ``run.log``.
        reason: the kind of failure: ``error``, or ``died`` for a process that was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    append_failure(folder, error, traceback)
    if (folder / RESULT).exists():
        return
    write_result(
        folder,
        {
            "status": "failed",
            "metrics": {},
            "objective": None,
            "error": error,
            "reason": reason,
            "config_hash": job_hash,
            "overrides": list(overrides),
            "finished": timestamp(),
        },
    )


def place_in(folder: str, job_hash: str) -> Path:
    """Where ``folder`` has the run with this hash, if it has it.

    A sweep and an archive name runs by the hash. Single runs, as in outputs/runs, have the model's name before it.
    """
    named = Path(folder) / job_hash
    return named if named.is_dir() else next(iter(sorted(Path(folder).glob(f"*-{job_hash}"))), named)


def earlier_result(source: Path, job_hash: str, metric: str | None = None) -> dict[str, Any] | None:
    """As :func:`done_result`. If there is no folder ``source``, look for a run of this name in an archive beside it."""
    if source.is_dir():
        return done_result(source, job_hash, metric)
    try:
        archived = archived_run(source)
    except Damaged:  # reported when the sweep starts
        return None
    if archived is None or archived.result.get("config_hash", job_hash) != job_hash:
        return None
    result = counted(archived.result, metric)
    return result if result["status"] in DONE else None


def reuse_result(
    source: Path,
    target: Path,
    job_hash: str,
    metric: str | None = None,
    names: Mapping[str, Any] | None = None,
) -> bool:
    """Copy a finished or pruned run from ``source`` to ``target``. The result is written last and atomically.

    Args:
        source: a run's folder, or a path of that name in an archive.
        target: the job's folder.
        job_hash: the hash of both configurations.
        metric: as in :func:`read_result`. A finished result without this metric is not copied.
        names: names that the hash leaves out, as the job has them: ``choices``, ``scale`` and others. They replace the
            names of the sweep that made the result; otherwise a table would show equal configurations in several rows.

    Returns:
        Whether a result was copied. The copy has the entry ``reused_from``.
    """
    result = earlier_result(source, job_hash, metric)
    if result is None:
        return False
    target.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    for name in (CONFIG, OVERRIDES, METRICS, RUN_LOG):
        if (source / name).is_file():
            with atomic_path(target / name) as temporary:
                shutil.copyfile(source / name, temporary)
    archived = None if source.is_dir() else archived_run(source)
    if archived is not None:
        write_config(target, result["config"], result.get("overrides") or [])
        begin_metrics(target, archived.records).close()
    if names:
        result = {**result, "config": {**result["config"], **names}, "choices": names["choices"]}
    write_result(target, {**result, "reused_from": str(source.resolve())})
    return True
