"""The published settings, one yaml file each: ``reproduce=KIND/COEFFICIENT/METHOD``; ``reproduce=help`` lists all."""

from __future__ import annotations

from collections.abc import Sequence

from jepa.config.search_path import PRESET_GROUP, group_options
from jepa.errors import ConfigError, nearest

HELP = f"+{PRESET_GROUP}=help"


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for the list of presets."""
    return any(text.lstrip("+") == HELP.lstrip("+") for text in arguments)


def overview() -> str:
    """The presets as a table: one row for each kind of noise and coefficient, with the methods available."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name in group_options(PRESET_GROUP):
        kind, coefficient, method = name.split("/")
        rows.setdefault((kind, coefficient), []).append(method)
    methods = sorted({method for found in rows.values() for method in found})
    lines = [f"{'kind':20} {'coefficient':>11}  {'  '.join(methods)}"]
    for (kind, coefficient), found in sorted(rows.items(), key=lambda row: (row[0][0], float(row[0][1]))):
        marks = "  ".join((method if method in found else "-").ljust(len(method)) for method in methods)
        lines.append(f"{kind:20} {coefficient:>11}  {marks.rstrip()}")
    total = sum(len(found) for found in rows.values())
    lines += ["", f"{total} published settings; python -m jepa.run +{PRESET_GROUP}=fixed_uniform/1.25/vicreg runs one"]
    return "\n".join(lines)


def unknown_preset(name: str) -> ConfigError:
    """The error for ``reproduce=<name>`` if there is no such preset."""
    given = name.split("/")
    known = [option.split("/") for option in group_options(PRESET_GROUP)]
    hint = nearest(name, ("/".join(option) for option in known))
    close = f"; did you mean {hint!r}?" if hint else ""
    for place, what in enumerate(("kind", "coefficient", "method")):
        fitting = [option for option in known if option[:place] == given[:place]]
        allowed = list(dict.fromkeys(option[place] for option in fitting))
        if given[place : place + 1] and given[place] in allowed:
            continue
        allowed.sort(key=float if what == "coefficient" else str)
        must = f"must be KIND/COEFFICIENT/METHOD with a {what} of {', '.join(allowed)}"
        return ConfigError(f"{PRESET_GROUP}={name}: {must}{close} ({HELP} lists all)")
    return ConfigError(f"{PRESET_GROUP}={name}: must be KIND/COEFFICIENT/METHOD{close} ({HELP} lists all)")
