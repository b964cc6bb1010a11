"""Everything that is random in a batch: what is drawn, and the generators it is drawn from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from jepa.errors import check_choice
from jepa.seeding import generator

JUDGING_PURPOSES = ("probe_judge", "plots")  # see test images; the others see training images
PURPOSES = ("train", "probe_fit", *JUDGING_PURPOSES, "normalization")


class Draws(NamedTuple):
    """All that is random in a batch. A field is None where its overlay is not drawn."""

    motion: Tensor  # [3 + 2(T-1), B, K], uniform on [0, 1)
    changing: Tensor | None  # [T, B, K, H, W], overlays in [0, 1], one for every frame
    static: Tensor | None  # [B, K, H, W], overlays in [0, 1], one for a whole sequence

    def batch_dims(self) -> Draws:
        """``in_dims`` for ``torch.func.vmap`` over stacked draws: 0 for each tensor, None for each None."""
        return Draws(*(None if field is None else 0 for field in self))  # type: ignore[arg-type]


class NoiseCoefficients(NamedTuple):
    """How strongly the overlays are added, in units of the brightest clean pixel; tensors, since packed jobs differ."""

    noise: Tensor  # [], of changing overlays
    static_noise: Tensor  # [], of static overlays


class Streams:
    """The generators of one purpose of one run: motion, changing overlays, static overlays.

    They are separate, so that a run without one kind of overlay sees the same motion as a run with it.
    """

    NAMES = ("motion", "changing", "static")

    def __init__(self, *, seed: int, purpose: str, device: torch.device | str) -> None:
        """``seed``: the run's; ``purpose``: one of PURPOSES; ``device``: where the numbers are drawn."""
        check_choice("purpose", purpose, PURPOSES)
        self.motion, self.changing, self.static = (generator(seed, f"{purpose}/{name}", device) for name in self.NAMES)

    def state_dict(self) -> dict[str, Tensor]:
        """The generators' states by name: byte tensors on the CPU."""
        return {name: getattr(self, name).get_state() for name in self.NAMES}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state_dict``'s result. Raises ValueError where a generator is missing or unknown."""
        if set(state) != set(self.NAMES):
            raise ValueError(f"random streams {sorted(state)} do not fit: expected {sorted(self.NAMES)}")
        for name in self.NAMES:
            getattr(self, name).set_state(state[name].cpu())
