"""The conditions of ``dataset.eval``: the noise under which a run is probed besides its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jepa.config.schema import unknown_key
from jepa.errors import ConfigError, shown

KEY = "eval"
UNNAMED = "eval"  # the name of the condition whose keys stand in dataset.eval itself
# A model and its normalisation fit one kind of motion and one shape of batch; a condition changes only the noise.
FIXED_KEYS = ("_target_", "num_dots", "channels", "num_steps", "dot_std", "batch_size", "size", "normalize")


def training_node(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``dataset`` without its conditions."""
    return {key: value for key, value in dataset.items() if key != KEY}


def condition_nodes(dataset: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each condition, the section ``dataset`` of its environment.

    ``eval: {clean: {noise: 0}}`` is a condition with the name ``clean``; ``eval: {noise: 0}`` is one with the name
    ``eval``. Each key of a condition replaces the key of the data set; a mapping such as ``distractors`` is replaced as
    a whole.

    Raises:
        ConfigError: a name or a key cannot be used.
    """
    found = dataset.get(KEY) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"dataset.{KEY}={shown(found)}: must hold keys of the data set, or conditions by name")
    base = training_node(dataset)
    changing = [key for key in base if key not in FIXED_KEYS]
    own = {key: value for key, value in found.items() if key in base}
    named = {str(name): value for name, value in found.items() if name not in base}
    conditions = {**({UNNAMED: own} if own else {}), **named}
    nodes = {}
    for name, changes in conditions.items():
        path = path_of(name, own)
        if not isinstance(changes, Mapping):
            raise unknown_key(path, (f"dataset.{KEY}.{key}" for key in changing))
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ConfigError(f"{path}: a name must be a word of letters, digits and _")
        for key in changes:
            if key in FIXED_KEYS:
                raise ConfigError(f"{path}.{key}: cannot differ from training; a condition changes only the noise")
            if key not in base:
                raise unknown_key(f"{path}.{key}", (f"{path}.{known}" for known in changing))
        nodes[name] = {**base, **changes}
    return nodes


def path_of(name: str, own: Mapping[str, Any] | None = None) -> str:
    """The key of a condition. own: the keys that stand in ``dataset.eval`` itself."""
    return f"dataset.{KEY}" if name == UNNAMED and (own is None or own) else f"dataset.{KEY}.{name}"


def in_condition(error: ConfigError, name: str) -> ConfigError:
    """``error`` about a key of ``dataset``, with the key of the condition."""
    return ConfigError(re.sub(r"^dataset(?=[.:])", lambda _: path_of(name), str(error)))
