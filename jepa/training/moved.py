"""How far training moved the encoder's weights from where they began."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from jepa.errors import ConfigError
from jepa.store import checkpoint
from jepa.training.plan import Plan

log = logging.getLogger(__name__)

ENCODER = "encoder."  # the names of the encoder's parameters in a method begin so


def weights_moved(plan: Plan, model: Mapping[str, Tensor]) -> float | None:
    """``‖θ_end − θ_start‖ / ‖θ_start‖`` over the encoder's parameters, all as one vector.

    The weights at the start are made again: from the seed, or read from ``init_from``. So a resumed run and a packed
    job have the number of an uninterrupted run.

    Args:
        plan: the run.
        model: the weights at the end, by name.

    Returns:
        The ratio; None for a method that is not trained, or has no encoder, or whose first weights cannot be read.
    """
    method = plan.initial_method()
    names = [name for name, _ in method.named_parameters() if name.startswith(ENCODER)]
    if not names or not plan.total_steps(method):
        return None
    start: Mapping[str, Tensor] = method.state_dict()
    if plan.config.init_from is not None:
        try:
            start, _ = checkpoint.initial_model(Path(plan.config.init_from), start)
        except ConfigError as error:  # the file was removed or changed since the run began
            log.warning("weights_moved is not measured: %s", error)
            return None
    return relative_distance([start[name] for name in names], [model[name] for name in names])


def relative_distance(start: list[Tensor], end: list[Tensor]) -> float | None:
    """``‖end − start‖ / ‖start‖`` over all tensors as one vector, in float64; None if the start is 0."""
    norm, moved = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for one, other in zip(start, end, strict=True):
        before, after = one.detach().cpu().double(), other.detach().cpu().double()
        norm += before.square().sum()
        moved += (after - before).square().sum()
    ratio = float(torch.sqrt(moved / norm))
    return ratio if math.isfinite(ratio) else None
