"""The generators that a batch's random numbers are drawn from: one for each purpose and part."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from jepa.errors import check_choice
from jepa.seeding import generator

JUDGING_PURPOSES = ("probe_judge", "plots")  # see test images; the others see training images
PURPOSES = ("train", "probe_fit", *JUDGING_PURPOSES, "normalization")
MOTION = "motion"  # the name of the generator of what moves

# The numbers that enter a batch as tensors, by name: [] each, since packed jobs differ in them. Of a distractor: how
# strongly it is added, in units of the brightest clean pixel.
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
