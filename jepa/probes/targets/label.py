"""A label that the environment gives to each frame, such as the number of the background."""

import torch
from torch import Tensor
from torch.nn import functional

from jepa.errors import ConfigError, nearest
from jepa.probes.features import to_float64
from jepa.probes.targets.base import Array, ProbeTarget
from jepa.types import Batch


class Label(ProbeTarget):
    """The environment's label of the target's name: a whole number for each frame. Reported is the accuracy.

    Least squares fits a map to 0 or 1 for each class; Adam minimises the cross-entropy. Both maps have a constant. The
    class with the largest answer is taken. ``chance`` is the share of the most frequent class.
    """

    measure = "accuracy"
    comparison = "chance"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.environment.classes[self.name]

    def check(self) -> None:
        """Raise ConfigError if the environment has no label of this name."""
        offered = self.environment.classes
        if self.name in offered:
            return
        words = f"the environment has the labels {', '.join(offered)}" if offered else "the environment has no labels"
        near = nearest(self.name, offered)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(f"probe.targets.{self.name}: no label of this name: {words}{hint}")

    def values(self, batch: Batch) -> Tensor:
        """[(J,) T, B, 1], whole numbers."""
        return batch.targets[self.name].unsqueeze(-1)

    def regressed(self, values: Tensor) -> Tensor:
        """[..., classes]: 1 for the true class, 0 for the others."""
        return functional.one_hot(values[..., 0], self.classes).to(torch.float32)

    def loss(self, answers: Tensor, values: Tensor) -> Tensor:
        """Cross-entropy."""
        rows = functional.cross_entropy(answers.flatten(0, 1), values.flatten(), reduction="none")
        return rows.view(answers.shape[:2]).mean(1).sum()

    def read(self, answers: Tensor) -> Tensor:
        """The class of the largest answer [...]; -1 where an answer is not finite."""
        answers = to_float64(answers)
        return torch.where(answers.isfinite().all(-1), answers.argmax(-1), -1)

    def true(self, values: Tensor) -> Tensor:
        """The class [...]."""
        return to_float64(values[..., 0]).long()  # on the device of the answers

    def errors(self, answered: Tensor, true: Tensor) -> Tensor:
        """1 for a right answer, 0 for a wrong one, NaN for one that is not finite: [J, S, B, 1]."""
        right = (answered == true).double()
        return torch.where(answered < 0, torch.nan, right).unsqueeze(-1)

    def report(self, mean_error: float) -> float:
        """The share of right answers."""
        return float(mean_error)

    def statistics(self, true: Tensor) -> Tensor:
        """1 for the class, 0 for the others."""
        return functional.one_hot(true, self.classes).double()

    def compare(self, mean_error: float, mean_statistics: Array) -> float:
        """The share of the most frequent class."""
        return float(mean_statistics.max())
