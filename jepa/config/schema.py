"""Schemas of the closed nodes of a configuration, and their checks. Imports no torch, so help and completion are fast.

A closed node is a dataclass. Its fields are the keys, and their annotations are the types. The constructor checks
ranges. Values come from yaml and the command line only, so no field has a default. Open nodes (``model``, ``dataset``,
``optimizer``, ``probe``, each entry of ``logger``) name a class with ``_target_``; its constructor is their schema.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jepa.config.extensions import check_package
from jepa.config.original import NAMES_HERE
from jepa.errors import ConfigError, check_choice, check_count, check_number, check_path, is_text, nearest, shown

PRECISIONS = ("fp32", "tf32", "bf16")
PROGRESS = ("auto", "live", "lines", "none")
_Node = TypeVar("_Node")


@dataclass(frozen=True)
class TrainerConfig:
    """Length of the training, and intervals of records and probes: conf/trainer."""

    epochs: int
    warmup_epochs: float
    log_every_steps: int
    probe_every_epochs: int
    compile: bool | str
    cuda_graph: bool
    kernels: bool

    def __post_init__(self) -> None:
        check_count("trainer.epochs", self.epochs, minimum=0, maximum=10**6)
        check_number("trainer.warmup_epochs", self.warmup_epochs, minimum=0, maximum=1e6)
        check_count("trainer.log_every_steps", self.log_every_steps, maximum=10**9)
        check_count("trainer.probe_every_epochs", self.probe_every_epochs, minimum=0, maximum=10**6)
        if not isinstance(self.compile, bool):
            check_choice("trainer.compile", self.compile, ("auto", "true", "false"))


@dataclass(frozen=True)
class CheckpointConfig:
    """Interval between checkpoints."""

    every_epochs: int

    def __post_init__(self) -> None:
        check_count("checkpoint.every_epochs", self.every_epochs, minimum=0, maximum=10**6)


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration of one run: conf/config.yaml."""

    seed: int
    device: str
    benchmark: str | None
    scale: str | None
    left_out: str | None
    precision: str
    threads: int | None
    folder: str
    resume: bool | str
    rerun: bool
    init_from: str | None
    objective: str
    plots: bool
    progress: str
    choices: dict[str, Any]
    dry_run: bool
    yes: bool
    retry_failed: bool
    reuse: str | list[str] | None
    sweep: dict[str, Any]  # checked by jepa.sweep.spec
    extensions: list[str]
    on_probe: dict[str, Any] | None
    checkpoint: CheckpointConfig
    trainer: TrainerConfig
    logger: dict[str, Any]
    dataset: dict[str, Any]
    optimizer: dict[str, Any]
    model: dict[str, Any]
    probe: dict[str, Any]
    plan: dict[str, Any] | None

    def __post_init__(self) -> None:
        check_count("seed", self.seed, minimum=0, maximum=2**63 - 1)
        check_device(self.device)
        check_choice("precision", self.precision, PRECISIONS)
        if self.threads is not None:
            check_count("threads", self.threads, maximum=1024)
        check_path("folder", self.folder)
        if self.init_from is not None:
            check_path("init_from", self.init_from)
        if not isinstance(self.resume, bool):
            check_choice("resume", self.resume, ("auto", "true", "false"))
        for name in self.extensions:
            check_package("extensions", name)
        check_choice("progress", self.progress, PROGRESS)


def check_device(name: str) -> None:
    """Raise ConfigError if ``name`` is no device; whether this machine has the device is not asked."""
    kind, _, index = name.partition(":")
    if kind == "cuda" and re.fullmatch(r"[0-9]{1,4}", index):
        return
    check_choice("device", name, ("auto", "cpu", "cuda", "cuda:N", "mps") if name != "cuda:N" else ())


def closed(schema: type[_Node], node: Mapping[str, Any], path: str = "") -> _Node:
    """Create the dataclass ``schema`` from the plain mapping ``node``. path: full name of the node.

    Raises:
        ConfigError: a key is unknown or missing, or a value has a wrong type or is out of range.
    """
    hints = typing.get_type_hints(schema)
    for key in node:
        if key not in hints:
            raise unknown_key(join(path, str(key)), (join(path, name) for name in hints))
    for key in hints:
        if key not in node:
            raise ConfigError(f"{join(path, key)}: is missing")
    return schema(**{key: typed(join(path, key), node[key], hint) for key, hint in hints.items()})


def typed(key: str, value: Any, hint: Any) -> Any:
    """Return ``value`` if it has the type ``hint``. Only whole numbers are converted, to float if ``hint`` is float.

    Raises:
        ConfigError: the value has another type.
    """
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return closed(hint, value, key)
        raise ConfigError(f"{key}={shown(value)}: must be a group of keys")
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        dataclass_option = next((option for option in options if dataclasses.is_dataclass(option)), None)
        if dataclass_option is not None:
            return typed(key, value, dataclass_option)
        for option in options:
            if option is not type(None) and _is_a(value, option):
                return value
    elif _is_a(value, hint):
        return float(value) if hint is float else value
    raise ConfigError(f"{key}={shown(value)}: must be {_words(hint)}")


def check_text(key: str, value: Any) -> None:
    """Check that no text below ``key`` contains a lone surrogate or NUL, which files cannot hold.

    Raises:
        ConfigError: names the key.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_text(key, str(name))
            check_text(join(key, str(name)), item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_text(key, item)
    elif isinstance(value, str) and not is_text(value):
        raise ConfigError(f"{key}={shown(value)}: holds characters that no file can hold")


# Names of keys in the original code and in other programs -> our keys.
ELSEWHERE = {
    **NAMES_HERE,
    "checkpoint_path": "init_from",
    "encoder": "model/encoder",
    "encoder_arch": "model/encoder",
    "encoder_mlp": "model.encoder.mlp",
    "encoder_width_factor": "model.encoder.width_factor",
    "learning_rate": "optimizer.base_lr",
    "lr": "optimizer.base_lr",
    "method": "model",
    "n_trials": "sweep.n_trials",
    "output_dir": "folder",
    "wd": "optimizer.weight_decay",
}
_LONGEST_NAME = 60


def unknown_key(key: str, allowed: Iterable[str]) -> ConfigError:
    """The error for ``key``, which is not one of the full names ``allowed``.

    The message suggests the first that exists: our name for a key of ``ELSEWHERE``; a key with dots for underscores; a
    key of this name in another group (``dataset.noise`` for ``noise``); the nearest spelling in the same group; the
    nearest spelling anywhere.
    """
    names = sorted(name for name in allowed if not name.rpartition(".")[2].startswith("_"))
    parent, _, last = key.rpartition(".")
    siblings = [name for name in names if name.rpartition(".")[0] == parent]
    by_last: dict[str, str] = {}
    for name in names:
        by_last.setdefault(name.rpartition(".")[2], name)
    flat = {name.replace(".", "_"): name for name in names}
    known = ELSEWHERE.get(key)
    if known not in names and known not in ("model/encoder", "model/predictor", "model/projector"):
        known = None
    close = difflib.get_close_matches(last[:_LONGEST_NAME], by_last, n=1, cutoff=0.75)
    hint = (
        known
        or flat.get(key)
        or (None if siblings else _part_by_part(key, names))
        or by_last.get(last)
        or nearest(key, siblings)
        or (by_last[close[0]] if close else None)
    )
    text = f"{key if len(key) <= 2 * _LONGEST_NAME else shown(key)}: no such key" + (
        f"; did you mean {hint!r}?" if hint else ""
    )
    if siblings:
        listed = ", ".join(name.rpartition(".")[2] for name in siblings)
        text += f" (keys of {parent or 'the top level'}: {listed})"
    return ConfigError(text)


def _part_by_part(key: str, names: Sequence[str]) -> str | None:
    """The name of ``names`` whose every part is that of ``key`` or the nearest to it; None if a part has no such."""
    found = ""
    for part in key.split("."):
        children = [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == found]
        near = part if part in children else nearest(part, children)
        if near is None:
            return None
        found = join(found, near)
    return found


def join(path: str, key: str) -> str:
    """The full name of ``key`` in the node ``path``."""
    return f"{path}.{key}" if path else key


def _is_a(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is list:
        return isinstance(value, list) and all(_is_a(item, typing.get_args(hint)[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_words(option) for option in typing.get_args(hint))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if typing.get_origin(hint) is list:
        return f"a list, each {_words(typing.get_args(hint)[0])}"
    return names.get(hint, "a group of keys")
