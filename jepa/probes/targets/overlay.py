"""The overlay of each frame: how much of the background can be read from embeddings?"""

from torch import Tensor

from jepa.data.environment import Environment
from jepa.errors import ConfigError, check_count
from jepa.probes.targets.base import Regression
from jepa.types import Batch


class Overlay(Regression):
    """The amplitudes of the overlay's smoothest patterns in each channel (:func:`jepa.data.cosines.cosine_modes`).

    They stand for the overlay's leading principal components. Reported are the RMSE, in normalised brightness, and R²,
    the share of the variance of all amplitudes together. R² is 0 if there is no overlay.

    Args:
        num_modes: number of patterns in each channel, 1 to 784.
    """

    def __init__(self, *, num_modes: int) -> None:
        self.num_modes = check_count("num_modes", num_modes, maximum=784)

    @property
    def components(self) -> int:  # type: ignore[override]
        """All amplitudes of a frame are one vector."""
        return self.num_modes * self.environment.shapes.channels

    def check(self) -> None:
        """Raise ConfigError if the environment has no overlays of its own."""
        if not self.environment.has_overlays:
            raise ConfigError(f"probe.targets.{self.name}: this environment does not say what its overlays are")
        most = self.environment.shapes.image_size**2
        if self.num_modes > most:
            raise ConfigError(f"probe.targets.{self.name}.num_modes={self.num_modes}: must be {most} or less")

    def prepared(self, environment: Environment) -> Environment:
        """The environment whose batches hold the amplitudes."""
        return environment.with_overlay(self.num_modes)

    def values(self, batch: Batch) -> Tensor:
        """[(J,) T, B, C·num_modes]."""
        return batch.targets["overlay"]
