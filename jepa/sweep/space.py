"""Search spaces: yaml or Hydra intervals in, Optuna distributions out, and what changed between two of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from jepa.errors import ConfigError, choice_error
from jepa.sweep.points import Arguments, bare, flat, override_value

EVERY_MODEL = "any"
_RANGE_KEYS = ("low", "high", "log", "step", "int")

Space = dict[str, BaseDistribution]


def build_space(spaces: Mapping[str, Any], model: str, arguments: Arguments) -> Space:
    """The dimensions of a search for ``model``.

    A key with one value on the command line is no dimension; one with several values or an interval there is that.

    Args:
        spaces: the sweep file's ``space``: by model, and under ``any`` for all of them.
        model: the option chosen for the group ``model``.
        arguments: the command line.

    Raises:
        ConfigError: nothing to search, or a dimension that is none.
    """
    models = [name for name in spaces if name != EVERY_MODEL]
    if models and model not in models and not arguments.intervals:
        raise choice_error("sweep.space has dimensions by model, for model", model, models)
    known = {**_dimensions(spaces, EVERY_MODEL), **_dimensions(spaces, model)}
    fixed = {bare(key) for key in arguments.fixed}
    space = {key: dimension(key, value) for key, value in known.items() if key not in fixed}
    for key, values in arguments.axes.items():
        if bare(key) in known:
            space[bare(key)] = CategoricalDistribution([_scalar(value) for value in values])
    for key, override in arguments.intervals.items():
        space[bare(key)] = interval(override)
    if not space:
        raise ConfigError("sweep.space: nothing to search; every dimension is fixed on the command line")
    return dict(sorted(space.items()))


def searched_keys(spaces: Mapping[str, Any]) -> set[str]:
    """Every key that is a dimension for some model."""
    return {key for model in spaces for key in _dimensions(spaces, model)}


def _dimensions(spaces: Mapping[str, Any], model: str) -> dict[str, Any]:
    node = spaces.get(model) or {}
    if not isinstance(node, Mapping):
        raise ConfigError(f"sweep.space.{model}={node!r}: must be a mapping from key to dimension")
    return flat(node, lambda value: any(name in value for name in _RANGE_KEYS))


def dimension(key: str, value: Any) -> BaseDistribution:
    """``[a, b, c]``: one of these. ``{low: 1e-3, high: 1, log: true}``: a range; with ``int: true`` whole numbers.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(value, (list, tuple)):
        if not value:
            raise ConfigError(f"sweep.space {key}: an axis without values")
        return CategoricalDistribution(list(value))
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value):
        raise ConfigError(f"sweep.space {key}={value!r}: must be a list of choices or a mapping with low and high")
    for name in value:
        if name not in _RANGE_KEYS:
            raise choice_error(f"sweep.space {key}", name, _RANGE_KEYS)
    low, high, step, log = value["low"], value["high"], value.get("step"), bool(value.get("log", False))
    try:
        if value.get("int", False):
            return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
        return FloatDistribution(float(low), float(high), log=log, step=step)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sweep.space {key}={dict(value)}: {error}") from error


def interval(override: Override) -> BaseDistribution:
    """Hydra's ``interval(a, b)``, with ``tag(log, …)`` for a logarithmic one; whole ends make whole numbers."""
    value = override.value()
    if not isinstance(value, IntervalSweep) or value.start is None or value.end is None:
        raise ConfigError(f"{override.input_line}: must be values or an interval")
    log = "log" in value.tags
    if isinstance(value.start, int) and isinstance(value.end, int):
        return IntDistribution(value.start, value.end, log=log)
    return FloatDistribution(float(value.start), float(value.end), log=log)


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """A value for every dimension; those that the trial has already stay."""
    values: dict[str, Any] = {}
    for key, distribution in space.items():
        if isinstance(distribution, FloatDistribution):
            values[key] = trial.suggest_float(
                key, distribution.low, distribution.high, log=distribution.log, step=distribution.step
            )
        elif isinstance(distribution, IntDistribution):
            values[key] = trial.suggest_int(
                key, distribution.low, distribution.high, log=distribution.log, step=distribution.step
            )
        elif isinstance(distribution, CategoricalDistribution):
            values[key] = trial.suggest_categorical(key, distribution.choices)
    return values


def as_overrides(values: Mapping[str, Any]) -> dict[str, str]:
    """Suggested values in override syntax."""
    return {key: override_value(value) for key, value in values.items()}


def fingerprint(space: Space, fixed: Mapping[str, str], objective: str) -> dict[str, str]:
    """What must not change between two sittings of one search: the dimensions, and what all trials share."""
    lines = {key: json.dumps(json.loads(distribution_to_json(value)), sort_keys=True) for key, value in space.items()}
    return {**lines, **{bare(key): value for key, value in sorted(fixed.items())}, "objective": objective}


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The keys in which two fingerprints differ, in one line; empty where they agree."""
    keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return "; ".join(f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}" for key in keys)


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("'\"")
