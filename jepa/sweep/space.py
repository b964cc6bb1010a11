"""Search spaces: convert yaml and Hydra intervals to Optuna distributions, and compare two spaces."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from jepa.errors import ConfigError, choice_error, nearest, shown
from jepa.sweep.arguments import Arguments, bare, parsed
from jepa.sweep.points import flat, override_value

EVERY_MODEL = "any"
OTHER_MODELS = "other"
_RANGE_KEYS = ("low", "high", "log", "step", "int")

Space = dict[str, BaseDistribution]


def build_space(spaces: Mapping[str, Any], model: str, arguments: Arguments) -> Space:
    """The dimensions of a search for ``model``.

    The command line overrides the sweep file. One value for a key removes the dimension. Several values or an interval
    replace the dimension.

    Args:
        spaces: the sweep file's ``space``: dimensions by model; those under ``any`` hold for all models, those under
            ``other`` for models without an entry of their own.
        model: the option chosen for the group ``model``.
        arguments: the command line.

    Raises:
        ConfigError: there is no dimension, or a dimension is invalid.
    """
    models = [name for name in spaces if name not in (EVERY_MODEL, OTHER_MODELS)]
    if models and model not in models and OTHER_MODELS not in spaces and not arguments.intervals:
        raise choice_error("sweep.space has dimensions by model, for model", model, models)
    own = model if model in spaces else OTHER_MODELS
    known = {**_dimensions(spaces, EVERY_MODEL), **_dimensions(spaces, own)}
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


def check_models(spaces: Mapping[str, Any], models: Collection[str]) -> None:
    """Check that ``sweep.space`` has dimensions of ``models`` alone, besides those of all and of other models.

    Raises:
        ConfigError: there is no such model.
    """
    for name in spaces:
        if name not in (EVERY_MODEL, OTHER_MODELS, *models):
            close = nearest(name, (*models, EVERY_MODEL, OTHER_MODELS))
            hint = f"; did you mean 'sweep.space.{close}'?" if close else ""
            raise ConfigError(
                f"sweep.space.{name}: no such model{hint} ({EVERY_MODEL}, {OTHER_MODELS}, {', '.join(models)})"
            )


def searched_keys(spaces: Mapping[str, Any]) -> set[str]:
    """All keys that are a dimension for any model."""
    return {key for model in spaces for key in _dimensions(spaces, model)}


def _dimensions(spaces: Mapping[str, Any], model: str) -> dict[str, Any]:
    node = spaces.get(model) or {}
    if not isinstance(node, Mapping):
        raise ConfigError(f"sweep.space.{model}={node!r}: must be a mapping from key to dimension")
    return flat(node, lambda value: any(name in value for name in _RANGE_KEYS))


def dimension(key: str, value: Any) -> BaseDistribution:
    """The distribution of a dimension in a sweep file.

    ``[a, b, c]`` is a choice. ``{low: 1e-3, high: 1, log: true}`` is a range, with ``int: true`` of whole numbers.

    Raises:
        ConfigError: the value is neither, or the range is invalid.
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
    """The distribution of Hydra's ``interval(a, b)``. ``tag(log, …)`` makes the range logarithmic.

    If both ends are whole numbers, the values are whole numbers.

    Raises:
        ConfigError: the override is no interval, or the interval is invalid.
    """
    value = override.value()
    if not isinstance(value, IntervalSweep) or value.start is None or value.end is None:
        raise ConfigError(f"{override.input_line}: must be values or an interval")
    whole = isinstance(value.start, int) and isinstance(value.end, int)
    log = "log" in value.tags
    return _range(str(override.input_line), value.start, value.end, log=log, step=None, whole=whole)


def _range(words: str, low: Any, high: Any, *, log: bool, step: Any, whole: bool) -> BaseDistribution:
    """The distribution over a range. words: names the range in messages. whole: whole numbers only."""
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


def own_values(config: DictConfig, space: Space) -> dict[str, Any]:
    """The values that ``config`` has for the dimensions of ``space``.

    Raises:
        ConfigError: a value lies outside its dimension.
    """
    values = {key: OmegaConf.select(config, key) for key in space}
    for key, distribution in space.items():
        if not _holds(distribution, values[key]):
            raise ConfigError(
                f"{key}={shown(values[key])}: the preset's own value, outside the search's {in_words(distribution)}; "
                "widen the range, or sweep.try_preset=false"
            )
    return values


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return distribution._contains(distribution.to_internal_repr(value))


def in_words(distribution: BaseDistribution) -> str:
    """A distribution in words, for example ``1e-05 … 10, logarithmic`` or ``64, 128, 256``."""
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
    """A value for every dimension. Values that the trial has already are kept."""
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


def fingerprint(
    space: Space, fixed: Mapping[str, str], objective: str, first: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The settings that must be equal in all sittings of a search.

    These are the dimensions, the fixed values that all trials share, the objective, and the values of the first trial
    if they are given, as text by key.
    """
    lines = {key: json.dumps(json.loads(distribution_to_json(value)), sort_keys=True) for key, value in space.items()}
    if first is not None:
        lines["first trial"] = " ".join(f"{key}={value}" for key, value in as_overrides(first).items())
    return {**lines, **{bare(key): value for key, value in sorted(fixed.items())}, "objective": objective}


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The keys in which two fingerprints differ, with both values, in one line; empty if the fingerprints are equal."""
    keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return "; ".join(f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}" for key in keys)


def _scalar(text: str) -> Any:
    """The value that Hydra reads in one value of an axis: ``.5`` and ``True`` are no words."""
    try:
        return json.loads(text)
    except ValueError:
        return parsed([f"key={text}"])[0].value()
