"""The batches of J packed jobs: each job's own draws, or one job's draws at every job's coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from jepa.data.draws import Draws, NoiseCoefficients
from jepa.data.normalization import Normalizer
from jepa.data.stream import Stream
from jepa.types import Batch


class JobStreams:
    """J streams as one; for J = 1 a batch carries no job axis."""

    def __init__(self, streams: Sequence[Stream], *, common: bool) -> None:
        """Take the streams of J jobs whose data sets differ in nothing but noise coefficients.

        Args:
            streams: each job's own, for one purpose.
            common: every job is given the first stream's dots and overlays (common random numbers); the other
                streams stay where they are.
        """
        self.streams = list(streams)
        self.common = common
        datasets = [stream.dataset for stream in self.streams]
        self._with_changing = any(dataset.noise > 0 for dataset in datasets)
        self._with_static = any(dataset.static_noise > 0 for dataset in datasets)
        self._coefficients = NoiseCoefficients(*_stacked([stream.coefficients for stream in self.streams]))
        normalizers = [stream.normalizer for stream in self.streams if stream.normalizer is not None]
        self._normalizer = Normalizer(*_stacked(normalizers)) if normalizers else None

    def next(self, batch_size: int | None = None) -> Batch:
        """The next batch: ``[T, B, …]`` for one job, ``[J, T, B, …]`` for several."""
        if len(self.streams) == 1:
            return self.streams[0].next(batch_size)
        drawn = [
            stream.draw(batch_size, with_changing=self._with_changing, with_static=self._with_static)
            for stream in (self.streams[:1] if self.common else self.streams)
        ]
        draws = drawn[0] if self.common else Draws(*_stacked(drawn))
        draw_dims = None if self.common else draws.batch_dims()
        normalizer_dims = None if self._normalizer is None else 0
        assemble = vmap(self.streams[0].dataset.assemble, in_dims=(draw_dims, 0, normalizer_dims), out_dims=0)
        batch: Batch = assemble(draws, self._coefficients, self._normalizer)
        return batch


def _stacked(rows: Sequence[tuple[Tensor | None, ...]]) -> list[Any]:
    """Field by field, the rows' tensors stacked over J; None where the rows have none."""
    return [None if field[0] is None else torch.stack(field) for field in zip(*rows, strict=True)]
