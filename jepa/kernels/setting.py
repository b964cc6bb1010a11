"""Where a method will run, and how a kernel is put in place of a part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Setting:
    """What decides which kernels suit."""

    device: torch.device
    precision: str  # fp32, tf32 or bf16
    batched: bool  # the method is called under torch.func.vmap
    compiled: bool  # the method is compiled by torch.compile


def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Make ``module(...)`` call ``forward``. Parameters, buffers and their names stay as they are."""
    object.__setattr__(module, "forward", forward)


def rectifies(parent: nn.Module, norm: nn.Module) -> bool:
    """Whether a ReLU stands in front of ``norm`` in ``parent``; it is then replaced: the norm's kernel applies it."""
    layers = list(parent.children())
    before = layers[layers.index(norm) - 1]
    if not isinstance(parent, nn.Sequential) or not isinstance(before, nn.ReLU):
        return False
    replace_forward(before, _unchanged)
    return True


def _unchanged(maps: Tensor) -> Tensor:
    return maps
