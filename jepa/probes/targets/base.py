"""What a probe may ask an embedding for: the base class of every target, and that of numbers in a unit."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jepa.data.environment import Environment
from jepa.probes.features import to_float64
from jepa.types import Batch

Array = npt.NDArray[np.floating]


class ProbeTarget(ABC):
    """Something that maps from embeddings are fitted to answer. Its name is its key below ``probe.targets``.

    ``measure`` names what is reported, with its unit, such as ``rmse_px``. ``comparison`` names a second number that
    says how good the first is (None: there is none). ``part`` names what a target has several of, such as ``dot``
    (None: errors are not reported by part). ``constant`` says whether the maps have a constant term.

    Shapes: ``J`` packed jobs (in ``values`` only where the batch has it), ``S`` frames, ``P`` parts.
    """

    measure: str
    comparison: str | None = None
    part: str | None = None
    constant: bool = True

    name: str  # both are set by ``of``
    environment: Environment

    def of(self, name: str, environment: Environment) -> ProbeTarget:
        """This target under its name, for the data of ``environment``.

        Raises:
            ConfigError: the environment does not offer it.
        """
        target = copy.copy(self)
        target.name, target.environment = name, environment
        target.check()
        return target

    def check(self) -> None:
        """Refuse a target that ``environment`` does not offer, by a ConfigError."""
        return None

    @abstractmethod
    def values(self, batch: Batch) -> Tensor:
        """What is to be answered of each frame: [(J,) T, B, N], numbers or classes."""

    def regressed(self, values: Tensor) -> Tensor:
        """The numbers that a map answers with, for values [..., N]: [..., M]."""
        return values

    @abstractmethod
    def loss(self, answers: Tensor, values: Tensor) -> Tensor:
        """What Adam minimises, for answers [J, R, M] and values [J, R, N] of R rows: mean over rows, sum over jobs."""

    @abstractmethod
    def read(self, answers: Tensor) -> Tensor:
        """The answers [..., M] of a map, in the target's unit."""

    @abstractmethod
    def true(self, values: Tensor) -> Tensor:
        """The values [..., N], in the target's unit."""

    @abstractmethod
    def errors(self, answered: Tensor, true: Tensor) -> Tensor:
        """Of each sequence, from what ``read`` and ``true`` return: [J, S, B, P], float64; NaN where not finite."""

    @abstractmethod
    def report(self, mean_error: float) -> float:
        """The number reported as ``measure``, from the mean of the errors."""

    def statistics(self, true: Tensor) -> Tensor:
        """What ``compare`` needs the mean of: [J, S, B, M], float64."""
        raise NotImplementedError(f"{type(self).__name__} has a comparison and no statistics")

    def compare(self, mean_error: float, mean_statistics: Array) -> float:
        """The number reported as ``comparison``, from the mean error and the mean [M] of the statistics."""
        raise NotImplementedError(f"{type(self).__name__} has a comparison and nothing to compare with")


class Regression(ProbeTarget):
    """Numbers in a unit: reported as RMSE, and as R², the share of the variance that is explained.

    A value of ``components`` numbers is a vector, such as (x, y); squared differences are summed over its components
    and averaged over vectors. R² of a value that never varies is 0.
    """

    unit = ""  # "px"; "": no unit
    components = 1
    comparison: str | None = "r2"

    @property
    def measure(self) -> str:  # type: ignore[override]
        """``rmse``, with the unit."""
        return f"rmse_{self.unit}" if self.unit else "rmse"

    def in_unit(self, values: Tensor) -> Tensor:
        """Values [..., P, components], as ``values`` gives them, in the unit."""
        return values

    def loss(self, answers: Tensor, values: Tensor) -> Tensor:
        """Squared differences, summed over the components and averaged over vectors."""
        error = self._vectors(answers) - self._vectors(values.float())
        return error.square().sum(-1).mean((1, 2)).sum()

    def read(self, answers: Tensor) -> Tensor:
        """[..., P, components], float64."""
        return self.in_unit(self._vectors(to_float64(answers)))

    def true(self, values: Tensor) -> Tensor:
        """[..., P, components], float64."""
        return self.read(values)

    def errors(self, answered: Tensor, true: Tensor) -> Tensor:
        """Squared distances."""
        return (answered - true).square().sum(-1)

    def report(self, mean_error: float) -> float:
        """The root."""
        return float(np.sqrt(mean_error))

    def statistics(self, true: Tensor) -> Tensor:
        """Every number, and its square."""
        flat = true.flatten(-2)
        return torch.cat([flat, flat.square()], -1)

    def compare(self, mean_error: float, mean_statistics: Array) -> float:
        """R²: 1 - error / variance."""
        mean, mean_square = np.split(mean_statistics, 2)
        variance = (mean_square - mean**2).reshape(-1, self.components).sum(-1).mean()
        is_constant = variance <= 1e-12 * mean_square.mean()  # rounding
        return 0.0 * mean_error if is_constant else float(1 - mean_error / variance)

    def _vectors(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:-1], -1, self.components)
