"""Running sums of the losses between two records, kept on the device so that no step waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jepa.types import Losses


class Tally:
    """Sums of the total and of each term, one row a job."""

    def __init__(self) -> None:
        self.count = 0
        self._names: list[str] = []
        self._sums: Tensor | None = None  # [J, terms]

    def add(self, losses: Losses) -> None:
        """Add one step: total [J] and terms, each [J]."""
        values = torch.stack([losses.total, *losses.terms.values()], dim=1).float()
        self._names = ["loss/total", *(f"loss/{name}" for name in losses.terms)]
        self._sums = values if self._sums is None else self._sums + values
        self.count += 1

    def take(self) -> list[dict[str, float]]:
        """The means since the last call, one dictionary a job; the sums start again. Waits for the device."""
        if self._sums is None:
            return []
        rows = (self._sums / self.count).tolist()
        self.count, self._sums = 0, None
        return [dict(zip(self._names, row, strict=True)) for row in rows]

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these jobs."""
        if self._sums is not None:
            self._sums = self._sums[list(rows)]

    def state(self, row: int) -> dict[str, float | dict[str, Tensor]]:
        """One job's part of a checkpoint."""
        sums = {} if self._sums is None else {name: self._sums[row, i].cpu() for i, name in enumerate(self._names)}
        return {"count": self.count, "sums": sums}

    def load(self, states: Sequence[Mapping[str, object]], device: torch.device) -> None:
        """Continue from every job's :meth:`state`; they were saved at one step, so their counts agree."""
        sums = [state["sums"] for state in states]
        count = states[0]["count"]
        assert isinstance(count, int) and all(isinstance(job, dict) for job in sums)
        self.count = count
        self._names = list(sums[0]) if isinstance(sums[0], dict) else []
        rows = [torch.stack(list(job.values())) for job in sums if isinstance(job, dict) and job]
        self._sums = torch.stack(rows).to(device) if rows else None
