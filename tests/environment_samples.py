"""Environments for tests, without yaml."""

from __future__ import annotations

from typing import Any

from jepa.data.moving_dots import MovingDots

KEYS: dict[str, Any] = {
    "num_dots": 1,
    "channels": 1,
    "num_steps": 17,
    "dot_std": 1.3,
    "noise": 0.0,
    "static_noise": 0.0,
    "structured_noise": False,
    "static_noise_speed": 0.0,
    "structured_source": None,
    "cifar10_folder": None,
    "batch_size": 32,
    "size": 10_000,
    "normalize": True,
}


def moving_dots(**changes: Any) -> MovingDots:
    """One dot in the published setting, but for ``changes``."""
    return MovingDots(**{**KEYS, **changes})


def reference_lines(*, num_dots: int, num_steps: int, padding: float) -> dict[str, Any]:
    """The reference lines of moving dots. padding: the margin that no dot enters, px."""
    return moving_dots(num_dots=num_dots, num_steps=num_steps, dot_std=padding / 2).reference_lines()
