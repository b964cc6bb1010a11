"""What a sweep consists of: products of axes, zipped lists and explicit points, as lists of Hydra overrides.

A *block* is a list of points, a point a mapping from key to value in override syntax; a grid is the product of blocks.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from jepa.config.arguments import quoted
from jepa.config.operational import CONTROL_KEYS, says_how, top
from jepa.config.search_path import group_options
from jepa.errors import ConfigError

# No job of a sweep is given these: the sweep itself decides them.
_NOT_FOR_JOBS = (*CONTROL_KEYS, "folder", "hydra", "choices", "on_probe")

MAX_VALUES = 100_000  # of one axis: more would only cost memory before sweep.max_jobs refuses them
COMMAND_LINE = "the command line"

Point = dict[str, str]

_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]*")
_KEYWORDS = {"true", "false", "null", "nan", "inf"}


@dataclass(frozen=True)
class Arguments:
    """The command line, sorted by what each override is for."""

    fixed: Point  # the same for every job
    deletions: list[str]  # overrides such as ~key, the same for every job
    axes: dict[str, list[str]]  # key=a,b,c
    intervals: dict[str, Override]  # key=interval(...): a dimension of a search


class Block(NamedTuple):
    """A factor of the product: its points, and what to call it in a message."""

    name: str
    points: list[Point]


@dataclass(frozen=True)
class Grid:
    """All jobs of a sweep, before composition."""

    fixed: Point
    deletions: list[str]
    points: list[Point]
    shared: frozenset[str] = frozenset()  # keys that jobs are given whatever their group options are

    @property
    def varied(self) -> list[str]:
        """The keys in which jobs differ, in the order of the blocks."""
        keys = dict.fromkeys(key for point in self.points for key in point)
        return [key for key in keys if len({point.get(key) for point in self.points}) > 1]

    @property
    def keys(self) -> set[str]:
        """Every key that a job is given."""
        return {*self.fixed, *(key for point in self.points for key in point)}

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
    seen: dict[str, Override] = {}
    for override in _parsed(arguments, config_loader):
        key = override.get_key_element()
        if top(key) in CONTROL_KEYS:
            _refuse_axis_of_control(override)
            continue
        if top(key) == "folder":
            raise ConfigError(
                f"{override.input_line}: is for a single run; a sweep's folder is outputs/<sweep.name>, or "
                "hydra.sweep.dir"
            )
        earlier = seen.setdefault(bare(key), override)
        if earlier is not override and (earlier.is_sweep_override() or override.is_sweep_override()):
            both = f"{earlier.input_line} and {override.input_line}"
            raise ConfigError(f"{bare(key)}: given twice, {both}; leave one out")
        if override.is_delete() or override.is_list_extend():
            deletions.append(str(override.input_line))
        elif not override.is_sweep_override():
            fixed[key] = str(override.get_value_element_as_str())
        elif override.is_discrete_sweep():
            values = _expanded(override)
            _refuse_empty(key, values)
            if len(values) == 1:
                fixed[key] = values[0]
            else:
                axes[key] = values
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
    told = {bare(key) for key in (*arguments.fixed, *arguments.axes, *arguments.intervals)}
    blocks = [Block(block.name, _without(block.points, told)) for block in _blocks(spec)]
    overrides = _mapping("sweep.overrides", spec.get("overrides"))
    fixed = {key: override_value(value) for key, value in overrides.items() if bare(key) not in told}
    blocks += [Block(COMMAND_LINE, [{key: value} for value in values]) for key, values in arguments.axes.items()]
    kept = [block for block in blocks if block.points != [{}]]
    _refuse_conflicts([Block("sweep.overrides", [fixed]), *kept, Block(COMMAND_LINE, [arguments.fixed])])
    for block in [Block("sweep.overrides", [fixed]), *kept]:
        _refuse_keys_of_the_sweep(block)
        _refuse_equal_jobs(block)
    product = [_merged(points) for points in itertools.product(*(block.points for block in kept))]
    shared = {*fixed, *arguments.fixed, *arguments.axes, *_mapping("sweep.axes", spec.get("axes"))}
    return Grid({**fixed, **arguments.fixed}, arguments.deletions, _unique(product), frozenset(shared))


def grid_size(spec: Mapping[str, Any], arguments: Arguments) -> int:
    """An upper bound of the number of jobs, without listing them: a grid may be absurdly large."""
    told = {bare(key) for key in (*arguments.fixed, *arguments.axes, *arguments.intervals)}
    sizes = [len(values) for values in arguments.axes.values()]
    for key, values in _mapping("sweep.axes", spec.get("axes")).items():
        sizes += [] if bare(key) in told else [len(_values(key, values))]
    for columns in _zipped_groups(spec):
        kept = [len(_values(key, values)) for key, values in columns.items() if bare(key) not in told]
        sizes += kept[:1]
    entries = [_mapping("sweep.points", point) for point in spec.get("points") or []]
    lists = ([len(value) for value in point.values() if isinstance(value, list)] for point in entries)
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
    return quoted(text)


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


def _blocks(spec: Mapping[str, Any]) -> list[Block]:
    """The blocks of a sweep file."""
    axes = _mapping("sweep.axes", spec.get("axes"))
    blocks = [Block("sweep.axes", [{key: value} for value in _values(key, values)]) for key, values in axes.items()]
    blocks += [Block("sweep.zipped", _zipped(group)) for group in _zipped_groups(spec)]
    if spec.get("points"):
        blocks.append(Block("sweep.points", [point for values in spec["points"] for point in _points(values)]))
    return blocks


def _zipped_groups(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = spec.get("zipped") or []
    return [_mapping("sweep.zipped", group) for group in ([groups] if isinstance(groups, Mapping) else groups)]


def _values(key: str, values: Any) -> list[str]:
    """A yaml list, or a string in Hydra's sweep syntax such as ``range(0, 3.5, 0.5)``."""
    if isinstance(values, str):
        override = _parsed([f"{key}={values}"])[0]
        found = _expanded(override) if override.is_discrete_sweep() else [values]
    elif isinstance(values, Sequence):
        found = [override_value(value) for value in values]
    else:
        raise ConfigError(f"sweep.axes.{key}={values!r}: must be a list of values")
    _refuse_empty(key, found)
    return found


def _expanded(override: Override) -> list[str]:
    """The values of a discrete sweep, counted before they are listed."""
    size = axis_size(override)
    if size > MAX_VALUES:
        raise ConfigError(f"{override.input_line}: {size} values; an axis takes at most {MAX_VALUES}")
    return [str(value) for value in override.sweep_string_iterator()]


def axis_size(override: Override) -> int:
    """How many values a discrete sweep has, without listing them.

    Raises:
        ConfigError: a range that never ends, or has no step.
    """
    sweep = override.value()
    if not isinstance(sweep, RangeSweep):
        return sum(1 for _ in override.sweep_iterator())
    try:
        start, stop, step = (Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
        return max(0, math.ceil((stop - start) / step))
    except (ArithmeticError, ValueError):
        raise ConfigError(f"{override.input_line}: must be range(start, stop, step) of finite numbers") from None


def _zipped(group: Mapping[str, Any]) -> list[Point]:
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
        inner = flat(value, is_leaf, f"{path}{key}.") if isinstance(value, Mapping) and not is_leaf(value) else None
        for name, item in ({f"{path}{key}": value} if inner is None else inner).items():
            if name in found:
                raise ConfigError(f"{name}: given twice, once with dots and once as nested keys; leave one out")
            found[name] = item
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


def _without(points: Iterable[Point], keys: set[str]) -> list[Point]:
    return _unique({key: value for key, value in point.items() if bare(key) not in keys} for point in points)


# --- what blocks may not set ---------------------------------------------------------------------------------------


def _refuse_axis_of_control(override: Override) -> None:
    """A key that steers the sweep has one value."""
    if not override.is_sweep_override():
        return
    key = bare(override.get_key_element())
    advice = "write reuse=[a,b]" if key == "reuse" else "it steers the sweep and takes one value"
    raise ConfigError(f"{override.input_line}: is no axis; {advice}")


def _refuse_keys_of_the_sweep(block: Block) -> None:
    for key in {key: None for point in block.points for key in point}:
        if top(key) not in _NOT_FOR_JOBS or block.name == COMMAND_LINE:
            continue
        if top(key) == "hydra":
            how = "a sweep has one launcher; choose it by hydra/launcher=NAME on the command line"
            raise ConfigError(f"{block.name}: {key}: belongs to the sweep, not to a job; {how}")
        raise ConfigError(f"{block.name}: {key}: belongs to the sweep, not to a job; give it on the command line")


def _refuse_equal_jobs(block: Block) -> None:
    """Points that differ only in how a job is carried out would be one job."""
    first: dict[tuple[tuple[str, str], ...], Point] = {}
    for point in block.points:
        science = tuple((key, value) for key, value in point.items() if not says_how(key))
        earlier = first.setdefault(science, point)
        for key, value in point.items():
            if earlier.get(key) != value:
                raise ConfigError(
                    f"{bare(key)}={earlier.get(key)},{value}: says how a job is carried out, not what it computes, so "
                    "these would be one job; give one value"
                )


def _refuse_conflicts(blocks: Sequence[Block]) -> None:
    """Two blocks that set one key: one of them would win without a word, and jobs would vanish."""
    owners: dict[str, str] = {}
    for block in blocks:
        for key in dict.fromkeys(bare(key) for point in block.points for key in point):
            if key in owners:
                both = f"{owners[key]}, twice" if owners[key] == block.name else f"both {owners[key]} and {block.name}"
                raise ConfigError(f"{key}: set by {both}; only one of them could hold, so leave one out")
            owners[key] = block.name
    for key, name in owners.items():
        parts = key.split(".")
        for above in (".".join(parts[:count]) for count in range(1, len(parts))):
            if above in owners and not group_options(above):
                raise ConfigError(f"{key}: set by {name}, and {above} by {owners[above]}; leave one out")


def _merged(points: Iterable[Point]) -> Point:
    merged: Point = {}
    for point in points:
        merged.update(point)
    return merged


def _unique(points: Iterable[Point]) -> list[Point]:
    return [dict(items) for items in dict.fromkeys(tuple(point.items()) for point in points)]
