"""What a sweep consists of: products of axes, zipped lists and explicit points, as lists of Hydra overrides.

A *block* is a list of points, a point a mapping from key to value in override syntax; a grid is the product of blocks.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from jepa.errors import ConfigError

# Keys that steer the sweep itself; no job is given them.
CONTROL_KEYS = ("sweep", "dry_run", "yes", "retry_failed", "reuse")

Point = dict[str, str]
Block = list[Point]

_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]*")
_KEYWORDS = {"true", "false", "null", "nan", "inf"}


@dataclass(frozen=True)
class Arguments:
    """The command line, sorted by what each override is for."""

    fixed: Point  # the same for every job
    deletions: list[str]  # overrides such as ~key, the same for every job
    axes: dict[str, list[str]]  # key=a,b,c
    intervals: dict[str, Override]  # key=interval(...): a dimension of a search


@dataclass(frozen=True)
class Grid:
    """All jobs of a sweep, before composition."""

    fixed: Point
    deletions: list[str]
    points: list[Point]

    @property
    def varied(self) -> list[str]:
        """The keys in which jobs differ, in the order of the blocks."""
        keys = dict.fromkeys(key for point in self.points for key in point)
        return [key for key in keys if len({point.get(key) for point in self.points}) > 1]

    def overrides(self, point: Point) -> list[str]:
        """The override strings of one job."""
        return [*self.deletions, *(f"{key}={value}" for key, value in {**self.fixed, **point}.items())]


def parse_arguments(arguments: Sequence[str], config_loader: Any = None) -> Arguments:
    """Sort the task overrides of a command line.

    Args:
        arguments: as Hydra hands them to a sweeper.
        config_loader: Hydra's, for axes such as ``model=glob(*)``.

    Raises:
        ConfigError: an override that cannot be parsed, or a sweep without values.
    """
    fixed: Point = {}
    deletions: list[str] = []
    axes: dict[str, list[str]] = {}
    intervals: dict[str, Override] = {}
    for override in _parsed(arguments, config_loader):
        key = override.get_key_element()
        if bare(key).split(".")[0].split("@")[0] in CONTROL_KEYS:
            continue
        if override.is_delete():
            deletions.append(str(override.input_line))
        elif not override.is_sweep_override():
            fixed[key] = str(override.get_value_element_as_str())
        elif override.is_discrete_sweep():
            axes[key] = [str(value) for value in override.sweep_string_iterator()]
            _refuse_empty(key, axes[key])
        else:
            intervals[key] = override
    return Arguments(fixed, deletions, axes, intervals)


def build_grid(spec: Mapping[str, Any], arguments: Arguments) -> Grid:
    """The jobs that a sweep file's ``axes``, ``zipped``, ``points`` and ``overrides`` and a command line describe.

    A key on the command line replaces that key wherever the file has it.

    Args:
        spec: the ``sweep`` node as plain dictionaries and lists.
        arguments: from :func:`parse_arguments`.

    Raises:
        ConfigError: empty axes, zipped lists of different lengths, points that are no mappings.
    """
    blocks = [_axis(key, values) for key, values in _mapping("sweep.axes", spec.get("axes")).items()]
    groups = spec.get("zipped") or []
    for group in [groups] if isinstance(groups, Mapping) else groups:
        blocks.append(_zipped(_mapping("sweep.zipped", group)))
    if spec.get("points"):
        blocks.append([point for values in spec["points"] for point in _points(values)])
    fixed = {key: override_value(value) for key, value in _mapping("sweep.overrides", spec.get("overrides")).items()}
    told = {bare(key) for key in (*arguments.fixed, *arguments.axes, *arguments.intervals)}
    blocks = [_without(block, told) for block in blocks]
    blocks += [[{key: value} for value in values] for key, values in arguments.axes.items()]
    fixed = {key: value for key, value in fixed.items() if bare(key) not in told}
    product = [_merged(points) for points in itertools.product(*(block for block in blocks if block != [{}]))]
    return Grid({**fixed, **arguments.fixed}, arguments.deletions, _unique(product))


def grid_size(spec: Mapping[str, Any], arguments: Arguments) -> int:
    """An upper bound of the number of jobs, without listing them: a grid may be absurdly large."""
    told = {bare(key) for key in (*arguments.fixed, *arguments.axes, *arguments.intervals)}
    sizes = [len(values) for values in arguments.axes.values()]
    for key, values in _mapping("sweep.axes", spec.get("axes")).items():
        sizes += [] if bare(key) in told else [len(_values(key, values))]
    groups = spec.get("zipped") or []
    for group in [groups] if isinstance(groups, Mapping) else groups:
        columns = _mapping("sweep.zipped", group)
        kept = [len(_values(key, values)) for key, values in columns.items() if bare(key) not in told]
        sizes += kept[:1]
    lists = ([len(value) for value in point.values() if isinstance(value, list)] for point in spec.get("points") or [])
    return math.prod(sizes) * (sum(math.prod(lengths) for lengths in lists) or 1)


def override_value(value: Any) -> str:
    """A yaml value in the syntax of a command-line override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ",".join(override_value(item) for item in value) + "]"
    text = str(value)
    if _PLAIN_WORD.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    escaped = re.sub(r"(\\+)(?='|$)", lambda match: match.group(1) * 2, text).replace("'", "\\'")
    return f"'{escaped}'"


def bare(key: str) -> str:
    """``key`` without the operators +, ++ and ~."""
    return key.lstrip("+~")


def label(point: Mapping[str, str], varied: Sequence[str]) -> str:
    """What sets a job apart from the others of its sweep, for people."""
    return " ".join(f"{short(key)}={point[key]}" for key in varied if key in point) or "the only job"


def short(key: str) -> str:
    """The last part of a key: ``dataset.static_noise`` -> ``static_noise``."""
    return bare(key).split("@")[0].rpartition(".")[2].rpartition("/")[2]


def _parsed(arguments: Sequence[str], config_loader: Any = None) -> list[Override]:
    try:
        return OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments))
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _axis(key: str, values: Any) -> Block:
    return [{key: value} for value in _values(key, values)]


def _values(key: str, values: Any) -> list[str]:
    """A yaml list, or a string in Hydra's sweep syntax such as ``range(0, 3.5, 0.5)``."""
    if isinstance(values, str):
        override = _parsed([f"{key}={values}"])[0]
        found = [str(value) for value in override.sweep_string_iterator()] if override.is_discrete_sweep() else [values]
    elif isinstance(values, Sequence):
        found = [override_value(value) for value in values]
    else:
        raise ConfigError(f"sweep.axes.{key}={values!r}: must be a list of values")
    _refuse_empty(key, found)
    return found


def _zipped(group: Mapping[str, Any]) -> Block:
    columns = {key: _values(key, values) for key, values in group.items()}
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"sweep.zipped: lists of one length advance together, these have {lengths}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] or [{}]


def _points(values: Any) -> list[Point]:
    """One entry of ``points``; a list in it stands for each of its values."""
    columns = {
        key: _values(key, value) if isinstance(value, list) else [override_value(value)]
        for key, value in _mapping("sweep.points", values).items()
    }
    return [dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())]


def flat(node: Mapping[str, Any], is_leaf: Callable[[Any], bool], path: str = "") -> dict[str, Any]:
    """Full key to value: yaml's ``dataset.noise: …`` is one key, ``+sweep.axes.dataset.noise=…`` makes two levels."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and not is_leaf(value):
            found.update(flat(value, is_leaf, f"{path}{key}."))
        else:
            found[f"{path}{key}"] = value
    return found


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}={value!r}: must be a mapping from key to value")
    return flat(value, lambda node: False)


def _refuse_empty(key: str, values: Sequence[str]) -> None:
    if not values:
        raise ConfigError(f"{key}: an axis without values; give at least one, or leave it out")


def _without(block: Block, keys: set[str]) -> Block:
    return _unique([{key: value for key, value in point.items() if bare(key) not in keys} for point in block])


def _merged(points: Iterable[Point]) -> Point:
    merged: Point = {}
    for point in points:
        merged.update(point)
    return merged


def _unique(points: Iterable[Point]) -> list[Point]:
    return [dict(items) for items in dict.fromkeys(tuple(point.items()) for point in points)]
