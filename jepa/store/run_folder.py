"""A run's folder: inspect its files, lock it for one process, and move an earlier run aside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jepa.config.compose import scientific_config
from jepa.errors import ConfigError, RunFailed, check_folder
from jepa.files import Damaged, disk_full_words, is_disk_full, remove_leftovers, write_json_atomic, write_text_atomic
from jepa.provenance import timestamp
from jepa.store import layout
from jepa.store.config import flat, read_config, write_config
from jepa.store.layout import CHECKPOINTS, CONFIG, METRICS, MOVED_ASIDE, MOVING, RESULT, RUN_FILES, RUN_FOLDERS
from jepa.store.locks import Lock
from jepa.store.result import read_result

_TRACES = (CONFIG, METRICS, *CHECKPOINTS)  # a run that has begun has one of these files
_STAY = (*layout.CLAIMS, layout.OUTPUT_LOG, MOVING)  # files that stay in place when a run is moved aside
_DIFFERENCES_SHOWN = 4
_REMEDY = "rerun=true moves what is there aside and runs again"


class Unusable(ConfigError):
    """A folder in which no run can continue. problem: the reason, without the folder's name and the remedy."""

    def __init__(self, problem: str, text: str) -> None:
        super().__init__(text)
        self.problem = problem


@dataclass(frozen=True)
class Earlier:
    """The state that an earlier run left in the folder: nothing, an unfinished run, or a result."""

    exists: bool = False
    checkpoint: bool = False
    result: dict[str, Any] | None = None
    seen: tuple[int | None, ...] | None = None  # the versions of the files before they were read

    @property
    def status(self) -> str | None:
        """The status of the result; None without a result."""
        return None if self.result is None else str(self.result["status"])


def inspect(folder: Path, wanted: Mapping[str, Any]) -> Earlier:
    """Read the state of ``folder``, without changing any file.

    Args:
        wanted: the scientific part of the configuration that is to run in the folder.

    Raises:
        Unusable: the folder holds unreadable files, or a run of another configuration.
        ConfigError: the folder itself cannot be used.
    """
    seen = versions(folder)
    return replace(_inspect(folder, wanted), seen=seen)


def versions(folder: Path) -> tuple[int | None, ...]:
    """The modification times of the result and the checkpoints in ``folder``, in ns; None for a missing file."""
    return tuple(layout.version(folder / name) for name in (RESULT, *CHECKPOINTS))


def _inspect(folder: Path, wanted: Mapping[str, Any]) -> Earlier:
    check_folder("folder", folder)
    if (folder / MOVING).exists():
        return Earlier()  # a move was cut short; the next process that occupies the folder completes the move
    if wrong := wrong_kind(folder, RUN_FILES, RUN_FOLDERS):
        name, problem = wrong
        raise Unusable(problem, f"{folder / name}: {problem}; {_REMEDY}")
    result = _result(folder)
    begun = any((folder / name).exists() for name in _TRACES)
    if not begun and result is None:
        return Earlier()
    if not begun and result is not None and result["status"] == "failed":
        return Earlier(True, False, result)  # the job failed before it began, and the sweep wrote its result
    differences = list(_differences(_config_there(folder), wanted))
    if differences:
        shown = "; ".join(differences[:_DIFFERENCES_SHOWN])
        if len(differences) > _DIFFERENCES_SHOWN:
            shown += f"; and {len(differences) - _DIFFERENCES_SHOWN} more"
        problem = f"holds a run of another configuration ({shown})"
        remedy = "choose another folder, or rerun=true to move it aside"
        raise Unusable(problem, f"folder={folder}: {problem}; {remedy}")
    return Earlier(True, any((folder / name).exists() for name in CHECKPOINTS), result)


@contextmanager
def occupied(
    folder: Path,
    *,
    config: Mapping[str, Any],
    overrides: list[str],
    aside: bool,
    seen: tuple[int | None, ...] | None = None,
) -> Iterator[None]:
    """Lock ``folder`` for this process, and write the configuration there.

    Args:
        config, overrides: written to ``config.yaml`` and ``overrides.yaml``.
        aside: first move an earlier run to a numbered sibling folder (``<folder>.1``, ``<folder>.2``, ...).
        seen: from :func:`inspect`; refuse a folder in which another process has worked since then.

    Raises:
        ConfigError: the folder cannot be made or written, or another process works in it.
        RunFailed: the disk is full.
    """
    lock = Lock(folder / layout.LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = lock.acquire(0)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
    if not taken:
        raise ConfigError(f"folder={folder}: another process is at work in it")
    try:
        if seen is not None and seen != versions(folder):
            raise ConfigError(f"folder={folder}: another process has just worked in it; give the same command again")
        try:
            _make_ready(folder, config, overrides, aside)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield
    finally:
        lock.release()


def _make_ready(folder: Path, config: Mapping[str, Any], overrides: list[str], aside: bool) -> None:
    remove_leftovers(folder, *(folder / name for name in RUN_FOLDERS))
    if aside or (folder / MOVING).exists():
        move_aside(folder)
    earlier = folder / RESULT
    if earlier.exists():  # the result of a failed or pruned run that runs again
        os.replace(earlier, layout.free_name(earlier))
    write_config(folder, config, overrides)


def _unwritable(folder: Path, error: OSError | ValueError) -> ConfigError | RunFailed:
    if is_disk_full(error):
        return RunFailed(disk_full_words(folder))
    where = getattr(error, "filename", None) or folder
    return ConfigError(f"folder={folder}: {where} cannot be written ({getattr(error, 'strerror', None) or error})")


# --- the files of an earlier run -----------------------------------------------------------------------------------


def wrong_kind(folder: Path, files: tuple[str, ...], folders: tuple[str, ...]) -> tuple[str, str] | None:
    """The first name in ``folder`` that is a folder instead of a file, or the reverse, and the problem in words."""
    for name in files:
        if (folder / name).is_dir():
            return name, f"{name} is a folder where there should be a file"
    for name in folders:
        if (folder / name).exists() and not (folder / name).is_dir():
            return name, f"{name} is a file where there should be a folder"
    return None


def _config_there(folder: Path) -> dict[str, Any]:
    try:
        config = read_config(folder)
        if config is None:
            problem = "holds files of a run without its config.yaml"
            raise Unusable(problem, f"folder={folder}: {problem}; {_REMEDY}")
        loaded = OmegaConf.create(config)
        assert isinstance(loaded, DictConfig)
        if loaded:
            return scientific_config(loaded)
        raise Damaged("is no run's configuration", folder / CONFIG)
    except OmegaConfBaseException as error:
        raise _damaged(Damaged("is no run's configuration", folder / CONFIG)) from error
    except Damaged as damage:
        raise _damaged(damage) from damage


def _damaged(damage: Damaged) -> Unusable:
    name = damage.path.name if damage.path else "a file"
    return Unusable(f"{name} {damage.reason}", f"{damage}; {_REMEDY}")


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    left, right = flat(there), flat(wanted)
    for key in sorted(left.keys() | right.keys()):
        if key not in right:
            yield f"{key}={_json(left[key])} there, absent here"
        elif key not in left:
            yield f"{key}={_json(right[key])} here, absent there"
        elif _json(left[key]) != _json(right[key]):
            yield f"{key}={_json(left[key])} there, {_json(right[key])} here"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _result(folder: Path) -> dict[str, Any] | None:
    """The result in ``folder``; None if there is none.

    Raises:
        Unusable: the result cannot be read, or its prediction error is no number.
    """
    try:
        result = read_result(folder)
    except Damaged as damage:
        raise _damaged(damage) from damage
    shown = None if result is None else result["metrics"].get("prediction_rmse_px")
    if not isinstance(shown, (int, float, type(None))):
        raise _damaged(Damaged("holds metrics that are no numbers", folder / RESULT))
    return result


def move_aside(folder: Path) -> None:
    """Move the files of an earlier run in ``folder`` to a new sibling folder (``<folder>.1``). Lock files stay.

    The caller holds the lock or the lease of the folder. Without files of a run, no sibling is created. A later call
    completes a move that was cut short.
    """
    folder = folder.resolve()  # a link may lead to another disk: make the sibling on the same disk
    marker = folder / MOVING
    if not marker.exists() and not any((folder / name).exists() for name in (*RUN_FILES, *RUN_FOLDERS)):
        return
    sibling = _sibling_begun(marker)
    if sibling is None:
        sibling = layout.free_name(folder)
        sibling.mkdir()
        write_json_atomic(sibling / MOVED_ASIDE, {"from": folder.name, "moved": timestamp()})
        write_text_atomic(marker, sibling.name)
    moving = [entry for entry in folder.iterdir() if entry.name not in _STAY]
    # Move the result first: without it, the files left behind do not look like a finished run.
    for entry in sorted(moving, key=lambda entry: entry.name != RESULT):
        os.replace(entry, sibling / entry.name)
    marker.unlink()


def _sibling_begun(marker: Path) -> Path | None:
    """The target folder of a move that was cut short; None if there is no such move."""
    try:
        name = marker.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    sibling = marker.parent.with_name(name) if name and "/" not in name else None
    return sibling if sibling is not None and (sibling / MOVED_ASIDE).is_file() else None
