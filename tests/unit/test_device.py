"""device=… looked up without harm to what comes after."""

from __future__ import annotations

import os

import pytest
import torch

from jepa.errors import ConfigError
from jepa.training.device import resolve_device

BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_looking_for_a_gpu_leaves_cuda_to_the_processes_that_train(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """torch's usual answer initialises CUDA, after which a sweep's forked processes could not use it."""
    asked = []

    def is_available() -> bool:
        asked.append(os.environ.get(BY_NVML))
        return False

    monkeypatch.setenv(BY_NVML, "to be restored")
    monkeypatch.delenv(BY_NVML)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    if name == "auto":
        resolve_device(name)
    else:
        with pytest.raises(ConfigError, match="device=cuda: torch finds no CUDA device here"):
            resolve_device(name)
    assert asked == ["1"]


def test_a_device_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="device='cpuu': must be one of auto, cpu, .*did you mean 'cpu'"):
        resolve_device("cpuu")
