"""Faster equivalents of parts of models, put in place from outside.

A model computes the same without them, within rounding; no model knows of them. Each is a function of a module's own
parameters that takes the place of the module's ``forward``, so that names and shapes of a state dict stay as they are.
`python benchmarks/kernels.py` measures what each saves of a whole train step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from jepa.kernels import channels_last, filtering, folded_norm, recurrence, step_norm, upsampled_conv
from jepa.kernels.setting import Setting

__all__ = ["KERNELS", "Setting", "install"]

KERNELS: dict[str, Callable[[nn.Module, Setting], bool]] = {
    "channels_last": channels_last.install_layout,
    "channels_last_norm": channels_last.install_norm,
    "folded_norm": folded_norm.install,
    "upsampled_conv": upsampled_conv.install,
    "step_norm": step_norm.install,
    "recurrence": recurrence.install,
    "filtering": filtering.install,
}


def install(
    method: nn.Module,
    *,
    device: torch.device,
    precision: str = "fp32",
    batched: bool = False,
    compiled: bool = False,
    only: Collection[str] = tuple(KERNELS),
) -> list[str]:
    """Replace parts of ``method`` by faster equivalents where they suit.

    Args:
        method: a method, or any module.
        device: where it will run.
        precision: ``fp32``, ``tf32`` or ``bf16``.
        batched: it will be called under ``torch.func.vmap``.
        compiled: it will be compiled by ``torch.compile``.
        only: names of the kernels that may be used.

    Returns:
        The names of those that were put in place.
    """
    setting = Setting(device, precision, batched, compiled)
    return [
        name
        for name, put in KERNELS.items()
        if name in only and any([put(module, setting) for module in list(method.modules())])
    ]
