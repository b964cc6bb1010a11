"""Named random streams: one seed decides everything random, and no two purposes share a stream."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the purpose ``name``: the first bits of SHA-256 over ``seed`` and ``name``.

    Neighbouring seeds and names give unrelated streams. The result is the same on every platform and Python version.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on ``device`` for the purpose ``name`` (for example ``"train/motion"``).

    The numbers drawn depend on the kind of device: a CPU and a GPU give different, equally valid streams.
    """
    return torch.Generator(device=device).manual_seed(derive_seed(seed, name))
