"""How strongly each loss term pulls at the encoder: the norm of its gradient with respect to a batch's encodings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from jepa.types import Batch

Contributions = Callable[[Tensor, Batch, Tensor | None], dict[str, Tensor]]


def gradient_norms(
    encode: Callable[[Batch], Tensor],
    contributions: Contributions,
    batch: Batch,
    latent_noise: Tensor | None,
    *,
    leading: int,
) -> dict[str, Tensor]:
    """The norm over all encodings of a batch of d(coeff · term)/dz, by term.

    Args:
        encode: makes the encodings [..., S, B, D], see :meth:`jepa.methods.base.Method.encode_batch`.
        contributions: the weighted terms, each [...], see :meth:`jepa.methods.base.Method.contributions`.
        batch, latent_noise: those of a train step.
        leading: number of axes in front of S: 0, or 1 for the jobs of a pack.

    Returns:
        Norms, each [] or [J]; 0 for a term on which the encodings have no influence.
    """
    with torch.no_grad():
        encodings = encode(batch)
    encodings = encodings.detach().requires_grad_(True)
    norms = {}
    for name, value in contributions(encodings, batch, latent_noise).items():
        grad: Tensor | None = None
        if value.requires_grad:
            grad = torch.autograd.grad(value.sum(), [encodings], retain_graph=True, allow_unused=True)[0]
        norms[name] = torch.zeros_like(value) if grad is None else grad.float().flatten(leading).norm(dim=-1)
    return norms


@contextmanager
def kept(buffers: Mapping[str, Tensor]) -> Iterator[None]:
    """Give every buffer its present value back at the end; batch norm, in training mode, updates its buffers."""
    saved = {name: buffer.clone() for name, buffer in buffers.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in buffers.items():
                buffer.copy_(saved[name])
