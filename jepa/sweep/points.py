"""The jobs of a sweep: products of axes, zipped lists and explicit points, as lists of Hydra overrides.

A *point* maps keys to values in override syntax. A *block* is a list of points. A grid is the product of its blocks.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jepa.config.arguments import quoted
from jepa.config.names import short_names
from jepa.config.operational import CONTROL_KEYS, says_how, top
from jepa.config.search_path import group_options
from jepa.errors import ConfigError
from jepa.sweep import selection
from jepa.sweep.arguments import Arguments, Point, bare, expanded, parsed, refuse_empty, refuse_many

# The sweep itself decides these keys, so its blocks must not set them for jobs.
_NOT_FOR_JOBS = (*CONTROL_KEYS, "folder", "hydra", "choices", "on_probe")

COMMAND_LINE = "the command line"

_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]*")
_KEYWORDS = {"true", "false", "null", "nan", "inf"}


class Block(NamedTuple):
    """A factor of the product: its points, and its name in messages."""

    name: str
    points: list[Point]


@dataclass(frozen=True)
class Grid:
    """All jobs of a sweep, before composition."""

    fixed: Point
    deletions: list[str]
    points: list[Point]
    shared: frozenset[str] = frozenset()  # keys given to all jobs; a job whose group options lack a key drops it
    implied: frozenset[str] = frozenset()  # keys whose value follows from another key of the point

    @property
    def varied(self) -> list[str]:
        """The keys in which jobs differ, in the order of the blocks."""
        keys = dict.fromkeys(key for point in self.points for key in point)
        return [
            key for key in keys if key not in self.implied and len({point.get(key) for point in self.points}) > 1
        ]

    @property
    def keys(self) -> set[str]:
        """All keys that are set for any job."""
        return {*self.fixed, *(key for point in self.points for key in point)}

    def overrides(self, point: Point) -> list[str]:
        """The override strings of one job."""
        return [*self.deletions, *(f"{key}={value}" for key, value in {**self.fixed, **point}.items())]


def build_grid(spec: Mapping[str, Any], arguments: Arguments) -> Grid:
    """Build the jobs from a sweep file's ``axes``, ``zipped``, ``points`` and ``overrides`` and from a command line.

    A key on the command line replaces the same key everywhere in the file, but for the keys of ``given``.

    Args:
        spec: the ``sweep`` node as plain dictionaries and lists.
        arguments: from :func:`parse_arguments`.

    Raises:
        ConfigError: an axis is empty, zipped lists have different lengths, a point is not a mapping, two blocks set
            one key, or a block sets a key that the sweep decides.
    """
    arguments, values = selection.split(_mapping("sweep.given", spec.get("given")), arguments)
    told = _told(arguments)
    overrides = _mapping("sweep.overrides", spec.get("overrides"))
    fixed = {key: override_value(value) for key, value in overrides.items() if bare(key) not in told}
    kept = [block for block in _blocks(spec, arguments, values) if block.points != [{}]]
    _refuse_conflicts([Block("sweep.overrides", [fixed]), *kept, Block(COMMAND_LINE, [arguments.fixed])])
    for block in [Block("sweep.overrides", [fixed]), *kept]:
        _refuse_keys_of_the_sweep(block)
        _refuse_equal_jobs(block)
    product = [_merged(points) for points in itertools.product(*(block.points for block in kept))]
    shared = {*fixed, *arguments.fixed, *arguments.axes, *_mapping("sweep.axes", spec.get("axes"))}
    return Grid({**fixed, **arguments.fixed}, arguments.deletions, _unique(product), frozenset(shared))


def grid_size(spec: Mapping[str, Any], arguments: Arguments) -> int:
    """An upper bound of the number of jobs. The jobs are not listed, because a grid may be very large."""
    arguments, values = selection.split(_mapping("sweep.given", spec.get("given")), arguments)
    return math.prod(len(block.points) for block in _blocks(spec, arguments, values))


def _told(arguments: Arguments) -> set[str]:
    """The keys that the command line sets."""
    return {bare(key) for key in (*arguments.fixed, *arguments.axes, *arguments.intervals)}


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


def label(point: Mapping[str, str], varied: Sequence[str]) -> str:
    """A readable label: the job's values of the keys that vary in the sweep."""
    names = short_names({bare(key) for key in varied if "/" not in key})
    shown = (f"{names.get(bare(key), short(key))}={point[key]}" for key in varied if key in point)
    return " ".join(shown) or "the only job"


def short(key: str) -> str:
    """The last part of a key: ``dataset.static_noise`` -> ``static_noise``."""
    return bare(key).split("@")[0].rpartition(".")[2].rpartition("/")[2]


def _blocks(spec: Mapping[str, Any], arguments: Arguments, values: Mapping[str, Sequence[str]]) -> list[Block]:
    """The blocks of a sweep file without the keys that the command line sets, then the blocks of the command line.

    values: what the command line says of the keys of ``given``; see :func:`jepa.sweep.selection.chosen`.
    """
    axes, groups = _mapping("sweep.axes", spec.get("axes")), spec.get("zipped") or []
    blocks = [Block("sweep.axes", [{key: value} for value in _values(key, values)]) for key, values in axes.items()]
    for group in [groups] if isinstance(groups, Mapping) else groups:
        blocks.append(Block("sweep.zipped", _zipped(_mapping("sweep.zipped", group))))
    points = [point for entry in spec.get("points") or [] for point in _points(entry)]
    given = spec.get("given") or {}
    selection.check_given(given, points)
    if points:
        blocks.append(Block("sweep.points", selection.chosen(points, given, values)))
    told = _told(arguments)
    blocks = [Block(block.name, _without(block.points, told)) for block in blocks]
    return blocks + [Block(COMMAND_LINE, [{key: value} for value in values]) for key, values in arguments.axes.items()]


def _values(key: str, values: Any) -> list[str]:
    """The values of an axis, given as a yaml list or in Hydra's sweep syntax such as ``range(0, 3.5, 0.5)``."""
    if isinstance(values, str):
        override = parsed([f"{key}={values}"])[0]
        found = expanded(override) if override.is_discrete_sweep() else [values]
    elif isinstance(values, Sequence):
        found = [override_value(value) for value in values]
    else:
        raise ConfigError(f"sweep.axes.{key}={values!r}: must be a list of values")
    refuse_empty(key, found)
    return found


def _zipped(group: Mapping[str, Any]) -> list[Point]:
    columns = {key: _values(key, values) for key, values in group.items()}
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"sweep.zipped: lists of one length advance together, these have {lengths}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] or [{}]


def _points(values: Any) -> list[Point]:
    """The points of one entry of ``sweep.points``.

    Lists in the entry are expanded to all combinations. ``{key}`` in a value stands for the point's value of that key.
    """
    entry = _mapping("sweep.points", values)
    templates = {key: value for key, value in entry.items() if selection.is_template(value)}
    columns = {
        key: _values(key, value) if isinstance(value, list) else [override_value(value)]
        for key, value in entry.items()
        if key not in templates
    }
    refuse_many("sweep.points", math.prod(map(len, columns.values())))
    points = [dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())]
    for point in points:
        point |= {key: override_value(selection.filled(key, text, point)) for key, text in templates.items()}
    return points


def flat(node: Mapping[str, Any], is_leaf: Callable[[Any], bool], path: str = "") -> dict[str, Any]:
    """Flatten ``node`` to a mapping from full key to value.

    In yaml, ``dataset.noise: …`` is one key. On the command line, ``+sweep.axes.dataset.noise=…`` makes nested keys.

    Raises:
        ConfigError: a key is given in both spellings.
    """
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


def _without(points: Iterable[Point], keys: set[str]) -> list[Point]:
    return _unique({key: value for key, value in point.items() if bare(key) not in keys} for point in points)


# --- checks of the blocks -------------------------------------------------------------------------------------------


def _refuse_keys_of_the_sweep(block: Block) -> None:
    for key in {key: None for point in block.points for key in point}:
        if top(key) not in _NOT_FOR_JOBS or block.name == COMMAND_LINE:
            continue
        if top(key) == "hydra":
            how = "a sweep has one launcher; choose it by hydra/launcher=NAME on the command line"
            raise ConfigError(f"{block.name}: {key}: belongs to the sweep, not to a job; {how}")
        raise ConfigError(f"{block.name}: {key}: belongs to the sweep, not to a job; give it on the command line")


def _refuse_equal_jobs(block: Block) -> None:
    """Refuse points that differ only in operational keys: they would be the same job."""
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
    """Refuse two blocks that set one key. One block would silently override the other, and jobs would be lost."""
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
            if above in owners and not group_options(above.partition("@")[0]):
                raise ConfigError(f"{key}: set by {name}, and {above} by {owners[above]}; leave one out")


def _merged(points: Iterable[Point]) -> Point:
    merged: Point = {}
    for point in points:
        merged.update(point)
    return merged


def _unique(points: Iterable[Point]) -> list[Point]:
    return [dict(items) for items in dict.fromkeys(tuple(point.items()) for point in points)]
