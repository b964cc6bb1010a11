"""The device of a run: which one it is, and the settings that need CUDA."""

from __future__ import annotations

import os

import torch

from jepa.config.schema import RunConfig, check_device
from jepa.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The torch device for ``device=name``; "auto" is the first there is of cuda, mps and cpu.

    Raises:
        ConfigError: there is no such device, or this machine does not have it.
    """
    check_device(name)
    # Let torch ask NVML for the devices. Asking CUDA would initialise it, and forked processes could not use it then.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch finds no CUDA device here; device=auto takes what there is")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device={name}: torch finds no MPS device here; device=auto takes what there is")
    return device


def check_cuda_settings(config: RunConfig, device: torch.device) -> None:
    """Refuse ``precision=tf32`` and ``trainer.cuda_graph=true`` on a ``device`` other than CUDA.

    Raises:
        ConfigError: ``config`` has one of the two.
    """
    if config.precision == "tf32" and device.type != "cuda":
        raise ConfigError(f"precision=tf32: needs a CUDA device, this run is on {device}; use fp32 or bf16")
    if config.trainer.cuda_graph and device.type != "cuda":
        raise ConfigError(f"trainer.cuda_graph=true: needs a CUDA device, this run is on {device}")
