"""A run's folder: what is in it already, who works in it, and how an earlier run keeps its place."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jepa.config.compose import scientific_config
from jepa.errors import ConfigError, RunFailed, check_folder
from jepa.files import (
    Damaged,
    disk_full_words,
    is_disk_full,
    parse_sealed_json,
    remove_leftovers,
    write_json_atomic,
    write_text_atomic,
)
from jepa.provenance import timestamp
from jepa.store.metrics import METRICS_FILE

CHECKPOINTS = ("checkpoints/last.pt", "checkpoints/previous.pt")  # as in jepa.store.checkpoint, which would bring torch
_TRACES = ("config.yaml", METRICS_FILE, *CHECKPOINTS)  # of a run that has begun
_FILES = ("config.yaml", "overrides.yaml", "result.json", METRICS_FILE, "run.log")
_FOLDERS = ("checkpoints", "plots")
_MOVING = ".moving_aside"  # is there while a run is moved aside; holds the name of the folder that it goes to
_STAY = (".lock", ".lease", "output.log", _MOVING)  # claims to the folder, and what is being written
MOVED_ASIDE = "moved_aside.json"  # in a folder whose run made way for another
_DIFFERENCES_SHOWN = 4
_REMEDY = "rerun=true moves what is there aside and runs again"


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left in the folder: nothing, an unfinished run, or a result."""

    exists: bool = False
    checkpoint: bool = False
    result: dict[str, Any] | None = None
    seen: tuple[int | None, ...] | None = None  # the versions of the files that this was read from

    @property
    def status(self) -> str | None:
        """The result's status, where there is a result."""
        return None if self.result is None else str(self.result.get("status"))


def inspect(folder: Path, wanted: Mapping[str, Any]) -> Earlier:
    """Read what is in ``folder``, without touching it.

    Args:
        wanted: the scientific part of the configuration that is to run there.

    Raises:
        ConfigError: the folder cannot be used, holds unreadable files, or a run of another configuration.
    """
    seen = versions(folder)
    return replace(_inspect(folder, wanted), seen=seen)


def versions(folder: Path) -> tuple[int | None, ...]:
    """What tells the result and the checkpoints in ``folder`` from those that replace them; None for a missing one."""
    return tuple(_version(folder / name) for name in ("result.json", *CHECKPOINTS))


def _version(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):
        return None


def _inspect(folder: Path, wanted: Mapping[str, Any]) -> Earlier:
    check_folder("folder", folder)
    if (folder / _MOVING).exists():
        return Earlier()  # what is there is being moved aside; whoever takes the folder goes on with that
    _check_kinds(folder)
    result = _result(folder)
    begun = any((folder / name).exists() for name in _TRACES)
    if not begun and result is None:
        return Earlier()
    if not begun and result is not None and result.get("status") == "failed":
        return Earlier(True, False, result)  # it failed before it began; the sweep said so in its place
    there = _config_there(folder)
    differences = list(_differences(there, wanted))
    if differences:
        shown = "; ".join(differences[:_DIFFERENCES_SHOWN])
        if len(differences) > _DIFFERENCES_SHOWN:
            shown += f"; and {len(differences) - _DIFFERENCES_SHOWN} more"
        raise ConfigError(
            f"folder={folder}: holds a run of another configuration ({shown}); choose another folder, or rerun=true to "
            "move it aside"
        )
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
    """Work in ``folder``: nobody else does meanwhile, it holds the configuration, and ``run.log`` is being written.

    Args:
        config, overrides: written to ``config.yaml`` and ``overrides.yaml``.
        aside: move what is there to a numbered sibling first (``<folder>.1``, ``<folder>.2``, ...).
        seen: of :func:`inspect`; refuse a folder in which another process has worked since.

    Raises:
        ConfigError: the folder cannot be made or written, or another process works in it.
        RunFailed: the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a", encoding="utf-8")  # noqa: SIM115 - held as long as the run
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
    with lock:
        _take(lock.fileno(), folder)
        if seen is not None and seen != versions(folder):
            raise ConfigError(f"folder={folder}: another process has just worked in it; give the same command again")
        try:
            _make_ready(folder, config, overrides, aside)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield


def _make_ready(folder: Path, config: Mapping[str, Any], overrides: list[str], aside: bool) -> None:
    remove_leftovers(folder, *(folder / name for name in _FOLDERS))
    if aside or (folder / _MOVING).exists():
        move_aside(folder)
    earlier = folder / "result.json"
    if earlier.exists():  # of a failed or pruned run that is tried again
        os.replace(earlier, _free_name(earlier))
    write_text_atomic(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    write_text_atomic(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))


def _unwritable(folder: Path, error: OSError | ValueError) -> ConfigError | RunFailed:
    if is_disk_full(error):
        return RunFailed(disk_full_words(folder))
    where = getattr(error, "filename", None) or folder
    return ConfigError(f"folder={folder}: {where} cannot be written ({getattr(error, 'strerror', None) or error})")


class RunLog:
    """What the run says, kept until there is a folder for it, then written to ``run.log`` and on as it comes.

    Nothing that goes wrong with the log stops the run.
    """

    def __init__(self) -> None:
        self._buffer = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        self._file: logging.FileHandler | None = None

    def __enter__(self) -> RunLog:
        self._logger = logging.getLogger("jepa")
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self._buffer)
        return self

    def open(self, folder: Path) -> None:
        """Write to ``folder/run.log``, after what an earlier sitting wrote there."""
        self._file = _LogFile(folder / "run.log", encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._buffer.setTarget(self._file)
        self._buffer.flush()
        self._logger.removeHandler(self._buffer)
        self._logger.addHandler(self._file)

    def crash(self, error: BaseException) -> None:
        """Write the traceback of what ended the run: for the log alone, the screen gets one line."""
        if self._file is not None:
            record = self._logger.makeRecord("jepa", logging.ERROR, __file__, 0, "the run failed", (), None)
            record.exc_info = (type(error), error, error.__traceback__)
            self._file.handle(record)

    def __exit__(self, *exception: object) -> None:
        self._logger.setLevel(self._level)
        self._logger.removeHandler(self._buffer)
        if self._file is not None:
            self._logger.removeHandler(self._file)
            with contextlib.suppress(OSError):
                self._file.close()
        self._buffer.close()


class _LogFile(logging.FileHandler):
    """A log file whose errors (a full disk) are not shown: Python would print a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing."""


# --- what is there -------------------------------------------------------------------------------------------------


def _check_kinds(folder: Path) -> None:
    """Refuse a folder where a run would write a file, and a file where it would make a folder."""
    for name in _FILES:
        if (folder / name).is_dir():
            raise ConfigError(f"{folder / name}: is a folder, a run has a file of that name; {_REMEDY}")
    for name in _FOLDERS:
        if (folder / name).exists() and not (folder / name).is_dir():
            raise ConfigError(f"{folder / name}: is a file, a run has a folder of that name; {_REMEDY}")


def _config_there(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"folder={folder}: holds files of a run without its config.yaml; {_REMEDY}") from None
    except Exception as error:  # yaml's errors have no common base of their own
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); {_REMEDY}") from error
    try:
        if isinstance(config, DictConfig) and config:
            return scientific_config(config)
    except OmegaConfBaseException:
        pass
    raise ConfigError(f"{path}: is no run's configuration; {_REMEDY}")


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    left, right = flat(there), flat(wanted)
    for key in sorted(left.keys() | right.keys()):
        if key not in right:
            yield f"{key}={_json(left[key])} there, absent here"
        elif key not in left:
            yield f"{key}={_json(right[key])} here, absent there"
        elif _json(left[key]) != _json(right[key]):
            yield f"{key}={_json(left[key])} there, {_json(right[key])} here"


def flat(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{path}{key}."))
        else:
            found[f"{path}{key}"] = value
    return found


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _result(folder: Path) -> dict[str, Any] | None:
    path = folder / "result.json"
    try:
        result = parse_sealed_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except Damaged as error:
        raise ConfigError(f"{path}: {error}; {_REMEDY}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); {_REMEDY}") from error
    if not isinstance(result, dict) or "status" not in result:
        raise ConfigError(f"{path}: is no result; {_REMEDY}")
    if result["status"] == "finished" and not _has_metrics(result):
        raise ConfigError(f"{path}: says that the run is finished and holds no metrics; {_REMEDY}")
    return result


def _has_metrics(result: Mapping[str, Any]) -> bool:
    metrics = result.get("metrics")
    return isinstance(metrics, dict) and isinstance(metrics.get("prediction_rmse_px"), (int, float, type(None)))


def move_aside(folder: Path) -> None:
    """What an earlier run left in ``folder`` goes to a new sibling (``<folder>.1``); claims to the folder stay.

    The caller holds such a claim. Where no run has left anything, no sibling is made. A move that was cut short is
    completed by the next call.
    """
    folder = folder.resolve()  # a link may lead to another disk: what is moved stays on its own
    marker = folder / _MOVING
    if not marker.exists() and not any((folder / name).exists() for name in (*_FILES, *_FOLDERS)):
        return
    sibling = _sibling_begun(marker)
    if sibling is None:
        sibling = _free_name(folder)
        sibling.mkdir()
        write_json_atomic(sibling / MOVED_ASIDE, {"from": folder.name, "moved": timestamp()})
        write_text_atomic(marker, sibling.name)
    moving = [entry for entry in folder.iterdir() if entry.name not in _STAY]
    # The result first: without it nobody takes what is left for a finished run.
    for entry in sorted(moving, key=lambda entry: entry.name != "result.json"):
        os.replace(entry, sibling / entry.name)
    marker.unlink()


def _sibling_begun(marker: Path) -> Path | None:
    """The sibling to which a move that was cut short goes, or None."""
    try:
        name = marker.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    sibling = marker.parent.with_name(name) if name and "/" not in name else None
    return sibling if sibling is not None and (sibling / MOVED_ASIDE).is_file() else None


# --- who works there -----------------------------------------------------------------------------------------------


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"folder={folder}: another process is at work in it") from None
    except OSError:
        pass  # a file system without locks: nobody can be kept out


def _free_name(path: Path) -> Path:
    number = 1
    while path.with_name(f"{path.name}.{number}").exists():
        number += 1
    return path.with_name(f"{path.name}.{number}")
