"""The conditions of ``dataset.eval``: the noise under which a run is probed besides its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from jepa.config.schema import unknown_key
from jepa.config.search_path import config_dir
from jepa.errors import ConfigError, shown

KEY = "eval"
UNNAMED = "eval"  # the name of the condition whose keys stand in dataset.eval itself
# A model and its normalisation fit one kind of motion and one shape of batch; a condition changes only the noise.
STRENGTHS = ("noise", "static_noise", "structured_noise")  # the keys that begin so are the noise of every condition
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


def check_benchmark(benchmark: str | None, dataset: Mapping[str, Any]) -> None:
    """Refuse noise that differs from the condition that ``benchmark`` names, such as ``v1/fixed_125``.

    A condition without a file in conf/dataset/condition is the user's own, and is not checked.
    """
    name = str(benchmark or "").partition("/")[2]
    folder = config_dir() / "dataset" / "condition"
    if not re.fullmatch(r"\w+", name) or not (folder / f"{name}.yaml").is_file():
        return
    wanted = {**_flat(OmegaConf.load(folder / "clean.yaml")), **_flat(OmegaConf.load(folder / f"{name}.yaml"))}
    given = _flat(OmegaConf.create(dict(dataset)))
    names = {key.split(".")[1] for key in wanted if key.startswith("distractors.")}
    for further in sorted(set(dataset.get("distractors") or {}) - names):
        raise ConfigError(f"dataset.distractors.{further}: the benchmark's condition {name} has no such distractor")
    for key, value in wanted.items():
        if key.startswith((*STRENGTHS, "distractors.")) and given.get(key) != value:
            raise ConfigError(
                f"dataset.{key}={shown(given.get(key))}: the benchmark's condition {name} has {shown(value)}; "
                "leave out benchmark= or the key"
            )


def _flat(config: Any) -> dict[str, Any]:
    """The leaves of ``config`` by their full names."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, Mapping)
    return dict(_leaves(plain, ""))


def _leaves(node: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{key!s}.")
        else:
            yield f"{before}{key!s}", value


def path_of(name: str, own: Mapping[str, Any] | None = None) -> str:
    """The key of a condition. own: the keys that stand in ``dataset.eval`` itself."""
    return f"dataset.{KEY}" if name == UNNAMED and (own is None or own) else f"dataset.{KEY}.{name}"


def in_condition(error: ConfigError, name: str) -> ConfigError:
    """``error`` about a key of ``dataset``, with the key of the condition."""
    return ConfigError(re.sub(r"^dataset(?=[.:])", lambda _: path_of(name), str(error)))
