"""The executor "mixed": convolutions and batch normalisations run job after job; everything else is batched.

``torch.func.vmap`` turns the convolutions of J jobs into one convolution of J groups, which is slow on some devices,
and splits a batch normalisation into elementwise operators. :class:`MapsInTurn` makes one call for each job instead.
:func:`jepa.packing.executors.choose_executor` measures which is faster. The models do not depend on the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class MapsInTurn(TorchFunctionMode):
    """While this mode is active under one level of ``torch.func.vmap``, operators on maps are called job after job."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.conv2d:
            return _InTurn.apply(lambda *tensors: func(*tensors, *args[3:], **named), *args[:3])  # type: ignore[no-untyped-call]
        if func is F.batch_norm and args[0].dim() == 4:
            affine = [named.pop(name) for name in ("weight", "bias")]
            return _InTurn.apply(lambda *tensors: _normalize(*tensors, **named), *args, *affine)  # type: ignore[no-untyped-call]
        return func(*args, **named)


def _normalize(
    maps: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, **settings: Any
) -> Tensor:
    """Batch normalisation of one job's maps [N, C, H, W]. The others are [C]; mean and variance are running ones."""
    return F.batch_norm(maps, mean, variance, weight=weight, bias=bias, **settings)


class _InTurn(torch.autograd.Function):
    """A call whose rule for vmap is a loop over jobs. Autograd differentiates the calls in the loop."""

    @staticmethod
    def forward(call: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
        return call(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save nothing: ``backward`` is never called under vmap."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError("MapsInTurn is for use under torch.func.vmap")

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], call: Callable[..., Tensor], *tensors: Tensor | None
    ) -> tuple[Tensor, int]:
        """``call`` for each job; the first of ``tensors``, and the output, are maps [J, N, C, H, W]."""
        jobs = zip(
            *(_per_job(tensor, dim, info.batch_size) for tensor, dim in zip(tensors, in_dims[1:], strict=True)),
            strict=True,
        )
        # On a CPU, batch normalisation of channels-last maps would use an operator that has no rule for vmap.
        layout = torch.contiguous_format if tensors[0].device.type == "cpu" else torch.channels_last  # type: ignore[union-attr]
        return torch.stack([call(maps.contiguous(memory_format=layout), *rest) for maps, *rest in jobs]), 0


def _per_job(tensor: Tensor | None, dim: int | None, num_jobs: int) -> Any:
    """The slices of J jobs; a value that the jobs share is repeated J times."""
    return [tensor] * num_jobs if tensor is None or dim is None else tensor.unbind(dim)
