"""Errors that a user can act on: each names the key, the value, what is allowed and the nearest valid spelling."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


class ConfigError(ValueError):
    """A configuration that cannot be run. Raised before any work starts; the command ends with exit code 2."""


class RunFailed(RuntimeError):
    """Work that started and ended without a result; its files say why. The command ends with exit code 1."""


def nearest(value: object, allowed: Iterable[str]) -> str | None:
    """The allowed spelling closest to ``value``, or None where nothing is close."""
    found = difflib.get_close_matches(str(value).lower(), [str(name) for name in allowed], n=1, cutoff=0.5)
    return found[0] if found else None


def choice_error(key: str, value: object, allowed: Iterable[str]) -> ConfigError:
    """The error for a ``value`` of ``key`` that is none of ``allowed``."""
    allowed = [str(name) for name in allowed]
    hint = nearest(value, allowed)
    suffix = f"; did you mean {hint!r}?" if hint else ""
    return ConfigError(f"{key}={value!r}: must be one of {', '.join(allowed)}{suffix}")


def check_choice(key: str, value: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``; raise ConfigError otherwise."""
    allowed = list(allowed)
    if value not in allowed:
        raise choice_error(key, value, allowed)
    return value


def check_number(
    key: str,
    value: float,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
) -> float:
    """Return ``value`` if it is a finite number in ``[minimum, maximum]`` and greater than ``above``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{key}={value!r}: must be a finite number")
    if value < minimum or value > maximum or value <= above:
        raise ConfigError(f"{key}={value!r}: must be {_range_words(minimum, maximum, above)}")
    return value


def check_count(key: str, value: int, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` if it is a whole number of at least ``minimum`` (and at most ``maximum``)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key}={value!r}: must be a whole number")
    check_number(key, value, minimum=minimum, maximum=math.inf if maximum is None else maximum)
    return value


def check_flag(key: str, value: bool) -> bool:
    """Return ``value`` if it is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value!r}: must be true or false")
    return value


def _range_words(minimum: float, maximum: float, above: float) -> str:
    low = f"greater than {above:g}" if above > -math.inf else f"at least {minimum:g}" if minimum > -math.inf else ""
    high = f"at most {maximum:g}" if maximum < math.inf else ""
    return " and ".join(part for part in (low, high) if part)
