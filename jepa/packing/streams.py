"""The batches of J packed jobs: from each job's own draws, or from one job's draws with every job's coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch.func import vmap
from torch.utils._pytree import tree_map

from jepa.data.draws import Coefficients
from jepa.data.normalization import Normalizer
from jepa.data.stream import Stream
from jepa.types import Batch, Counterfactuals

_Tree = TypeVar("_Tree")


class JobStreams:
    """J streams as one; a batch has the axis J in front."""

    def __init__(self, streams: Sequence[Stream], *, common: bool) -> None:
        """Stack the jobs' coefficients and normalisation.

        Args:
            streams: one for each job, all for one purpose. Their environments differ in coefficients alone.
            common: every job is given the first stream's draws (common random numbers). The other streams do not
                advance.
        """
        self.streams = list(streams)
        self.common = common
        self._drawn = frozenset[str]().union(*(stream.dataset.drawn for stream in self.streams))
        self._coefficients: Coefficients = _stacked([stream.coefficients for stream in self.streams])
        normalizers = [stream.normalizer for stream in self.streams if stream.normalizer is not None]
        self._normalizer: Normalizer | None = _stacked(normalizers) if normalizers else None

    def next(self, batch_size: int | None = None) -> Batch:
        """The next batch, [J, T, B, ...]."""
        batch: Batch = self._over_jobs(self.streams[0].dataset.assemble, self._draw(batch_size))
        return batch

    def counterfactuals(self) -> Counterfactuals | None:
        """The next batch with its counterfactuals, [J, T, B, ...]; None if the environment has none."""
        dataset = self.streams[0].dataset
        if not dataset.has_counterfactuals:
            return None
        found: Counterfactuals = self._over_jobs(dataset.counterfactuals, self._draw(), self._draw())
        return found

    def _draw(self, batch_size: int | None = None) -> Any:
        """The next draws: stacked over J, or the first job's."""
        drawn = [
            stream.draw(batch_size, drawn=self._drawn)
            for stream in (self.streams[:1] if self.common else self.streams)
        ]
        return drawn[0] if self.common else _stacked(drawn)

    def _over_jobs(self, function: Callable[..., Any], *draws: Any) -> Any:
        """``function(*draws, coefficients, normalizer)`` of every job."""
        draw_dims = [None if self.common else 0] * len(draws)
        normalizer_dims = None if self._normalizer is None else 0
        mapped = vmap(function, in_dims=(*draw_dims, 0, normalizer_dims), out_dims=0)
        return mapped(*draws, self._coefficients, self._normalizer)


def _stacked(rows: Sequence[_Tree]) -> _Tree:
    """One tree from J trees of one structure: their tensors are stacked over J."""
    stacked: _Tree = tree_map(lambda *tensors: torch.stack(tensors), *rows)
    return stacked
