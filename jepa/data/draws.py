"""Everything that is random in a batch: what is drawn, and the generators it is drawn from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from jepa.errors import check_choice
from jepa.seeding import generator

JUDGING_MOTION = "motion"
JUDGING_PURPOSES = ("probe_judge", "plots")  # see test images; the others see training images
PURPOSES = ("train", "probe_fit", *JUDGING_PURPOSES, "normalization")
MOTION = "motion"  # the name of the dots' own generator


class Draws(NamedTuple):
    """All that is random in a batch."""

    motion: Tensor  # [3 + 2(T-1), B, K], uniform on [0, 1)
    overlays: dict[str, Tensor]  # by distractor, what its ``draw`` gave; without those that are not drawn


# How strongly each distractor is added, in units of the brightest clean pixel: [] each, since packed jobs differ.
Coefficients = dict[str, Tensor]


class Streams:
    """The generators of one purpose of one run: of motion, and of each distractor.

    They are separate, so that a run without one kind of overlay sees the same motion as a run with it.
    """

    def __init__(
        self, *, seed: int, purpose: str, device: torch.device | str, distractors: Iterable[str] = ()
    ) -> None:
        """Args:
        seed: the run's.
        purpose: one of PURPOSES.
        device: where the numbers are drawn.
        distractors: the names of the data set's.
        """
        check_choice("purpose", purpose, PURPOSES)
        names = (MOTION, *distractors)
        self.generators = {name: generator(seed, f"{purpose}/{name}", device) for name in names}

    def state_dict(self) -> dict[str, Tensor]:
        """The generators' states by name: byte tensors on the CPU."""
        return {name: source.get_state() for name, source in self.generators.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state_dict``'s result. Raises ValueError where a generator is missing or unknown."""
        if set(state) != set(self.generators):
            raise ValueError(f"random streams {sorted(state)} do not fit: expected {sorted(self.generators)}")
        for name, source in self.generators.items():
            source.set_state(state[name].cpu())
