"""Find the folders of runs and of sweeps below a folder. Its files tell what a folder is, not its name."""

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

_OF_A_RUN = frozenset({*RUN_FOLDERS, "tensorboard", "wandb"})  # what a run puts into its own folder
_DEPTH = 4


@dataclass(frozen=True)
class Group:
    """The run folders that lie in one folder.

    folder: a sweep's, or any other that holds runs. names: of the run folders in it; "." where ``folder`` itself is a
    run's. aside: how many runs in it were moved aside. unreadable: entries that cannot be looked into, with the reason.
    archived: the runs are those of an archive in ``folder``; it has no folders of them.
    """

    folder: str
    names: tuple[str, ...]
    aside: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    archived: bool = False


def groups_in(folder: str) -> Iterator[Group]:
    """``folder`` and all folders below it that hold runs, each once, however many links lead to it.

    A run that was moved aside counts only where ``folder`` is its own.
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
    """The names of the folders in ``folder`` that were not ``seen`` yet, links last; hidden ones are left out.

    Those that cannot be entered are put into ``unreadable`` instead. Temporary index files that a killed process left
    are removed on the way.
    """
    found = []
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError:  # it vanished meanwhile; one that cannot be entered was reported by the folder that holds it
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
            if error.errno != errno.ELOOP:  # a link that leads to itself holds nothing
                unreadable[entry.name] = error.strerror or type(error).__name__
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            found.append(entry.name)
    return found
