"""The dots' locations, whose error the papers' figures report."""

from torch import Tensor

from jepa.probes.targets.base import Regression
from jepa.types import Batch


class Location(Regression):
    """(x, y) of every dot. The maps have no constant, as in the original: locations are normalised to mean 0."""

    unit = "px"
    components = 2
    part = "dot"
    constant = False
    comparison = None  # the reference lines are compared with instead

    def values(self, batch: Batch) -> Tensor:
        """[(J,) T, B, 2K], normalised."""
        return batch.locations.flatten(-2)

    def in_unit(self, values: Tensor) -> Tensor:
        """[..., K, 2] in px."""
        return self.environment.unnormalize_locations(values)
