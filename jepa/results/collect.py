"""Find the runs below some folders and read their files. An index saves reading unchanged files again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jepa import provenance
from jepa.config.operational import NEUTRAL_VALUES
from jepa.errors import nearest
from jepa.files import Damaged
from jepa.results.folders import Group, groups_in
from jepa.results.index import load_index, save_index
from jepa.results.records import ResultsError, Run, is_operational
from jepa.results.run_files import Record, Stamp, read_record, record_of, stamp_of
from jepa.store.archive import Archive, read_archive
from jepa.store.locks import at_work, locked_inodes
from jepa.store.sweep import SweepPlan, read_plan

_WITHOUT_PLAN = (
    "jobs that have not started are not listed; remove that file, the sweep's own command writes it anew"
)


@dataclass(frozen=True)
class Collection:
    """The runs that were found.

    folders: the requested folders. runs: in the order of their folders. plans: the plans of sweeps, by the sweep's
    folder. single: whether the only requested folder is a run's own folder, with no other runs below it. aside: the
    number of runs left out because they were moved aside. notes: problems with files other than the runs' own.
    """

    folders: tuple[str, ...]
    runs: tuple[Run, ...]
    plans: dict[str, SweepPlan] = field(default_factory=dict)
    single: bool = False
    aside: int = 0
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The names of the folders."""
        return ", ".join(os.path.basename(os.path.abspath(folder)) for folder in self.folders)


def collect(folders: Iterable[str]) -> Collection:
    """Find all runs in ``folders``. A folder may be of a run, of a sweep, or hold several sweeps.

    Raises:
        ResultsError: a folder does not exist, cannot be entered, or holds no runs.
    """
    asked = tuple(os.path.normpath(folder) for folder in folders)
    runs: dict[str, Run] = {}  # by the real path, so that a run reached by two paths counts once
    plans: dict[str, SweepPlan] = {}
    archived: set[str] = set()  # the keys of ``runs`` that come from archives
    aside: dict[str, int] = {}
    notes: dict[str, None] = {}
    for folder in asked:
        _check_folder(folder)
        nothing, unreadable = True, list[str]()
        for group in groups_in(folder):
            if group.archived:
                try:
                    plans[group.folder], found = _read_archive(group.folder)
                except Damaged as damage:
                    unreadable.append(str(damage))
                    continue
                fresh = {os.path.realpath(run.folder): run for run in found}
                archived |= fresh.keys() - runs.keys()
                runs.update({key: run for key, run in fresh.items() if key in archived})
                nothing = False
                continue
            found, aside[os.path.realpath(group.folder)] = _read_group(group)
            plan = _plan_of(group.folder, notes)
            if plan:
                plans[group.folder] = plan
                found = _with_plan(group.folder, plan, found)
            real = os.path.realpath(group.folder)
            for run in found:
                key = f"{real}/{run.name}" if run.folder != group.folder else real
                if key not in runs or (key in archived and run.status != "pending"):
                    runs[key] = run  # a run's own folder may hold more than an archive beside it
                    archived.discard(key)
                nothing = False
        if nothing:
            raise ResultsError(unreadable[0] if unreadable else f"{folder}: no runs in it")
        notes.update(dict.fromkeys(unreadable))
    single = len(asked) == len(runs) == 1 and asked[0] == next(iter(runs.values())).folder
    return Collection(asked, tuple(runs.values()), plans, single, sum(aside.values()), tuple(notes))


def _plan_of(folder: str, notes: dict[str, None]) -> SweepPlan | None:
    """The plan of the sweep in ``folder``; None if there is none or it is damaged, which is added to ``notes``."""
    try:
        return read_plan(folder)
    except Damaged as damage:
        notes[f"{damage.path} {damage.reason}: {_WITHOUT_PLAN}"] = None
        return None


def _check_folder(folder: str) -> None:
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError):
        raise ResultsError(f"{folder}: no such folder{_hint(folder)}") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ResultsError(f"{folder!r}: cannot be entered ({reason})") from error


def _hint(folder: str) -> str:
    parent = os.path.dirname(folder) or "."
    try:
        names = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except OSError:
        return ""
    close = nearest(os.path.basename(folder), names)
    return f"; did you mean {os.path.normpath(os.path.join(parent, close))}?" if close else ""


def _read_group(group: Group) -> tuple[list[Run], int]:
    """The runs of one folder, and the number of runs left out because they were moved aside.

    Unchanged runs are taken from the folder's index. The index is written again if runs have changed.
    """
    folder = group.folder
    if group.names == (".",):
        stamp = stamp_of(folder)
        return ([_run(folder, stamp, read_record(folder, stamp), locked_inodes())] if stamp else []), 0
    indexed = load_index(folder)
    entries: dict[str, tuple[Stamp, Record]] = {}
    read = 0
    for name in group.names:
        stamp = stamp_of(f"{folder}/{name}")
        if not stamp:  # the run was removed after the folder was listed
            continue
        known = indexed.get(name)
        if known is not None and known[0] == stamp:
            entries[name] = known
        else:
            entries[name] = (stamp, read_record(f"{folder}/{name}", stamp))
            read += 1
    if read or len(entries) != len(indexed):
        save_index(folder, entries)
    held = locked_inodes()
    kept = [name for name in entries if not _superseded(name, entries)]
    runs = [_run(f"{folder}/{name}", *entries[name], held) for name in kept]
    runs += [_closed(f"{folder}/{name}", reason) for name, reason in group.unreadable.items()]
    return runs, group.aside + len(entries) - len(kept)


def _read_archive(folder: str) -> tuple[SweepPlan, list[Run]]:
    """The axes and the runs of the archive in ``folder``. Raises Damaged."""
    archive = read_archive(folder) or Archive("")
    found = [_run(f"{folder}/{name}", [], record_of(run.result), frozenset()) for name, run in archive.runs.items()]
    return SweepPlan(archive.axes, (), False), found


def _superseded(name: str, entries: dict[str, tuple[Stamp, Record]]) -> bool:
    """Whether an earlier version, which left no mark, moved ``name`` aside.

    Such a folder is named <folder>.<number>, and its run has the same configuration as the run in <folder>.
    """
    stem, _, number = name.rpartition(".")
    if not number.isdecimal() or stem not in entries:
        return False
    earlier, later = entries[name][1], entries[stem][1]
    hashes = [record["fields"].get("config_hash") for record in (earlier, later)]
    if None not in hashes:
        return bool(hashes[0] == hashes[1])
    science = [{k: v for k, v in record["config"].items() if not is_operational(k)} for record in (earlier, later)]
    return bool(science[0]) and science[0] == science[1]


def _closed(folder: str, reason: str) -> Run:
    """A damaged run for a folder that cannot be entered, because the folder may hold a run."""
    error, remedy = f"cannot be entered ({reason})", "make it readable, or remove it"
    return Run(folder, "damaged", fields={"sweep": _sweep_of(folder), "error": error, "remedy": remedy})


def _sweep_of(folder: str) -> str:
    """The name of the parent of a run's folder."""
    return os.path.basename(os.path.dirname(os.path.abspath(folder)))


def _run(folder: str, stamp: Stamp, record: Record, held: frozenset[int]) -> Run:
    status = record["status"]
    if status == "running" and not at_work(folder, max(entry[1] for entry in stamp) / 1e9, held):
        status = "interrupted"
    return Run(
        folder=folder,
        status=status,
        config=_with_neutral(record["config"]),
        choices=record["choices"],
        metrics=record["metrics"],
        overrides=tuple(record["overrides"]),
        fields={
            "sweep": _sweep_of(folder),
            **_command(record["overrides"]),
            **record["fields"],
            **_code(record["fields"]),
        },
    )


def _with_neutral(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` (flat) with the keys that later versions added, so that runs of all versions have the same keys."""
    sections = {key.rpartition(".")[0] for key in config}
    return {**{key: value for key, value in NEUTRAL_VALUES.items() if key.rpartition(".")[0] in sections}, **config}


def _code(fields: dict[str, Any]) -> dict[str, str]:
    """Whether the installed code made a result: ``current``, ``other``, or ``unknown`` (no fingerprint recorded)."""
    if "finished" not in fields:  # no result yet
        return {}
    return {"code": provenance.made_by({"code": {"fingerprint": fields.get("code_fingerprint")}})}


def _command(overrides: Sequence[str]) -> dict[str, str]:
    """The command that runs a single job with these overrides, for runs without a result that records a command."""
    return {"command": provenance.command(overrides)} if overrides else {}


def _with_plan(sweep: str, plan: SweepPlan, found: list[Run]) -> list[Run]:
    """The runs of a sweep with trial numbers from its plan, and a pending run for each job without files."""
    trials = {job.name: job.trial for job in plan.jobs if job.trial is not None}
    runs = [
        replace(run, fields={**run.fields, "trial": trials[run.name]}) if run.name in trials else run for run in found
    ]
    present = {run.name for run in found}
    for job in plan.jobs:
        if job.name in present:
            continue
        folder = f"{sweep}/{job.name}"
        if os.path.lexists(folder) and not os.path.isdir(folder):
            runs.append(_closed(folder, "not a folder"))
            continue
        fields = {"sweep": _sweep_of(folder), "config_hash": job.name, **_command(job.overrides)}
        trial = {} if job.trial is None else {"trial": job.trial}
        runs.append(Run(folder, "pending", overrides=job.overrides, fields={**fields, **trial}))
    return runs
