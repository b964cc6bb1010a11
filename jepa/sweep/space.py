"""Search spaces: yaml or Hydra intervals in, Optuna distributions out, and what changed between two of them."""

from __future__ import annotations

import json
import math
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
from jepa.sweep.arguments import Arguments, bare
from jepa.sweep.points import flat, override_value

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
    for name in ("log", "int"):
        if not isinstance(value.get(name, False), bool):
            raise ConfigError(f"sweep.space {key}: {name}={value[name]!r}: must be true or false")
    return _range(
        f"sweep.space {key}={dict(value)}",
        value["low"],
        value["high"],
        log=value.get("log", False),
        step=value.get("step"),
        whole=value.get("int", False),
    )


def interval(override: Override) -> BaseDistribution:
    """Hydra's ``interval(a, b)``, with ``tag(log, …)`` for a logarithmic one; whole ends make whole numbers.

    Raises:
        ConfigError: no interval, or one that no number lies in.
    """
    value = override.value()
    if not isinstance(value, IntervalSweep) or value.start is None or value.end is None:
        raise ConfigError(f"{override.input_line}: must be values or an interval")
    whole = isinstance(value.start, int) and isinstance(value.end, int)
    log = "log" in value.tags
    return _range(str(override.input_line), value.start, value.end, log=log, step=None, whole=whole)


def _range(words: str, low: Any, high: Any, *, log: bool, step: Any, whole: bool) -> BaseDistribution:
    """The distribution over a range; ``words`` say where it stands."""
    low, high = _number(words, "low", low, whole), _number(words, "high", high, whole)
    if low > high:
        raise ConfigError(f"{words}: low must not be above high")
    if log and low <= 0:
        raise ConfigError(f"{words}: a logarithmic range must start above 0")
    if step is not None:
        step = _number(words, "step", step, whole)
        if log:
            raise ConfigError(f"{words}: a logarithmic range takes no step")
        if not 0 < step <= high - low:
            raise ConfigError(f"{words}: step must be above 0 and at most high - low")
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)


def _number(words: str, name: str, value: Any, whole: bool) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        raise ConfigError(f"{words}: {name} must be a {'whole' if whole else 'finite'} number")
    return number


def in_words(distribution: BaseDistribution) -> str:
    """For example ``1e-05 … 10, logarithmic`` or ``64, 128, 256``."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(override_value(choice) for choice in distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    step = distribution.step if isinstance(distribution, FloatDistribution) or distribution.step != 1 else None
    parts = [f"{distribution.low:g} … {distribution.high:g}"]
    parts += ["whole numbers"] if isinstance(distribution, IntDistribution) else []
    parts += ["logarithmic"] if distribution.log else []
    parts += [f"in steps of {step:g}"] if step is not None else []
    return ", ".join(parts)


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
