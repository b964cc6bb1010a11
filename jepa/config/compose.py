"""Composes a run's configuration, checks it, and computes its hash.

Imports no torch: ``--help``, ``--cfg job`` and tab completion import this module and no component.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from jepa.config.extensions import OWN
from jepa.config.operational import NEUTRAL_VALUES, OPERATIONAL_KEYS, OPERATIONAL_NESTED_KEYS
from jepa.config.schema import RunConfig, check_text, closed
from jepa.config.search_path import PRESET_GROUP, SCALE_GROUP, config_dir, group_options, groups, register_search_path
from jepa.errors import ConfigError

__all__ = ["OPERATIONAL_KEYS", "OPERATIONAL_NESTED_KEYS", "compose", "config_dir", "config_hash", "register"]

# Classes that a yaml file may name, so that Hydra imports and calls them.
TRUSTED_TARGETS = ("jepa.*", "hydra_plugins.*", "optuna.*")


@functools.cache
def plugins() -> tuple[str, ...]:
    """The packages of this project's launchers and sweepers, as conf/hydra names them.

    Each package has a function register() that registers them with Hydra. This module reads the names from yaml,
    because it must not depend on packages that depend on it.
    """
    texts = [path.read_text(encoding="utf-8") for path in sorted((config_dir() / "hydra").glob("*/*.yaml"))]
    found = [name for text in texts for name in re.findall(rf"^_target_: ({OWN}\.\w+)\.", text, re.MULTILINE)]
    return tuple(dict.fromkeys(found))


def register() -> None:
    """Register this project's search path, resolvers, launchers and sweepers with Hydra."""
    register_search_path()
    resolvers: dict[str, Callable[..., Any]] = {
        "jepa.hash": _hash,
        "jepa.choice": _choice,
        "jepa.choices": _choices,
        "jepa.groups": _groups,
        "jepa.sweep_name": _sweep_name,
        "jepa.warmup_epochs": _warmup_epochs,
    }
    for name, function in resolvers.items():
        OmegaConf.register_resolver(name, function, replace=True)
    for name in plugins():
        import_module(name).register()


def prepare_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Let the plugins fill in choices that depend on this machine; return the command line and a note per choice."""
    prepared, notes = list(arguments), []
    for name in plugins():
        prepared, note = import_module(name).prepare_arguments(prepared)
        notes += [] if note is None else [note]
    return prepared, notes


def compose(
    overrides: list[str], *, with_hydra: bool = False, further: str | os.PathLike[str] | None = None
) -> DictConfig:
    """Compose the configuration from command-line overrides, without checking it.

    Args:
        overrides: as on the command line, for example ``["model=simclr", "dataset.noise=1"]``.
        with_hydra: keep Hydra's own node, as ``@hydra.main`` sees it.
        further: a folder with yaml files of the user, as ``--config-dir`` names it.

    Raises:
        ConfigError: there is no such folder.
    """
    register()
    if further is not None:
        if not Path(further).is_dir():
            raise ConfigError(f"config_dir={further}: no such folder")
        overrides = [*overrides, f"hydra.searchpath=['file://{Path(further).absolute()}']"]
    with initialize_config_dir(config_dir=str(config_dir()), job_name="run"):
        return hydra_compose(config_name="config", overrides=overrides, return_hydra_config=with_hydra)


# --- the hash ------------------------------------------------------------------------------------------------------


def scientific_config(cfg: DictConfig) -> dict[str, Any]:
    """The part of ``cfg`` that affects the numbers: resolved, without operational keys; 1.0 is written as 1."""
    plain = {
        str(key): _plain(cfg, str(key))
        for key in cfg
        if key not in OPERATIONAL_KEYS and not OmegaConf.is_missing(cfg, key)
    }
    for name in (*OPERATIONAL_NESTED_KEYS, *NEUTRAL_VALUES):
        *parents, last = name.split(".")
        node: Any = plain
        for parent in parents:
            node = node.get(parent, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict) and node.get(last) == NEUTRAL_VALUES.get(name, node.get(last)):
            node.pop(last, None)
    return {key: canonical(value) for key, value in plain.items()}


def config_hash(cfg: DictConfig) -> str:
    """Ten hexadecimal digits of SHA-256 over the canonical JSON of :func:`scientific_config`."""
    text = json.dumps(scientific_config(cfg), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """``cfg`` as plain dictionaries and lists, with interpolations resolved and without Hydra's own node."""
    return {str(key): _plain(cfg, str(key)) for key in cfg if key != "hydra"}


def _plain(cfg: DictConfig, key: str) -> Any:
    value = cfg[key]
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value


def canonical(value: Any) -> Any:
    """``value`` with 1.0 written as 1, and with this package's classes named without their module."""
    if isinstance(value, Mapping):
        return {str(key): _class_name(item) if key == "_target_" else canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value


def _class_name(target: Any) -> Any:
    """The name of a class of this package without its module, so that moving a class does not change a run's hash."""
    own = isinstance(target, str) and target.startswith(f"{OWN}.")
    return str(target).rpartition(".")[2] if own else target


# --- resolvers -----------------------------------------------------------------------------------------------------


def _groups() -> str:
    """One line for each group of this project, with its options, for --help."""
    names = [name for name in groups() if not name.startswith("hydra/") and name != PRESET_GROUP]
    lines = [f"{name}: {', '.join(group_options(name))}" for name in names]
    presets = f"{PRESET_GROUP}: published settings, KIND/COEFFICIENT/METHOD; {PRESET_GROUP}=help lists them"
    return "\n".join([*lines, presets])


def _hash(*, _root_: DictConfig) -> str:
    return config_hash(_root_)


def _choices(*, _root_: DictConfig) -> dict[str, Any]:
    """The option chosen for each group of conf/; empty if Hydra's own node is not available."""
    found = OmegaConf.select(_root_, "hydra.runtime.choices")
    if found is None and HydraConfig.initialized():
        found = HydraConfig.get().runtime.choices
    return {
        str(group): option
        for group, option in (found or {}).items()
        if option is not None and not str(group).startswith(("hydra", f"{SCALE_GROUP}/"))
    }


def _choice(group: str, *, _root_: DictConfig) -> str:
    return str(_choices(_root_=_root_).get(group, "run")).replace("/", "-")


def _sweep_name(*, _root_: DictConfig) -> str:
    return str(_choices(_root_=_root_).get("sweep") or "multirun")


def _warmup_epochs(epochs: Any) -> Any:
    """A tenth of the epochs, but at least one; 0 if there is only one epoch."""
    if isinstance(epochs, bool) or not isinstance(epochs, int) or not 1 < epochs <= 10**9:
        return 0
    tenth = epochs / 10
    return int(tenth) if tenth == int(tenth) else max(1, tenth)


# --- checks --------------------------------------------------------------------------------------------------------


def check_closed(cfg: DictConfig) -> RunConfig:
    """Convert the closed nodes of ``cfg`` to dataclasses.

    Raises:
        ConfigError: an unknown or missing key, a value of another type or out of range.
    """
    plain = resolved(cfg)
    for key, value in plain.items():
        check_text(key, value)
    return closed(RunConfig, plain)
