"""Smooth patterns that images are described by: the cosines of lowest frequency."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


@functools.lru_cache(maxsize=8)
def cosine_modes(image_size: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """The ``count`` orthonormal cosine patterns of lowest frequency, [count, H, W].

    Frequencies are ordered by their sum over both axes, then by rows. These patterns are close to the principal
    components of images whose statistics are the same at every place, the largest component first.
    Source: Ahmed, Natarajan and Rao 1974 (the discrete cosine transform, DCT-II).
    """
    places = torch.arange(image_size, dtype=torch.float64)
    frequencies = torch.arange(image_size, dtype=torch.float64).unsqueeze(1)
    waves = torch.cos(math.pi * (places + 0.5) * frequencies / image_size) * math.sqrt(2 / image_size)
    waves[0] /= math.sqrt(2)
    pairs = sorted((sum_of, row) for sum_of in range(2 * image_size - 1) for row in range(image_size))
    kept = [(row, sum_of - row) for sum_of, row in pairs if 0 <= sum_of - row < image_size][:count]
    modes = torch.stack([waves[row].unsqueeze(1) * waves[column] for row, column in kept])
    return modes.to(torch.float32).to(device)
