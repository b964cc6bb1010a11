"""Which keys tell the runs apart: the axes that a table's rows stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jepa.results.records import Run, is_operational, parse_override

SEED = "seed"
Point = tuple[Any, ...]


def axis_value(run: Run, key: str) -> Any:
    """What a run has for an axis: a group's choice before a measured number that happens to have its name."""
    if key in run.choices:
        return run.choices[key]
    return run.config[key] if key in run.config else run.value(key)


def varying_axes(runs: Sequence[Run], planned: Iterable[str] = ()) -> list[str]:
    """The axes, such that runs which agree on all of them differ in their seed alone.

    First the keys that ``planned`` or the runs' own overrides name and that take several values; then, for what these
    leave mixed, the config groups and keys that differ. A key that only follows from a config group's choice (a
    coefficient that one model has and the other has not) is no axis.
    """
    named = dict.fromkeys((*planned, *(parse_override(text)[0] for run in runs for text in run.overrides)))
    axes = [key for key in named if key != SEED and not is_operational(key) and _varies(runs, key)]
    groups = [key for key in axes if any(key in run.choices for run in runs)]
    axes = groups + [key for key in axes if key not in groups]
    for choice in _choosable(runs):
        if choice not in axes and choice in _mixed_choices(runs, axes):
            axes.append(choice)
    return axes + _without_twins(runs, _mixed_keys(runs, axes))


def group_runs(runs: Iterable[Run], axes: Sequence[str]) -> dict[Point, list[Run]]:
    """The runs by their values on ``axes``."""
    groups: dict[Point, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(axis_value(run, key) for key in axes), []).append(run)
    return groups


def differences(run: Run, axes: Sequence[str]) -> dict[str, Any]:
    """What sets ``run`` apart from the runs that ``axes`` and the seed tell it from: key -> its value."""
    values = {key: axis_value(run, key) for key in (*axes, SEED)}
    return {key: value for key, value in values.items() if value is not None}


def _choosable(runs: Sequence[Run]) -> list[str]:
    """The config groups that say what is computed; the model first, since others follow from it."""
    groups = dict.fromkeys(key for run in runs for key in run.choices if key != "sweep" and not is_operational(key))
    return sorted(groups, key=lambda group: (group != "model", group != "dataset"))


def _varies(runs: Sequence[Run], key: str) -> bool:
    return len({_marked(axis_value(run, key)) for run in runs}) > 1


def _marked(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), value  # True == 1 in Python, not here


def _mixed_choices(runs: Sequence[Run], axes: Sequence[str]) -> set[str]:
    """The config groups whose choice differs between runs that agree on ``axes``."""
    mixed: set[str] = set()
    for group in group_runs(runs, axes).values():
        choices = [run.choices for run in group if run.choices]  # a pending or broken one may have none
        for other in choices[1:]:
            mixed.update(key for key, _ in other.items() ^ choices[0].items())
    return mixed


def _mixed_keys(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """The scientific config keys that differ between runs that agree on ``axes``."""
    mixed: set[str] = set()
    for group in group_runs(runs, axes).values():
        configs = [run.config for run in group if run.config]
        for config in configs[1:]:
            mixed.update(key for key, _ in config.items() ^ configs[0].items())
    return sorted(key for key in mixed if key != SEED and not is_operational(key))


def _without_twins(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """``keys`` without copies: keys that have in every run the same value as another key, by interpolation."""
    columns: dict[Point, str] = {}
    for key in sorted(keys, key=lambda name: (name.count("."), name)):
        columns.setdefault(tuple(run.config.get(key) for run in runs), key)
    return sorted(columns.values())
