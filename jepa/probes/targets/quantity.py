"""A number that the environment gives to each frame, such as the column of a wall."""

import torch
from torch import Tensor

from jepa.errors import ConfigError, nearest
from jepa.probes.targets.base import Regression
from jepa.types import Batch


class Quantity(Regression):
    """The environment's number of the target's name, for each frame. The maps have a constant.

    Reported are the RMSE, and R², which is 0 for a number that is the same in all sequences.
    """

    components = 1

    def __init__(self, *, unit: str) -> None:
        """unit: of the number, such as "px"; "" for none. It stands in the metrics' names."""
        self.unit = unit

    def check(self) -> None:
        """Raise ConfigError if the environment has no number of this name."""
        offered = self.environment.quantities
        if self.name in offered:
            return
        words = f"the environment has the numbers {', '.join(offered)}" if offered else "the environment has no numbers"
        near = nearest(self.name, offered)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(f"probe.targets.{self.name}: no number of this name: {words}{hint}")

    def values(self, batch: Batch) -> Tensor:
        """[(J,) T, B, 1]."""
        return batch.targets[self.name].to(torch.float32).unsqueeze(-1)

    def in_unit(self, values: Tensor) -> Tensor:
        """[..., 1, 1] in the unit."""
        return self.environment.unnormalize_quantity(self.name, values)
