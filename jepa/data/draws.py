"""The random generators of an environment: one for each purpose, and in it for the motion and for each distractor."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from jepa.errors import check_choice
from jepa.seeding import generator

JUDGING_PURPOSES = ("probe_judge", "plots", "planning")  # use test images; the others use training images
PURPOSES = ("train", "probe_fit", "probe_validation", *JUDGING_PURPOSES, "normalization")
MOTION = "motion"  # the name of the generator for motion

# Numbers that enter a batch as tensors [], by name, because packed jobs may differ in them. For a distractor: its
# strength, in units of the brightest clean pixel.
Coefficients = dict[str, Tensor]


class Streams:
    """The generators of one purpose of one run: for motion, and for each distractor.

    Each has a generator of its own, so that runs with and without a distractor see the same motion.
    """

    def __init__(
        self, *, seed: int, purpose: str, device: torch.device | str, distractors: Iterable[str] = ()
    ) -> None:
        """Args:
        seed: the run's seed.
        purpose: one of PURPOSES.
        device: the device on which numbers are drawn.
        distractors: the names of the environment's distractors.
        """
        check_choice("purpose", purpose, PURPOSES)
        names = (MOTION, *distractors)
        self.generators = {name: generator(seed, f"{purpose}/{name}", device) for name in names}

    def state_dict(self) -> dict[str, Tensor]:
        """The generators' states by name: byte tensors on the CPU."""
        return {name: source.get_state() for name, source in self.generators.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state_dict``. Raises ValueError if a generator is missing or unknown."""
        if set(state) != set(self.generators):
            raise ValueError(f"random streams {sorted(state)} do not fit: expected {sorted(self.generators)}")
        for name, source in self.generators.items():
            source.set_state(state[name].cpu())
