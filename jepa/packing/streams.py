"""The batches of J packed jobs: each job's own draws, or one job's draws at every job's coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch.func import vmap
from torch.utils._pytree import tree_map

from jepa.data.draws import Coefficients
from jepa.data.normalization import Normalizer
from jepa.data.stream import Stream
from jepa.types import Batch

_Tree = TypeVar("_Tree")


class JobStreams:
    """J streams as one."""

    def __init__(self, streams: Sequence[Stream], *, common: bool) -> None:
        """Take the streams of J jobs whose data sets differ in nothing but noise coefficients.

        Args:
            streams: each job's own, for one purpose.
            common: every job is given the first stream's dots and overlays (common random numbers); the other
                streams stay where they are.
        """
        self.streams = list(streams)
        self.common = common
        self._drawn = frozenset[str]().union(*(stream.dataset.drawn for stream in self.streams))
        self._coefficients: Coefficients = _stacked([stream.coefficients for stream in self.streams])
        normalizers = [stream.normalizer for stream in self.streams if stream.normalizer is not None]
        self._normalizer: Normalizer | None = _stacked(normalizers) if normalizers else None

    def next(self, batch_size: int | None = None) -> Batch:
        """The next batch, [J, T, B, ...]."""
        drawn = [
            stream.draw(batch_size, drawn=self._drawn)
            for stream in (self.streams[:1] if self.common else self.streams)
        ]
        draws = drawn[0] if self.common else _stacked(drawn)
        draw_dims = None if self.common else 0
        normalizer_dims = None if self._normalizer is None else 0
        assemble = vmap(self.streams[0].dataset.assemble, in_dims=(draw_dims, 0, normalizer_dims), out_dims=0)
        batch: Batch = assemble(draws, self._coefficients, self._normalizer)
        return batch


def _stacked(rows: Sequence[_Tree]) -> _Tree:
    """Trees of one structure as one tree: each of its tensors stacked over J."""
    stacked: _Tree = tree_map(lambda *tensors: torch.stack(tensors), *rows)
    return stacked
