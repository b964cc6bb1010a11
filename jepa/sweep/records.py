"""What job folders say: finished, pruned, failed, interrupted or new. The files of the runs are the truth."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jepa.errors import ConfigError
from jepa.files import atomic_path, parse_sealed_json, remove_leftovers, write_json_atomic, write_sealed_json
from jepa.provenance import timestamp
from jepa.store.metrics import METRICS_FILE
from jepa.sweep import lease

RESULT = "result.json"
STATE = "sweep.json"
DONE = ("finished", "pruned")
# Copied when a result is taken over from another sweep, the result itself last.
_REUSED_FILES = ("config.yaml", "overrides.yaml", METRICS_FILE, "run.log")


def read_result(folder: Path, metric: str | None = None) -> dict[str, Any] | None:
    """The result in ``folder``, or None where there is none that can be read.

    Args:
        metric: what the reader minimises: ``objective`` is then that metric's value, whatever the run was asked for.
            None: the metric that the run was asked for.

    A finished result whose objective is not a finite number counts as failed.
    """
    try:
        result = parse_sealed_json((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(result, dict) or "status" not in result:
        return None
    if not isinstance(result.get("metrics"), dict):
        result["metrics"] = {}
    if metric is None:
        metric = result.get("objective_metric")
    lacking = metric not in result["metrics"] and metric != result.get("objective_metric")
    result.update(objective=objective_value(result, metric), objective_metric=metric)
    if result["status"] == "finished" and result["objective"] is None:
        error = f"the result has no metric {metric!r}" if lacking else "the objective is not a finite number"
        result.update(
            status="failed", error=result.get("error") or error, reason="no_metric" if lacking else "not_finite"
        )
    return result


def objective_value(result: Mapping[str, Any], metric: str | None) -> float | None:
    """The number in ``result`` that a search for ``metric`` minimises; None where it is missing or not finite."""
    value = result["metrics"].get(metric)
    if value is None and result.get("objective_metric") == metric:
        value = result.get("objective")
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def not_a_number(result: Mapping[str, Any]) -> bool:
    """Whether a failed result failed by its numbers: the same configuration would do so again."""
    if "reason" in result:
        return bool(result["reason"] == "not_finite")
    error = str(result.get("error"))  # results from before reasons were recorded
    return "not finite" in error or "not a finite" in error


def done_result(folder: Path, job_hash: str, metric: str | None = None) -> dict[str, Any] | None:
    """The finished or pruned result of the configuration ``job_hash`` in ``folder``, or None.

    metric: as in :func:`read_result`.
    """
    result = read_result(folder, metric)
    if result is None or result["status"] not in DONE or result.get("config_hash", job_hash) != job_hash:
        return None
    return result


def status(folder: Path, job_hash: str, metric: str | None = None) -> str:
    """``finished``, ``pruned``, ``failed``, ``running``, ``interrupted`` (something is there) or ``new``."""
    done = done_result(folder, job_hash, metric)
    if done is not None:
        return str(done["status"])
    if lease.holder(folder) is not None:
        return "running"
    result = read_result(folder, metric)
    if result is not None and result["status"] == "failed":
        return "failed"
    return "interrupted" if folder.is_dir() and any(folder.iterdir()) else "new"


def result_version(folder: Path) -> int | None:
    """What tells a job's result from one that replaces it: when it was written, in nanoseconds; None without one."""
    try:
        return (folder / RESULT).stat().st_mtime_ns
    except OSError:
        return None


def write_failure(
    folder: Path, *, job_hash: str, error: str, overrides: Iterable[str], traceback: str = "", reason: str = "error"
) -> None:
    """Record that a job failed without having said so itself; an existing result is left alone.

    Args:
        folder: the job's folder.
        job_hash: its configuration's hash.
        error: one line.
        overrides: what the job was asked for.
        traceback: the whole story, for ``run.log``.
        reason: what programs tell the kind of failure by: ``error``, or ``died`` for a process that was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "run.log", "a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} failed: {error}\n{traceback}")
    if (folder / RESULT).exists():
        return
    write_sealed_json(
        folder / RESULT,
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


def free_name(path: Path) -> Path:
    """``path`` with the first number that no sibling has: ``<path>.1``, ``<path>.2``, ..."""
    number = 1
    while os.path.lexists(path.with_name(f"{path.name}.{number}")):
        number += 1
    return path.with_name(f"{path.name}.{number}")


def reuse_result(source: Path, target: Path, job_hash: str, metric: str | None = None) -> bool:
    """Take a finished result over from ``source`` into ``target``, file by file, the result last and atomically.

    metric: as in :func:`read_result`; a result without it is not taken over.

    Returns:
        Whether there was one; it then carries ``reused_from``.
    """
    result = done_result(source, job_hash, metric)
    if result is None:
        return False
    target.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    for name in _REUSED_FILES:
        if (source / name).is_file():
            _copy_atomic(source / name, target / name)
    write_sealed_json(target / RESULT, {**result, "reused_from": str(source.resolve())})
    return True


def read_state(folder: Path) -> dict[str, Any]:
    """The sweep's own file; empty where there is none. Nothing but names and order would be lost without it."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the sweep's own file, keeping the jobs that earlier sittings asked for, and the choice of the first."""
    earlier = read_state(folder)
    jobs = {**earlier.get("jobs", {}), **state.pop("jobs")}
    if "auto" in earlier:
        state.setdefault("auto", earlier["auto"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json_atomic(folder / STATE, {**state, "jobs": jobs})
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error


def _copy_atomic(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
