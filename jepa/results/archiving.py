"""``--archive FOLDER``: write the results of runs to one small file. ``jepa.results`` and ``reuse=`` read the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jepa.files import Damaged
from jepa.results.collect import Collection
from jepa.results.records import ResultsError, Run
from jepa.results.tables import standing
from jepa.store.archive import Archive, ArchivedRun, archived_run, read_archive, write_archive
from jepa.store.layout import ARCHIVE
from jepa.store.metrics import read_metrics
from jepa.store.result import STATUSES, read_result

_HASH = "config_hash"


def archive_runs(found: Collection, runs: Sequence[Run], folder: str) -> str:
    """Write every run of ``runs`` that has a result. Runs that the archive of ``folder`` holds already are replaced.

    A finished run of the archive is not replaced by one that failed or was pruned.

    Returns:
        A line that reports the number of runs.

    Raises:
        ResultsError: no run has a result, or the file cannot be read or written.
    """
    ended = [run for run in runs if run.status in STATUSES]
    if not ended:
        raise ResultsError(f"--archive {folder}: none of {len(runs)} runs has a result yet")
    try:
        before = read_archive(folder) or Archive(found.title)
        axes = dict.fromkeys((*before.axes, *(axis for plan in found.plans.values() for axis in plan.axes)))
        named = _named(ended, {name: run.result.get(_HASH) for name, run in before.runs.items()})
        better = {name for name, run in before.runs.items() if run.result["status"] == "finished"}
        wanted = {name: run for name, run in named.items() if run.status == "finished" or name not in better}
        added = {name: archived for name, run in wanted.items() if (archived := _whole(run)) is not None}
        path = write_archive(Path(folder), Archive(before.title, tuple(axes), {**before.runs, **added}))
    except Damaged as damage:
        raise ResultsError(f"--archive {folder}: {damage}") from damage
    except OSError as error:
        raise ResultsError(f"--archive {folder}: cannot be written ({error.strerror})") from error
    total = len(before.runs.keys() | added.keys())
    size_kb = os.path.getsize(path) / 1000
    left_out = f"; {len(runs) - len(ended)} without a result left out" if len(ended) < len(runs) else ""
    return f"wrote {folder}/{ARCHIVE}: {total} runs, {size_kb:.0f} kB ({len(added)} from here{left_out})"


def _named(runs: Sequence[Run], taken: Mapping[str, str | None]) -> dict[str, Run]:
    """The runs by their names in the archive. Runs of other configurations that share a name get their hash as well.

    taken: the hash of the configuration by name, for the runs that the archive holds. Of several runs of one name and
    one configuration, the latest finished one is kept.
    """
    owners = dict(taken)
    found: dict[str, Run] = {}
    for run in runs:
        own = run.fields.get(_HASH)
        name = run.name if owners.setdefault(run.name, own) == own else f"{run.name}-{own}"
        if name not in found or standing(run) > standing(found[name]):
            found[name] = run
    return found


def _whole(run: Run) -> ArchivedRun | None:
    """The run's result and records, from its folder, else from the archive that holds it."""
    result = read_result(run.folder)
    whole = archived_run(run.folder) if result is None else ArchivedRun(result, read_metrics(run.folder))
    return whole and ArchivedRun(_without_paths(whole.result), whole.records)


def _without_paths(result: dict[str, Any]) -> dict[str, Any]:
    """``result`` without the machine's paths: a run's folder is shortened to the names of the sweep and the run."""
    kept = dict(result)
    if isinstance(folder := result.get("config", {}).get("folder"), str):
        kept["config"] = {**result["config"], "folder": _last_names(folder)}
    if isinstance(folder := result.get("reused_from"), str):
        kept["reused_from"] = _last_names(folder)
    return kept


def _last_names(folder: str) -> str:
    return "/".join(Path(folder).parts[-2:])
