"""The conditions under which a method runs, and functions that install and remove kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Setting:
    """The conditions that decide which kernels suit."""

    device: torch.device
    precision: str  # fp32, tf32 or bf16
    batched: bool  # the method is called under torch.func.vmap


def replace(module: nn.Module, name: str, function: Callable[..., Any], *first: object) -> None:
    """Make ``module.name(...)`` call ``function(module, *first, ...)``. The module's tensors stay as they are."""
    assert callable(getattr(type(module), name)), name
    vars(module)[name] = partial(function, module, *first)


def restore(module: nn.Module) -> None:
    """Undo every :func:`replace` of ``module``, so that the functions of its class are called again."""
    for name, value in list(vars(module).items()):
        if isinstance(value, partial) and value.func.__module__.startswith("jepa.kernels."):
            del vars(module)[name]


def channels_last(maps: Tensor) -> Tensor:
    """Return maps [N, C, H, W] in channels-last format: the channels of a pixel are adjacent in memory."""
    return maps if maps.stride(1) == 1 else maps.to(memory_format=torch.channels_last, copy=True)


def take_over_relu(parent: nn.Module, norm: nn.Module) -> bool:
    """Disable the ReLU directly before ``norm`` in ``parent``; returns whether there is one, for ``norm`` to apply."""
    layers = list(parent.children())
    before = layers[layers.index(norm) - 1]
    if not isinstance(parent, nn.Sequential) or not isinstance(before, nn.ReLU):
        return False
    replace(before, "forward", _unchanged)
    return True


def _unchanged(relu: nn.Module, maps: Tensor) -> Tensor:
    return maps


@torch.no_grad()
def update_running_values(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running values of ``norm`` as G calls in training mode would.

    Args:
        mean, variance: mean and biased variance of each call [G, C].
        count: number of values in each mean and variance.
    """
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    keep, last = 1 - norm.momentum, len(mean) - 1
    age = torch.arange(last, -1, -1, device=mean.device, dtype=mean.dtype)
    weights = norm.momentum * keep**age  # [G]: r <- (1 - momentum) r + momentum value, from the first call to the last
    norm.running_mean.mul_(keep ** len(mean)).add_(weights @ mean)
    norm.running_var.mul_(keep ** len(mean)).add_(weights @ (variance * (count / (count - 1))))
    norm.num_batches_tracked.add_(len(mean))


def jobs_first(tensors: Sequence[Tensor], in_dims: Sequence[int | None], num_jobs: int) -> list[Tensor]:
    """``tensors`` with the job axis J of ``torch.func.vmap`` in front; one that the jobs share is expanded over J.

    in_dims: where J is in each tensor; None: the jobs share the tensor. num_jobs: J.
    """
    return [
        tensor.expand(num_jobs, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=True)
    ]
