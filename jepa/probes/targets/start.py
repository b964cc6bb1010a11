"""The dots' start: can it still be read from later embeddings?"""

from torch import Tensor

from jepa.probes.targets.base import Regression
from jepa.types import Batch


class Start(Regression):
    """(x, y) of every dot in frame 0, as the target for every frame. In frame 0 it equals the location."""

    unit = "px"
    components = 2
    part = "dot"
    constant = False

    def values(self, batch: Batch) -> Tensor:
        """[(J,) T, B, 2K], normalised."""
        return batch.locations.narrow(-4, 0, 1).expand_as(batch.locations).flatten(-2)

    def in_unit(self, values: Tensor) -> Tensor:
        """[..., K, 2] in px."""
        return self.environment.unnormalize_locations(values)
