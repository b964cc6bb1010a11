"""The normalisation of frames by estimates of their mean and standard deviation (docs/science.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Normalizer(NamedTuple):
    """Mean and standard deviation of noisy frames; a pytree, so that packed jobs can stack their normalizers."""

    state_mean: Tensor  # []
    state_std: Tensor  # []

    def state_dict(self) -> dict[str, Tensor]:
        """Both tensors by name, on the CPU, for a checkpoint."""
        return {name: value.cpu() for name, value in self._asdict().items()}

    @classmethod
    def of(cls, state: Mapping[str, Tensor] | Sequence[Tensor], device: torch.device | str) -> Normalizer:
        """The normalizer from :meth:`state_dict`. Older checkpoints hold the two tensors without names."""
        values = [state[name] for name in cls._fields] if isinstance(state, Mapping) else list(state)
        return cls(*(value.to(device) for value in values))


def identity_normalizer(like: Tensor) -> Normalizer:
    """The normalizer that changes nothing, on the device of ``like``."""
    return Normalizer(like.new_zeros((), dtype=torch.float32), like.new_ones((), dtype=torch.float32))


def pooled_normalizer(means: Tensor, variances: Tensor) -> Normalizer:
    """Pool the means [N] and variances [N] of N batches of equal size, in float64.

    The result is float32, on the device of ``means``.
    """
    means_cpu, variances_cpu = means.cpu().double(), variances.cpu().double()  # not every device has float64
    variance = variances_cpu.mean() + means_cpu.var(correction=0)
    mean, std = (value.float().to(means.device) for value in (means_cpu.mean(), variance.sqrt()))
    return Normalizer(mean, std)
