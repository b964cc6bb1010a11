"""Find the folders of runs and of sweeps below a folder. Runs and sweeps are recognised by their files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jepa.files import remove_leftover
from jepa.results.index import TEMPORARY
from jepa.results.run_files import stamp_of
from jepa.store.layout import ARCHIVE, MOVED_ASIDE, RUN_FOLDERS, SWEEP

_OF_A_RUN = frozenset({*RUN_FOLDERS, "tensorboard", "wandb"})  # subfolders that a run makes in its own folder
_DEPTH = 4


@dataclass(frozen=True)
class Group:
    """The run folders in one folder.

    folder: a sweep's folder, or another folder that holds runs. names: the names of the run folders; "." if ``folder``
    itself is a run's. aside: the number of runs that were moved aside. unreadable: entries that cannot be entered, with
    the reason. archived: the runs are in an archive file in ``folder`` and have no folders.
    """

    folder: str
    names: tuple[str, ...]
    aside: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    archived: bool = False


def groups_in(folder: str) -> Iterator[Group]:
    """Yield ``folder`` and all folders below it that hold runs. A folder reached by several links counts once.

    A run that was moved aside counts only if ``folder`` is its own folder.
    """
    own = bool(stamp_of(folder))
    if own:
        yield Group(folder, (".",))
    yield from _below(folder, _DEPTH, set(), of_a_run=own)


def _below(folder: str, depth: int, seen: set[tuple[int, int]], *, of_a_run: bool) -> Iterator[Group]:
    unreadable: dict[str, str] = {}
    if os.path.lexists(f"{folder}/{ARCHIVE}"):
        yield Group(folder, (), archived=True)
    entries = _folders(folder, seen, unreadable)
    if of_a_run:
        entries, unreadable = [name for name in entries if name not in _OF_A_RUN], {}
    stamped = [name for name in entries if stamp_of(f"{folder}/{name}")]
    names = tuple(name for name in stamped if not os.path.lexists(f"{folder}/{name}/{MOVED_ASIDE}"))
    if stamped or unreadable or os.path.lexists(f"{folder}/{SWEEP}"):
        yield Group(folder, names, len(stamped) - len(names), unreadable)
    if depth > 0:
        runs = frozenset(stamped)
        for name in entries:
            yield from _below(f"{folder}/{name}", depth - 1, seen, of_a_run=name in runs)


def _folders(folder: str, seen: set[tuple[int, int]], unreadable: dict[str, str]) -> list[str]:
    """The names of the folders in ``folder`` that are not ``seen`` yet, links last, without hidden folders.

    Folders that cannot be entered are added to ``unreadable`` instead. Temporary index files of killed processes are
    removed.
    """
    found = []
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError:  # the folder was just removed, or its parent has reported that it cannot be entered
        return []
    for entry in entries:
        if entry.name.startswith(TEMPORARY):
            remove_leftover(Path(entry.path))
        if entry.name.startswith("."):
            continue
        try:
            if not entry.is_dir():
                continue
            status = entry.stat()
            if not os.access(entry.path, os.R_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            if error.errno != errno.ELOOP:  # ignore a link that leads to itself
                unreadable[entry.name] = error.strerror or type(error).__name__
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            found.append(entry.name)
    return found
