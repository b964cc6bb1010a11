"""Find the runs under some folders and say of each what its files say; only what has changed is read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from jepa.errors import nearest
from jepa.results.activity import at_work, locked_inodes
from jepa.results.index import load_index, save_index
from jepa.results.records import ResultsError, Run
from jepa.results.run_files import Record, Stamp, read_record, stamp_of
from jepa.results.sweep_file import SWEEP_FILE, SweepPlan, read_plan

_SKIPPED = frozenset({"checkpoints", "plots", "wandb", "__pycache__"})
_DEPTH = 4


@dataclass(frozen=True)
class Collection:
    """What was found.

    folders: as asked for. runs: in the order of their folders. plans: those of the sweeps among the folders that
    have one, by the sweep's folder. single: the one folder asked for is a run's own.
    """

    folders: tuple[str, ...]
    runs: tuple[Run, ...]
    plans: dict[str, SweepPlan] = field(default_factory=dict)
    single: bool = False

    @property
    def title(self) -> str:
        """What the folders are called."""
        return ", ".join(os.path.basename(os.path.normpath(folder)) for folder in self.folders)


def collect(folders: Iterable[str]) -> Collection:
    """All runs in ``folders``: each a run's folder, a sweep's, or one that holds several sweeps.

    Raises ResultsError where a folder does not exist or holds no runs.
    """
    asked = tuple(os.path.normpath(folder) for folder in folders)
    runs: dict[str, Run] = {}
    plans: dict[str, SweepPlan] = {}
    for folder in asked:
        if not os.path.isdir(folder):
            raise ResultsError(f"{folder}: no such folder{_hint(folder)}")
        before = len(runs)
        for sweep, names in _sweeps(folder):
            found = _read_sweep(sweep, names)
            plan = read_plan(sweep)
            if plan:
                plans[sweep] = plan
                found = _with_plan(sweep, plan, found)
            runs.update((run.folder, run) for run in found)
        if len(runs) == before and not any(known == folder or known.startswith(folder + "/") for known in runs):
            raise ResultsError(f"{folder}: no runs in it")
    single = len(asked) == 1 and asked[0] in runs
    return Collection(asked, tuple(runs.values()), plans, single)


def _hint(folder: str) -> str:
    parent = os.path.dirname(folder) or "."
    try:
        names = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except OSError:
        return ""
    close = nearest(os.path.basename(folder), names)
    return f"; did you mean {os.path.normpath(os.path.join(parent, close))}?" if close else ""


def _sweeps(folder: str, depth: int = _DEPTH) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of the run folders in it) for ``folder`` and all below it; a run's own folder has the name "."."""
    if stamp_of(folder):
        yield folder, ["."]
        return
    names: list[str] = []
    others: list[str] = []
    for entry in _folders(folder):
        (names if stamp_of(f"{folder}/{entry}") else others).append(entry)
    every = frozenset(names)
    names = [name for name in names if not _moved_aside(name, every)]
    if names or os.path.exists(f"{folder}/{SWEEP_FILE}"):
        yield folder, names
    if depth > 0:
        for name in others:
            yield from _sweeps(f"{folder}/{name}", depth - 1)


def _moved_aside(name: str, names: Container[str]) -> bool:
    """Whether ``name`` is an earlier run of another, kept as ``<folder>.<number>`` when that one was run again."""
    stem, _, number = name.rpartition(".")
    return number.isdigit() and stem in names


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name[0] != "." and entry.name not in _SKIPPED and entry.is_dir()
            )
    except OSError:
        return []


def _read_sweep(sweep: str, names: list[str]) -> list[Run]:
    """The runs of one sweep, by its index where that is up to date; the index is renewed where it was not."""
    if names == ["."]:
        stamp = stamp_of(sweep)
        return [_run(sweep, stamp, read_record(sweep, stamp), locked_inodes())]
    indexed = load_index(sweep)
    entries: dict[str, tuple[Stamp, Record]] = {}
    read = 0
    for name in names:
        stamp = stamp_of(f"{sweep}/{name}")
        if not stamp:  # removed since the folder was listed
            continue
        known = indexed.get(name)
        if known is not None and known[0] == stamp:
            entries[name] = known
        else:
            entries[name] = (stamp, read_record(f"{sweep}/{name}", stamp))
            read += 1
    if read or len(entries) != len(indexed):
        save_index(sweep, entries)
    held = locked_inodes()
    return [_run(f"{sweep}/{name}", stamp, record, held) for name, (stamp, record) in entries.items()]


def _run(folder: str, stamp: Stamp, record: Record, held: frozenset[int]) -> Run:
    status = record["status"]
    if status == "running" and not at_work(folder, max(entry[1] for entry in stamp) / 1e9, held):
        status = "interrupted"
    return Run(
        folder=folder,
        status=status,
        config=record["config"],
        choices=record["choices"],
        metrics=record["metrics"],
        overrides=tuple(record["overrides"]),
        fields={
            "sweep": os.path.basename(os.path.dirname(os.path.abspath(folder))),
            **_command(record["overrides"]),
            **record["fields"],
        },
    )


def _command(overrides: Sequence[str]) -> dict[str, str]:
    """The command that runs these overrides alone: what a run without a result has not written down."""
    return {"command": shlex.join(["python", "-m", "jepa.run", *overrides])} if overrides else {}


def _with_plan(sweep: str, plan: SweepPlan, found: list[Run]) -> list[Run]:
    """The runs of a sweep with what its plan adds: a search's order, and the jobs that have left nothing yet."""
    trials = {job.name: job.trial for job in plan.jobs if job.trial is not None}
    runs = [
        replace(run, fields={**run.fields, "trial": trials[run.name]}) if run.name in trials else run for run in found
    ]
    present = {run.name for run in found}
    for job in plan.jobs:
        if job.name in present:
            continue
        fields = {
            "sweep": os.path.basename(os.path.abspath(sweep)),
            "config_hash": job.name,
            "trial": job.trial,
            **_command(job.overrides),
        }
        runs.append(
            Run(
                folder=f"{sweep}/{job.name}",
                status="pending",
                overrides=job.overrides,
                fields={key: value for key, value in fields.items() if value is not None},
            )
        )
    return runs
