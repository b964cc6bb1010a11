"""Running sums of the losses between two records. They stay on the device, so that no step waits for a transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from jepa.types import Losses


class Tally:
    """Sums over steps of the total loss and of each term."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []
        self.sums: Tensor | None = None  # [..., terms], with the leading axes of the losses

    def add(self, losses: Losses) -> None:
        """Add the losses of one step, each [...]; the first call after :meth:`take` fixes the shape."""
        values = torch.stack([losses.total, *losses.terms.values()], dim=-1).float()
        self.names = ["loss/total", *(f"loss/{name}" for name in losses.terms)]
        self.sums = values if self.sums is None else self.sums + values
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means since the last call, by name. Resets the sums. Waits for the device."""
        means = self.take_means()
        return {} if means is None else dict(zip(self.names, means.tolist(), strict=True))

    def take_means(self) -> Tensor | None:
        """As :meth:`take`, but as a tensor [..., terms] on the device; None if nothing was added."""
        if self.sums is None:
            return None
        means = self.sums / self.count
        self.count, self.sums = 0, None
        return means

    def state(self) -> dict[str, Any]:
        """The sums, for a checkpoint."""
        return tally_state(self.count, self.names, self.sums)

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from :meth:`state`."""
        self.count = state["count"]
        self.names = list(state["sums"])
        self.sums = torch.stack(list(state["sums"].values())).to(device) if state["sums"] else None


def tally_state(count: int, names: list[str], sums: Tensor | None) -> dict[str, Any]:
    """The tally of one run in the form that checkpoints hold. sums: [terms]."""
    values = [] if sums is None else [value.clone() for value in sums.cpu()]
    return {"count": count, "sums": dict(zip(names, values, strict=True)) if values else {}}
