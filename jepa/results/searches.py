"""Find the searches among some runs: the runs of each search, and the keys that it varied."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from jepa.config.names import short_names
from jepa.results.axes import axis_value, varying_axes
from jepa.results.collect import Collection
from jepa.results.records import Run, is_operational
from jepa.results.render import format_cell
from jepa.results.tables import sign_of
from jepa.store.result import is_number

_LONGEST_TITLE = 48


@dataclass(frozen=True)
class SearchRuns:
    """One search. title: distinguishes it from other searches. runs: by trial number. axes: the searched keys."""

    title: str
    runs: tuple[Run, ...]
    axes: tuple[str, ...]

    def finished(self, metric: str) -> list[Run]:
        """The finished trials that have ``metric``, without pruned and failed trials."""
        return [run for run in self.runs if run.status == "finished" and is_number(run.value(metric))]

    def best(self, metric: str) -> Run | None:
        """The finished trial with the best ``metric``; None if there is none."""
        sign = sign_of(metric)
        return min(self.finished(metric), key=lambda run: sign * float(run.value(metric)), default=None)


def searches_in(found: Collection, runs: Sequence[Run]) -> list[SearchRuns]:
    """Group the runs by their parent folder. If any folder is of a search, folders of grids are left out.

    The axes of a search are only the keys that vary within the search. Final runs of the best trial are left out. An
    archive may hold the trials of several searches; they are told apart by what a search keeps fixed.
    """
    folders: dict[str, list[Run]] = {}
    for run in runs:
        folders.setdefault(os.path.dirname(run.folder), []).append(run)
    plans = {folder: found.plans.get(folder) for folder in folders}
    if any(plan and plan.search for plan in plans.values()):
        folders = {folder: group for folder, group in folders.items() if (plan := plans[folder]) and plan.search}
    searches = []
    for folder, runs_of in folders.items():
        plan = plans[folder]
        planned = plan.axes if plan else ()
        group = [run for run in runs_of if run.value("probe.judge_stream") == "validation"]
        one_search = not group or (plan is not None and plan.search)  # trials without files have no configuration
        for trials in [group or runs_of] if one_search else _cells(group, planned):
            axes = varying_axes(trials, planned)
            searches.append(SearchRuns(_shortened(folder), tuple(sorted(trials, key=trial_order)), tuple(axes)))
    return _told_apart(searches) if len(searches) > 1 else searches


def cell_name(run: Run, searched: Container[str]) -> tuple[Any, ...]:
    """What the trials of a cell have in common: the sweep's folder, the choices of groups, and the data set."""
    data = [
        (key, str(value))
        for key, value in sorted(run.config.items())
        if key.startswith("dataset.") and key not in searched and not is_operational(key)
    ]
    choices = [(group, option) for group, option in sorted(run.choices.items()) if not is_operational(group)]
    return os.path.dirname(run.folder), str(run.config.get("scale")), *choices, *data


def _cells(trials: Sequence[Run], searched: Sequence[str]) -> list[list[Run]]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in trials:
        groups.setdefault(cell_name(run, searched), []).append(run)
    return list(groups.values())


def trial_order(run: Run) -> tuple[int, Any]:
    """A sort key for runs: the trial number, else the start time."""
    number = run.fields.get("trial")
    return (0, number) if is_number(number) else (1, str(run.fields.get("started", "~")))


def trial_number(run: Run, place: int) -> int:
    """The trial number of a run; ``place`` (its place among the runs) if it has no number."""
    number = run.fields.get("trial")
    return number if isinstance(number, int) else place


def _told_apart(searches: list[SearchRuns]) -> list[SearchRuns]:
    """Title each search by the fixed values that differ between searches. Keep the titles if these are not unique."""
    searched = {axis for search in searches for axis in search.axes}
    keys = [key for key in varying_axes([run for search in searches for run in search.runs]) if key not in searched]
    names = short_names(keys)
    titles = []
    for search in searches:
        values = {key: axis_value(search.runs[0], key) for key in keys}
        shown = [f"{names[key]}={format_cell(value, exact=True)}" for key, value in values.items() if value is not None]
        titles.append(", ".join(shown))
    if len(set(titles)) < len(titles) or "" in titles:
        return searches
    return [SearchRuns(title, search.runs, search.axes) for title, search in zip(titles, searches, strict=True)]


def _shortened(folder: str) -> str:
    name = os.path.basename(os.path.abspath(folder))
    return name if len(name) <= _LONGEST_TITLE else f"{name[: _LONGEST_TITLE - 1]}…"
