"""Checkpoints: written atomically, read without executing code, exact to the bit on a CPU.

A checkpoint is one ``torch.save`` file of tensors, numbers and strings, so ``torch.load(weights_only=True)`` reads it.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jepa.errors import ConfigError, nearest

FORMAT = 1
LAST = "checkpoints/last.pt"

# Module names of the original code base -> ours; the first that fits. With an MLP on top, its backbone is a Sequential.
_ORIGINAL_PREFIXES = {"backbone.0.": "encoder.", "backbone.1.": "encoder.mlp.", "backbone.": "encoder."}


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path`` through a temporary file and a rename, so that no reader ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        ConfigError: the file is missing, cut short, or no checkpoint.
    """
    if not path.is_file():
        raise ConfigError(f"checkpoint {path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise ConfigError(
            f"checkpoint {path} ({path.stat().st_size} bytes): cut short or no checkpoint ({_first_line(error)})"
        ) from error
    if not isinstance(state, dict):
        raise ConfigError(f"checkpoint {path}: holds a {type(state).__name__}, not a checkpoint's dictionary")
    return state


def load_for_resume(path: Path, config_hash: str) -> dict[str, Any]:
    """Read the checkpoint of an interrupted run of the configuration ``config_hash``.

    Raises:
        ConfigError: unreadable, of another format, or of another configuration.
    """
    state = load(path)
    if state.get("format") != FORMAT or "model" not in state:
        raise ConfigError(f"checkpoint {path}: format {state.get('format')!r}, this version reads format {FORMAT}")
    if state["config_hash"] != config_hash:
        raise ConfigError(
            f"checkpoint {path}: belongs to configuration {state['config_hash']}, this one is {config_hash}; "
            "use another folder, or init_from= to start from its weights"
        )
    return state


def initial_model(path: Path, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights to start from (``init_from=``): a checkpoint of this project or one of the original code base.

    Args:
        path: a file holding ``model`` (this project) or ``model_state_dict`` (the original).
        expected: the model's parameters and persistent buffers by name.

    Returns:
        The weights by name, and the names in the file that this model has no use for.

    Raises:
        ConfigError: unreadable, a weight is missing, or has another shape.
    """
    state = load(path)
    weights = state.get("model", state.get("model_state_dict"))
    if not isinstance(weights, dict):
        raise ConfigError(
            f"init_from={path}: holds neither 'model' nor 'model_state_dict' (has: {', '.join(map(str, state))[:200]})"
        )
    weights = {_our_name(name): value for name, value in weights.items()}
    for name, value in expected.items():
        if name not in weights:
            hint = nearest(name, weights)
            raise ConfigError(f"init_from={path}: no weight {name!r}" + (f"; nearest is {hint!r}" if hint else ""))
        if weights[name].shape != value.shape:
            raise ConfigError(
                f"init_from={path}: {name!r} has shape {list(weights[name].shape)}, the model needs {list(value.shape)}"
            )
    return {name: weights[name] for name in expected}, sorted(set(weights) - set(expected))


def _our_name(name: str) -> str:
    for original, ours in _ORIGINAL_PREFIXES.items():
        if name.startswith(original):
            return ours + name[len(original) :]
    return name


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
