"""What an encoder is shown of a sequence: its frames, their differences, or both."""

from __future__ import annotations

import torch
from torch import Tensor

INPUTS = ("frames", "difference", "stacked")


def num_inputs(kind: str) -> int:
    """How many images of each dot channel the encoder is shown for a frame: 2 if ``stacked``, else 1."""
    return 2 if kind == "stacked" else 1


def first_input(kind: str) -> int:
    """Index of the first frame that has an input: 1 where the input needs the frame before, else 0."""
    return 0 if kind == "frames" else 1


def inputs(states: Tensor, kind: str) -> Tensor:
    """The encoder's inputs for the frames from ``first_input`` on.

    Args:
        states: frames [T, B, C, H, W].
        kind: ``frames``: x_t, for all T frames; ``difference``: x_t - x_{t-1}, in which a fixed overlay cancels;
            ``stacked``: x_t and x_t - x_{t-1} as channels.

    Returns:
        [T, B, C, H, W], [T-1, B, C, H, W] or [T-1, B, 2C, H, W].
    """
    if kind == "frames":
        return states
    difference = states[1:] - states[:-1]
    return difference if kind == "difference" else torch.cat([states[1:], difference], dim=-3)
