"""Learning-rate schedules: one factor of the base learning rate for each optimizer step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from jepa.errors import ConfigError, check_count, check_number


class Schedule(ABC):
    """A factor of the learning rate for each step of a run."""

    @abstractmethod
    def factors(self, num_steps: int, steps_per_epoch: int) -> Tensor:
        """The factors ``[num_steps]``, float64 on the CPU, of a run with ``num_steps`` steps in total."""

    def check(self, num_steps: int, steps_per_epoch: int) -> None:
        """Raise ConfigError if ``factors`` would raise it, without computing the factors."""
        _check_length(num_steps, steps_per_epoch)


class Constant(Schedule):
    """The base learning rate at every step."""

    def factors(self, num_steps: int, steps_per_epoch: int) -> Tensor:
        """Ones ``[num_steps]``."""
        _check_length(num_steps, steps_per_epoch)
        return torch.ones(num_steps, dtype=torch.float64)


class WarmupCosine(Schedule):
    """A linear warm-up from 0, then half a cosine down to ``final_factor`` at the last step.

    ``warmup_epochs``: length of the warm-up; fractions are allowed; 0: no warm-up. ``final_factor``: in [0, 1].
    Source: docs/science.md. Deviation: steps count from 0; in the original they count from one epoch's length.
    """

    def __init__(self, *, warmup_epochs: float, final_factor: float) -> None:
        self.warmup_epochs = check_number("optimizer.schedule.warmup_epochs", warmup_epochs, minimum=0.0, maximum=1e6)
        self.final_factor = check_number("optimizer.schedule.final_factor", final_factor, minimum=0.0, maximum=1.0)

    def factors(self, num_steps: int, steps_per_epoch: int) -> Tensor:
        """The factors ``[num_steps]``. Raises ConfigError if the warm-up is not shorter than the run."""
        self.check(num_steps, steps_per_epoch)
        return warmup_cosine(num_steps, self._num_warmup(steps_per_epoch), self.final_factor)

    def check(self, num_steps: int, steps_per_epoch: int) -> None:
        """Raise ConfigError if the warm-up is not shorter than the run."""
        super().check(num_steps, steps_per_epoch)
        if self._num_warmup(steps_per_epoch) >= num_steps > 0:
            raise ConfigError(
                f"optimizer.schedule.warmup_epochs={self.warmup_epochs:g}: must be less than the run's "
                f"{num_steps / steps_per_epoch:g} epochs (trainer.epochs)"
            )

    def _num_warmup(self, steps_per_epoch: int) -> int:
        return round(self.warmup_epochs * steps_per_epoch)


def warmup_cosine(num_steps: int, num_warmup: int, final_factor: float) -> Tensor:
    """``step / num_warmup`` below ``num_warmup``, then a cosine from 1 to ``final_factor`` at the last step."""
    step = torch.arange(num_steps, dtype=torch.float64)
    progress = (step - num_warmup) / max(num_steps - 1 - num_warmup, 1)
    cosine = 0.5 * (1.0 + torch.cos(math.pi * progress))
    decay = cosine + final_factor * (1.0 - cosine)
    return torch.where(step < num_warmup, step / max(num_warmup, 1), decay)


def _check_length(num_steps: int, steps_per_epoch: int) -> None:
    check_count("num_steps", num_steps, minimum=0)  # 0: nothing to train
    check_count("steps_per_epoch", steps_per_epoch)
