"""Short names of configuration keys, for the screen, tables and figures."""

from __future__ import annotations

from collections.abc import Iterable


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """The shortest unambiguous ending of each key: ``dataset.noise`` -> ``noise``."""
    keys = list(keys)
    short: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            candidate = ".".join(parts[-count:])
            if sum(other == candidate or other.endswith("." + candidate) for other in keys) <= 1:
                break
        short[key] = candidate if not candidate.isdigit() else key
    return short
