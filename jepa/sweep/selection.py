"""What a command line does to the points of a sweep file that names its keys in ``sweep.given``.

By default a value on the command line replaces its key in every job. A study has points that belong together: a method,
a kind of noise, a strength, and the published setting of the three. There, ``model=vicreg`` is to choose points.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jepa.errors import ConfigError, check_choice, nearest
from jepa.sweep.arguments import Arguments, Point, bare

SELECTS, REPLACES = "selects", "replaces"
_TEMPLATE = re.compile(r"\{([\w./@]+)\}")


def split(given: Mapping[str, Any], arguments: Arguments) -> tuple[Arguments, dict[str, list[str]]]:
    """The command line without the keys of ``given``, and the values that it has for these keys.

    Raises:
        ConfigError: a key of ``given`` neither selects nor replaces.
    """
    for key, what in given.items():
        check_choice(f"sweep.given.{key}", what, (SELECTS, REPLACES))
    told = {key: [value] for key, value in arguments.fixed.items()} | arguments.axes
    values = {bare(key): found for key, found in told.items() if bare(key) in given}
    fixed = {key: value for key, value in arguments.fixed.items() if bare(key) not in given}
    axes = {key: found for key, found in arguments.axes.items() if bare(key) not in given}
    return replace(arguments, fixed=fixed, axes=axes), values


def check_given(given: Mapping[str, Any], points: Sequence[Point]) -> None:
    """Raise ConfigError if ``given`` has a key that no point has: a value on the command line would be lost."""
    for key in given:
        if not any(key in point for point in points):
            words = "no point has this key; a value on the command line replaces an axis anyway"
            raise ConfigError(f"sweep.given.{key}: {words}")


def chosen(points: Sequence[Point], given: Mapping[str, Any], values: Mapping[str, Sequence[str]]) -> list[Point]:
    """The points that have one of ``values`` for each key that selects, with the values of the keys that replace.

    Raises:
        ConfigError: no point has a value, with the nearest spelling.
    """
    kept = list(points)
    for key, wanted in values.items():
        if given[key] == REPLACES:
            kept = [{**point, key: value} if key in point else point for point in kept for value in wanted]
            continue
        known = list(dict.fromkeys(point[key] for point in points if key in point))
        for value in wanted:
            if not any(_same(value, other) for other in known):
                hint = nearest(value, known)
                words = f"; did you mean {hint!r}?" if hint else ""
                raise ConfigError(f"{key}={value}: the sweep has no such point; it has {', '.join(known)}{words}")
        kept = [point for point in kept if key in point and any(_same(point[key], value) for value in wanted)]
    if not kept:
        told = " ".join(f"{key}={','.join(wanted)}" for key, wanted in values.items())
        raise ConfigError(f"{told}: the sweep has no point with all of these values")
    return kept


def is_template(value: Any) -> bool:
    """Whether a value of a point names other keys of the point, as in ``fixed_uniform/{dataset.noise}/vicreg``."""
    return isinstance(value, str) and "${" not in value and _TEMPLATE.search(value) is not None


def filled(key: str, template: str, point: Point) -> str:
    """``template`` with the values of ``point``. A number has its shortest spelling: 1.0 becomes 1.

    Raises:
        ConfigError: the point has no such key.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in point:
            raise ConfigError(f"sweep.points: {key}={template}: the point has no key {match[1]}")
        try:
            return f"{float(point[match[1]]):g}"
        except ValueError:
            return point[match[1]]

    return _TEMPLATE.sub(value, template)


def _same(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return one.strip("'\"") == other.strip("'\"")
