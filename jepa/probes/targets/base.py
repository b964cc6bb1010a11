"""Base classes of probe targets: of any target, and of targets that are numbers with a unit."""

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
    """Abstract: a quantity that probes predict from embeddings. Its name is its key below ``probe.targets``.

    ``measure`` names the reported number, with its unit, such as ``rmse_px``. ``comparison`` names a second number to
    which the first can be compared (None: there is none). ``part`` names the parts of the target, such as ``dot``, for
    errors by part (None: no errors by part). ``constant`` says whether the maps have a constant term.

    Shapes: ``J`` packed jobs (in ``values`` only where the batch has it), ``S`` frames, ``P`` parts.
    """

    measure: str
    comparison: str | None = None
    part: str | None = None
    constant: bool = True

    name: str  # set by ``of``
    environment: Environment  # set by ``of``

    def of(self, name: str, environment: Environment) -> ProbeTarget:
        """A copy of this target that is bound to its name and to ``environment``.

        Raises:
            ConfigError: the environment does not offer the target.
        """
        target = copy.copy(self)
        target.name, target.environment = name, environment
        target.check()
        return target

    def check(self) -> None:
        """Raise ConfigError if ``environment`` does not offer the target."""
        return None

    def prepared(self, environment: Environment) -> Environment:
        """The environment whose batches hold what ``values`` needs; by default ``environment`` itself."""
        return environment

    @abstractmethod
    def values(self, batch: Batch) -> Tensor:
        """The true values of each frame: [(J,) T, B, N], numbers or classes."""

    def regressed(self, values: Tensor) -> Tensor:
        """The numbers [..., M] that a map is fitted to, for values [..., N]."""
        return values

    @abstractmethod
    def loss(self, answers: Tensor, values: Tensor) -> Tensor:
        """The loss that Adam minimises: the mean over R rows, summed over jobs.

        answers: [J, R, M]; values: [J, R, N]; returns [].
        """

    @abstractmethod
    def read(self, answers: Tensor) -> Tensor:
        """Convert the answers [..., M] of a map to the target's unit."""

    @abstractmethod
    def true(self, values: Tensor) -> Tensor:
        """Convert values [..., N] to the target's unit."""

    @abstractmethod
    def errors(self, answered: Tensor, true: Tensor) -> Tensor:
        """Errors of each sequence, from the outputs of ``read`` and ``true``: [J, S, B, P], float64.

        NaN where an answer is not finite.
        """

    @abstractmethod
    def report(self, mean_error: float) -> float:
        """The number that is reported as ``measure``, from the mean of the errors."""

    def statistics(self, true: Tensor) -> Tensor:
        """The quantities whose means ``compare`` takes: [J, S, B, M], float64."""
        raise NotImplementedError(f"{type(self).__name__} has a comparison and no statistics")

    def compare(self, mean_error: float, mean_statistics: Array) -> float:
        """The number that is reported as ``comparison``, from the mean error and the means [M] of the statistics."""
        raise NotImplementedError(f"{type(self).__name__} has a comparison and nothing to compare with")


class Regression(ProbeTarget):
    """Abstract: numbers with a unit. Reported are the RMSE, and R², the share of the variance that is explained.

    ``components`` numbers form a vector, such as (x, y). Squared differences are summed over the components of a vector
    and averaged over vectors. R² is 0 if the values do not vary.
    """

    unit = ""  # "px"; "": no unit
    components = 1
    comparison: str | None = "r2"

    @property
    def measure(self) -> str:  # type: ignore[override]
        """``rmse``, with the unit."""
        return f"rmse_{self.unit}" if self.unit else "rmse"

    def in_unit(self, values: Tensor) -> Tensor:
        """Convert values [..., P, components] from the scale of ``values`` to the unit."""
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
        """Squared distances, [J, S, B, P]."""
        return (answered - true).square().sum(-1)

    def report(self, mean_error: float) -> float:
        """The root of the mean squared distance."""
        return float(np.sqrt(mean_error))

    def statistics(self, true: Tensor) -> Tensor:
        """Every number, then the square of every number."""
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
