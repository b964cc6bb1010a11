"""Find the axes of a table: the keys in which its runs differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jepa.results.records import Run, is_operational, parse_override

SEED = "seed"
LEFT_OUT = "left_out"  # the term that a run of an ablation does without
NOTHING = "nothing"  # shown for the full objective
FORMAT = "format"  # of a run's configuration
PRESET = "reproduce"
PRESET_KEYS = ("model", "dataset.noise", "dataset.static_noise", "dataset.structured_noise")  # what names a preset
Point = tuple[Any, ...]


def axis_value(run: Run, key: str) -> Any:
    """A run's value on an axis: the choice of a config group, else a config key, else any other value of this name."""
    if key in run.choices:
        return run.choices[key]
    value = run.config[key] if key in run.config else run.value(key)
    return NOTHING if key == LEFT_OUT and value is None else value


def varying_axes(runs: Sequence[Run], planned: Iterable[str] = ()) -> list[str]:
    """The axes. Runs with equal values on all axes differ only in their seed.

    First come the keys with several values that ``planned`` or the overrides of the runs name. If runs with equal
    values on these keys still differ, the differing config groups and keys are added. A key that follows from the
    choice of a config group is no axis, for example a coefficient that only one of two models has. Runs whose
    configurations have different formats are told apart by the format, not by the keys that only one format has. A
    published setting (``reproduce``) is no axis; its method and its noise are. If runs leave out a term each, the
    coefficient that does so is no axis.
    """
    told = dict.fromkeys((*planned, *(parse_override(text)[0] for run in runs for text in run.overrides)))
    named = dict.fromkeys(name for key in told for name in _names(runs, key))
    axes = [key for key in named if key != SEED and not is_operational(key) and _varies(runs, key)]
    groups = [key for key in axes if any(key in run.choices for run in runs)]
    axes = sorted(groups, key=lambda group: group != "model") + [key for key in axes if key not in groups]
    for choice in _choosable(runs):
        if choice not in axes and choice in _mixed_choices(runs, axes):
            axes.append(choice)
    if len({run.fields.get(FORMAT) for run in runs} - {None}) > 1:
        axes.append(FORMAT)  # configurations of two formats have other keys throughout
    axes += _without_twins(runs, _mixed_keys(runs, axes))
    return [key for key in axes if not _follows_from_left_out(runs, key, axes)]


def group_runs(runs: Iterable[Run], axes: Sequence[str]) -> dict[Point, list[Run]]:
    """Group the runs by their values on ``axes``."""
    groups: dict[Point, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(axis_value(run, key) for key in axes), []).append(run)
    return groups


def differences(run: Run, axes: Sequence[str]) -> dict[str, Any]:
    """The run's values on ``axes`` and its seed, by key. Missing values are left out."""
    values = {key: axis_value(run, key) for key in (*axes, SEED)}
    return {key: value for key, value in values.items() if value is not None}


def _names(runs: Sequence[Run], key: str) -> Iterable[str]:
    """What runs call the key of an override: a group has a choice for each place, such as ``model/term@model.x``."""
    if key == PRESET:
        return PRESET_KEYS
    placed = dict.fromkeys(name for run in runs for name in run.choices if name.partition("@")[0] == key)
    return placed or (key,)


def _choosable(runs: Sequence[Run]) -> list[str]:
    """The config groups that change results. The model comes first, because other choices follow from it."""
    groups = dict.fromkeys(key for run in runs for key in run.choices if key != PRESET and not is_operational(key))
    return sorted(groups, key=lambda group: (group != "model", group != "dataset"))


def _varies(runs: Sequence[Run], key: str) -> bool:
    return len({_marked(axis_value(run, key)) for run in runs}) > 1


def _follows_from_left_out(runs: Sequence[Run], key: str, axes: Sequence[str]) -> bool:
    """Whether ``key`` is a number of the model that has one value for each term left out (and choice of groups)."""
    if LEFT_OUT not in axes or not key.startswith("model."):
        return False
    known = [axis for axis in axes if axis == LEFT_OUT or any(axis in run.choices for run in runs)]
    settled = [run for run in runs if run.config]  # a pending run may have none
    return not any(_varies(group, key) for group in group_runs(settled, known).values())


def _marked(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), value  # tells True from 1, which are equal in Python


def _mixed_choices(runs: Sequence[Run], axes: Sequence[str]) -> set[str]:
    """The config groups whose choice differs between runs with equal values on ``axes``."""
    mixed: set[str] = set()
    for group in group_runs(runs, axes).values():
        choices = [run.choices for run in group if run.choices]  # a pending or damaged run may have none
        for other in choices[1:]:
            mixed.update(key for key, _ in other.items() ^ choices[0].items())
    return mixed


def _mixed_keys(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """The scientific config keys that differ between runs with equal values on ``axes``."""
    mixed: set[str] = set()
    for group in group_runs(runs, axes).values():
        configs = [run.config for run in group if run.config]
        for config in configs[1:]:
            mixed.update(key for key, _ in config.items() ^ configs[0].items())
    return sorted(key for key in mixed if key != SEED and not is_operational(key))


def _without_twins(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """Drop each key that has the same value as another key in every run, for example by interpolation."""
    columns: dict[Point, str] = {}
    for key in sorted(keys, key=lambda name: (name.count("."), name)):
        columns.setdefault(tuple(run.config.get(key) for run in runs), key)
    return sorted(columns.values())
