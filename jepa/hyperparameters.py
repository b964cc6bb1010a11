"""Numbers that jobs of one pack may differ in: 0-d buffers that no checkpoint holds."""

from __future__ import annotations

import torch
from torch import nn

from jepa.errors import check_number

# What a coefficient may be: products of a loss with these are numbers in float32, and so are their gradients.
SMALLEST, LARGEST = 1e-6, 1e6


def register_hyperparameter(
    module: nn.Module, name: str, value: float, *, key: str, minimum: float = 0.0, positive: bool = False
) -> bool:
    """Hold ``value`` as the buffer ``module.<name>``, shape [].

    Args:
        key: the configuration key, for the error.
        minimum: the least value allowed.
        positive: whether 0 is refused.

    Returns:
        Whether the value is other than 0.

    Raises:
        ConfigError: names ``key``; outside [minimum, LARGEST]; less than SMALLEST though ``positive``.
    """
    check_number(key, value, minimum=max(minimum, SMALLEST if positive else minimum), maximum=LARGEST)
    # on the CPU also where a model is built without its weights: such numbers decide which terms there are
    module.register_buffer(name, torch.tensor(float(value), device="cpu"), persistent=False)
    return value != 0
