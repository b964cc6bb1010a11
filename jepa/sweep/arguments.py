"""The command line of a sweep, sorted by the purpose of each override."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from jepa.config.operational import CONTROL_KEYS, top
from jepa.errors import ConfigError

MAX_VALUES = 100_000  # of one axis

Point = dict[str, str]  # key to value, in the syntax of overrides


@dataclass(frozen=True)
class Arguments:
    """The command line, sorted by the purpose of each override."""

    fixed: Point  # the same for every job
    deletions: list[str]  # overrides such as ~key, the same for every job
    axes: dict[str, list[str]]  # key=a,b,c
    intervals: dict[str, Override]  # key=interval(...): a dimension of a search


def parse_arguments(arguments: Sequence[str], config_loader: Any = None) -> Arguments:
    """Sort the task overrides of a command line.

    Args:
        arguments: the overrides that Hydra passes to a sweeper.
        config_loader: Hydra's loader, which expands axes such as ``model=glob(*)``.

    Raises:
        ConfigError: an override that cannot be parsed, or a sweep without values.
    """
    fixed: Point = {}
    deletions: list[str] = []
    axes: dict[str, list[str]] = {}
    intervals: dict[str, Override] = {}
    seen: dict[str, Override] = {}
    for override in parsed(arguments, config_loader):
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
            values = expanded(override)
            refuse_empty(key, values)
            if len(values) == 1:
                fixed[key] = values[0]
            else:
                axes[key] = values
        else:
            intervals[key] = override
    return Arguments(fixed, deletions, axes, intervals)


def bare(key: str) -> str:
    """``key`` without the operators +, ++ and ~."""
    return key.lstrip("+~")


def parsed(arguments: Sequence[str], config_loader: Any = None) -> list[Override]:
    try:
        return OverridesParser.create(config_loader=config_loader).parse_overrides(list(arguments))
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def expanded(override: Override) -> list[str]:
    """The values of a discrete sweep. Count them first and refuse too many before listing them."""
    refuse_many(str(override.input_line), axis_size(override))
    return [str(value) for value in override.sweep_string_iterator()]


def axis_size(override: Override) -> int:
    """The number of values of a discrete sweep. A range is not expanded.

    Raises:
        ConfigError: a range with a step of zero, or with numbers that are not finite.
    """
    sweep = override.value()
    if not isinstance(sweep, RangeSweep):
        return sum(1 for _ in override.sweep_iterator())
    try:
        start, stop, step = (Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
        return max(0, math.ceil((stop - start) / step))
    except (ArithmeticError, ValueError):
        raise ConfigError(f"{override.input_line}: must be range(start, stop, step) of finite numbers") from None


def refuse_many(what: str, size: int) -> None:
    """Refuse an axis with more than MAX_VALUES values. Call before listing the values, to save the memory."""
    if size > MAX_VALUES:
        raise ConfigError(f"{what}: {size} values; an axis takes at most {MAX_VALUES}")


def refuse_empty(key: str, values: Sequence[str]) -> None:
    if not values:
        raise ConfigError(f"{key}: an axis without values; give at least one, or leave it out")


def _refuse_axis_of_control(override: Override) -> None:
    """Refuse several values for a key that controls the sweep itself."""
    if not override.is_sweep_override():
        return
    key = bare(override.get_key_element())
    advice = "write reuse=[a,b]" if key == "reuse" else "it steers the sweep and takes one value"
    raise ConfigError(f"{override.input_line}: is no axis; {advice}")
