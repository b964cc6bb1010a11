"""Hyperparameters in which the jobs of a pack may differ. They are 0-d buffers, and checkpoints omit them."""

from __future__ import annotations

import torch
from torch import nn

from jepa.errors import check_number

# Bounds of a coefficient. Within them a weighted loss and its gradients neither overflow nor underflow in float32.
SMALLEST, LARGEST = 1e-6, 1e6


def register_hyperparameter(
    module: nn.Module, name: str, value: float, *, key: str, minimum: float = 0.0, positive: bool = False
) -> bool:
    """Store ``value`` as the buffer ``module.<name>``, shape [].

    Args:
        key: the configuration key, for the error message.
        minimum: the smallest allowed value.
        positive: whether the value must be at least SMALLEST.

    Returns:
        Whether the value differs from 0.

    Raises:
        ConfigError: names ``key``; the value is outside [minimum, LARGEST], or below SMALLEST if ``positive``.
    """
    check_number(key, value, minimum=max(minimum, SMALLEST if positive else minimum), maximum=LARGEST)
    # Always on the CPU, even if a model is built on the meta device: these values decide which terms exist.
    module.register_buffer(name, torch.tensor(float(value), device="cpu"), persistent=False)
    return value != 0
