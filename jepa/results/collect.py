"""Find the runs under some folders and read their files; files that have not changed are not read again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jepa import provenance
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
    """What was found.

    folders: as asked for. runs: in the order of their folders. plans: those of the sweeps among the folders that
    have one, by the sweep's folder. single: the one folder asked for is a run's own, with no other runs below it.
    aside: how many runs were left out because they were moved aside. notes: what could not be read beside the runs.
    """

    folders: tuple[str, ...]
    runs: tuple[Run, ...]
    plans: dict[str, SweepPlan] = field(default_factory=dict)
    single: bool = False
    aside: int = 0
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What the folders are called."""
        return ", ".join(os.path.basename(os.path.abspath(folder)) for folder in self.folders)


def collect(folders: Iterable[str]) -> Collection:
    """All runs in ``folders``: each a run's folder, a sweep's, or one that holds several sweeps.

    Raises ResultsError where a folder does not exist, cannot be entered or holds no runs.
    """
    asked = tuple(os.path.normpath(folder) for folder in folders)
    runs: dict[str, Run] = {}  # by their real folder, so that one reached on two ways counts once
    plans: dict[str, SweepPlan] = {}
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
                runs.update({os.path.realpath(run.folder): run for run in found})
                nothing = False
                continue
            found, aside[os.path.realpath(group.folder)] = _read_group(group)
            try:
                plan = read_plan(group.folder)
            except Damaged as damage:
                plan = None
                notes[f"{damage.path} {damage.reason}: {_WITHOUT_PLAN}"] = None
            if plan:
                plans[group.folder] = plan
                found = _with_plan(group.folder, plan, found)
            real = os.path.realpath(group.folder)
            for run in found:
                runs.setdefault(f"{real}/{run.name}" if run.folder != group.folder else real, run)
                nothing = False
        if nothing:
            raise ResultsError(unreadable[0] if unreadable else f"{folder}: no runs in it")
        notes.update(dict.fromkeys(unreadable))
    single = len(asked) == len(runs) == 1 and asked[0] == next(iter(runs.values())).folder
    return Collection(asked, tuple(runs.values()), plans, single, sum(aside.values()), tuple(notes))


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
    """The runs of one folder, and how many were left out because they were moved aside.

    What the folder's index holds, and is up to date, is taken from there. The index is renewed where it was not.
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
        if not stamp:  # removed since the folder was listed
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
    """Whether ``name`` was moved aside before such folders were marked: <folder>.<number> of the same configuration."""
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
    """A folder that cannot be entered. It may be a run, so it is listed as a damaged one."""
    error, remedy = f"cannot be entered ({reason})", "make it readable, or remove it"
    return Run(folder, "damaged", fields={"sweep": _sweep_of(folder), "error": error, "remedy": remedy})


def _sweep_of(folder: str) -> str:
    """The name of the folder that holds a run's."""
    return os.path.basename(os.path.dirname(os.path.abspath(folder)))


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
            "sweep": _sweep_of(folder),
            **_command(record["overrides"]),
            **record["fields"],
            **_code(record["fields"]),
        },
    )


def _code(fields: dict[str, Any]) -> dict[str, str]:
    """Whether the installed code made a result: ``current``, ``other``, or ``unknown`` for one from before."""
    if "finished" not in fields:  # no result yet
        return {}
    return {"code": provenance.made_by({"code": {"fingerprint": fields.get("code_fingerprint")}})}


def _command(overrides: Sequence[str]) -> dict[str, str]:
    """The command that runs these overrides alone: what a run without a result has not written down."""
    return {"command": provenance.command(overrides)} if overrides else {}


def _with_plan(sweep: str, plan: SweepPlan, found: list[Run]) -> list[Run]:
    """The runs of a sweep, with the trial numbers of its plan and with the jobs that have no files yet."""
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
