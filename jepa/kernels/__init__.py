"""Faster equivalents of parts of models, put in place from outside.

A model computes the same numbers without kernels, except for rounding. No model imports a kernel. A kernel is a
function of a module's own parameters. It replaces one function of the module, so the names and shapes of a state dict
do not change. ``python benchmarks/kernels.py`` measures how much of a whole train step each kernel saves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from jepa.kernels import channels_last, decoder, filtering, folded_norm, recurrence
from jepa.kernels.setting import Setting, restore

__all__ = ["KERNELS", "install"]

# Each kernel replaces functions of a module if it suits, and returns whether it did. Later kernels override earlier.
KERNELS: dict[str, Callable[[nn.Module, Setting], bool]] = {
    "channels_last": channels_last.install,
    "folded_norm": folded_norm.install,
    "decoder": decoder.install,
    "recurrence": recurrence.install,
    "filtering": filtering.install,
}


def install(
    method: nn.Module,
    *,
    device: torch.device,
    precision: str,
    batched: bool = False,
    only: Collection[str] = tuple(KERNELS),
) -> list[str]:
    """Replace parts of ``method`` by faster equivalents where they suit; first undo the replacements of earlier calls.

    Args:
        method: a method, or any module; its parameters and buffers stay where they are.
        device: device on which the method runs.
        precision: fp32, tf32 or bf16.
        batched: whether the method is called under ``torch.func.vmap``, for the jobs of a pack.
        only: names of the kernels that may be used; empty: use the plain code everywhere.

    Returns:
        The names of the kernels in place.
    """
    modules = list(method.modules())
    for module in modules:
        restore(module)
    setting = Setting(device, precision, batched)
    installed = []
    for name, put in KERNELS.items():
        if name in only and sum(put(module, setting) for module in modules) > 0:
            installed.append(name)
    return installed
