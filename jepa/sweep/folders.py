"""Check the folders of a sweep and of its jobs, and move their unusable contents aside under another name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa.errors import ConfigError
from jepa.store import layout
from jepa.store.layout import RESULT
from jepa.store.run_folder import Unusable, inspect, move_aside, wrong_kind
from jepa.sweep import records


def check_contents(folder: Path) -> None:
    """Refuse a sweep's folder in which a name of the sweep's own files is taken by a folder, or the reverse.

    Raises:
        ConfigError: there is such a name.
    """
    if wrong := wrong_kind(folder, layout.SWEEP_FILES, layout.SWEEP_FOLDERS):
        name, problem = wrong
        raise ConfigError(f"{folder / name}: {problem}; move it away")


def make(folder: Path) -> None:
    """Make a sweep's folder.

    Raises:
        ConfigError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: cannot be written")


def damage(folder: Path, wanted: Mapping[str, Any]) -> str | None:
    """The reason why no run can continue in a job's ``folder``; None if a run can, or if there is no folder.

    Args:
        wanted: the scientific part of the job's configuration.
    """
    try:
        if not os.path.lexists(folder):
            return None
        if not folder.is_dir():
            return "a file stands where its folder belongs"
        if wrong := wrong_kind(folder, (*layout.CLAIMS, layout.OUTPUT_LOG), ()):
            return wrong[1]
        inspect(folder, wanted)
    except OSError as error:
        return f"its folder cannot be read ({error.strerror})"
    except ConfigError as error:
        return error.problem if isinstance(error, Unusable) else str(error)
    return None


def clear_claims(folder: Path) -> None:
    """Rename a file in the place of a job's ``folder``, and folders in the place of its lock and its lease.

    Raises:
        OSError: renaming fails, or the folder cannot be read and written.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        os.replace(folder, layout.free_name(folder))
    for name in layout.CLAIMS:
        if (folder / name).is_dir():
            os.replace(folder / name, layout.free_name(folder / name))
    if folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied", str(folder))


def make_way(folder: Path, metric: str | None, wanted: Mapping[str, Any]) -> None:
    """Prepare ``folder`` for the next attempt at a job, keeping the files of earlier attempts.

    The caller holds the job's lease. A run that is finished or cannot continue is moved to a sibling folder
    (``<folder>.1``). A failed or damaged result is renamed, and the next attempt continues from the checkpoint.

    Args:
        metric: as in :func:`jepa.store.result.counted`.
        wanted: the scientific part of the job's configuration.
    """
    result = folder / RESULT
    if records.done_result(folder, folder.name, metric) is not None:
        move_aside(folder)
        return
    if result.exists():
        kept = "result.failed.json" if records.read_result(folder) is not None else f"{RESULT}.damaged"
        target = folder / kept
        os.replace(result, layout.free_name(target) if target.is_dir() or result.is_dir() else target)
    if damage(folder, wanted) is not None:
        move_aside(folder)
