"""A stream of batches of one environment, for one purpose of one run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from jepa.data.draws import JUDGING_PURPOSES
from jepa.data.environment import Environment
from jepa.data.normalization import Normalizer
from jepa.types import Batch, Counterfactuals


class Stream:
    """An endless stream of batches for one purpose of one run."""

    def __init__(
        self, dataset: Environment, seed: int, purpose: str, normalizer: Normalizer | None, device: torch.device | str
    ) -> None:
        """purpose: one of PURPOSES; JUDGING_PURPOSES use test images. Raises ConfigError if images are missing."""
        self.dataset = dataset
        self.normalizer = normalizer
        self.streams = dataset.streams(seed, purpose, device)
        self.images = dataset.images(judging=purpose in JUDGING_PURPOSES, device=device)
        self.coefficients = dataset.coefficients(device)

    def draw(self, batch_size: int | None = None, *, drawn: Collection[str] | None = None) -> Any:
        """The next draws; see :meth:`Environment.draw`."""
        return self.dataset.draw(self.streams, self.images, batch_size, drawn=drawn)

    def next(self, batch_size: int | None = None) -> Batch:
        """The next batch. batch_size: B; None: the environment's."""
        return self.dataset.assemble(self.draw(batch_size), self.coefficients, self.normalizer)

    def counterfactuals(self) -> Counterfactuals | None:
        """The next batch with its counterfactuals, from two draws; None if the environment has none."""
        if not self.dataset.has_counterfactuals:
            return None
        return self.dataset.counterfactuals(self.draw(), self.draw(), self.coefficients, self.normalizer)

    def state_dict(self) -> dict[str, Tensor]:
        """The generators' states by name; tensors only, so that a checkpoint loads without executing code."""
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state_dict``. Raises ValueError for a state that does not fit."""
        self.streams.load_state_dict(state)
