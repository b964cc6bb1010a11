"""The data of one run for tables and figures, and the names of its values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from jepa.config.operational import NAMING_KEYS, OPERATIONAL_KEYS, OPERATIONAL_NESTED_KEYS
from jepa.errors import nearest
from jepa.store.config import flat

STATUSES = ("finished", "running", "interrupted", "failed", "damaged", "pruned", "pending")
"""In the order in which lines of counts list them. An interrupted run has a folder but no result, and no process works
on it. A damaged run has a file that cannot be read."""

ALIASES = {
    "lr": ("optimizer.base_lr", "optimizer.learning_rate"),
    "rmse": ("prediction_rmse_px",),
    "hash": ("config_hash",),
}
"""Common short names, and the full names that they may stand for. The first full name that any run has is used."""

_LITERALS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}
UNITS = ("_px", "_coeff", "_seconds")


class ResultsError(ValueError):
    """An invalid request to ``jepa.results``. The message is one line for the user; the exit code is 2."""


@dataclass(frozen=True)
class Run:
    """The data of one run, from the files of its folder.

    folder: the path, as the user would type it. status: one of STATUSES. config: dotted key -> scalar (a list as its
    JSON text). choices: Hydra's choice for each config group. metrics: numbers, or lists of numbers (per time step, per
    dot); for an unfinished run, the latest ones. fields: all other values by name (seed, verdict, git_commit, ...).
    """

    folder: str
    status: str
    config: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return self.folder.rstrip("/").rpartition("/")[2]

    def value(self, key: str) -> Any:
        """The value with a full name from ``Names.resolve``; None if this run has no such value."""
        if key == "status":
            return self.status
        if key == "folder":
            return self.folder
        for source in (self.fields, self.choices, self.metrics, self.config):
            if key in source:
                return source[key]
        stem, _, position = key.rpartition(".")
        values = self.metrics.get(stem)
        if isinstance(values, list) and position.isdigit() and int(position) < len(values):
            return values[int(position)]
        return None if self.config else self._overridden(key)

    def _overridden(self, key: str) -> Any:
        """The value of ``key`` in the overrides, for a job without a configuration (pending, or died early)."""
        pairs = dict(parse_override(text) for text in self.overrides)
        pairs |= {text.partition("=")[0].lstrip("+~"): parse_override(text)[1] for text in self.overrides}  # with @
        return parse_scalar(pairs[key]) if key in pairs else None


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """Flatten a nested configuration to dotted key -> scalar. Lists become JSON texts, so every value is hashable."""
    return {
        key: json.dumps(value, default=str) if isinstance(value, (list, tuple)) else value
        for key, value in flat(config).items()
        if value != {}
    }


def is_operational(key: str) -> bool:
    """Whether a key (dotted, or a config group) is operational: it does not change what a run computes.

    The name of a scale or of a term left out is not hashed, but stands for keys that change results.
    """
    first = re.split(r"[./@]", key, maxsplit=1)[0]
    return first not in NAMING_KEYS and (key in OPERATIONAL_NESTED_KEYS or first in OPERATIONAL_KEYS)


def parse_scalar(text: str) -> Any:
    """The number, truth value or null that a word spells; the word itself if it spells none."""
    lowered = text.lower()
    if lowered in _LITERALS:
        return _LITERALS[lowered]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def parse_override(text: str) -> tuple[str, str]:
    """Split an override: ``+model/encoder@model.encoder=menet5`` gives ``("model/encoder", "menet5")``."""
    key, _, value = text.partition("=")
    return key.lstrip("+~").partition("@")[0], value.strip("'\"")


class Names:
    """All names of values of some runs, and the resolution of short names."""

    def __init__(self, runs: Iterable[Run]) -> None:
        known: dict[str, None] = dict.fromkeys(("status", "folder"))
        lists: dict[str, int] = {}
        for run in runs:
            for source in (run.fields, run.choices, run.metrics, run.config):
                known.update(dict.fromkeys(source))
            if not run.config:
                known.update(dict.fromkeys(parse_override(text)[0] for text in run.overrides))
            lists.update({key: len(value) for key, value in run.metrics.items() if isinstance(value, list)})
        known.update(dict.fromkeys(f"{key}.{i}" for key, length in lists.items() for i in range(length)))
        self.known = known

    def resolve(self, name: str) -> str:
        """The full name of ``name``.

        ``name`` may be a full name, a key of ALIASES, or the last parts of exactly one full name. A unit of UNITS may
        be missing at its end.

        Raises:
            ResultsError: no full name or several full names fit.
        """
        if name in self.known:
            return name
        for full in ALIASES.get(name, ()):
            if full in self.known:
                return full
        for ending in ("", *UNITS):
            wanted = name + ending
            if ending and wanted in self.known:
                return wanted
            found = [full for full in self.known if full.endswith(("." + wanted, "/" + wanted))]
            if len(found) > 1:
                raise ResultsError(f"{name!r} could be {', '.join(sorted(found))}: write more of it")
            if found:
                return found[0]
        raise ResultsError(f"no run has a key {name!r}{self._hint(name)}")

    def short(self) -> list[str]:
        """The last part of every full name."""
        return sorted({re.split(r"[./]", full)[-1] for full in self.known})

    def _hint(self, name: str) -> str:
        last = re.split(r"[./]", name)[-1]
        tails: dict[str, str] = {}
        for full in self.known:
            tails.setdefault(full.lower(), full)
            tails.setdefault(re.split(r"[./]", full)[-1].lower(), full)
        close = nearest(name, tails) or nearest(last, tails)
        return f"; did you mean {tails[close]!r}?" if close else ""
