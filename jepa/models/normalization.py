"""Batch normalisation of maps in every memory format, and of many time steps by their own statistics in one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.models.channels_last_norm import ChannelsLastNorm

_as_packed = ContextVar("as_packed", default=False)


def normalize_steps(norm: nn.BatchNorm1d | nn.BatchNorm2d, steps: Tensor) -> Tensor:
    """What ``norm`` gives when it is called on one time step after the other, in one call.

    Args:
        norm: its running values, where it trains, are updated as by T successive calls.
        steps: [T, B, C] or [T, B, C, H, W].

    Returns:
        As ``steps``; in training each step is normalised by the mean and variance of its own B samples.
    """
    if not norm.training:
        return norm(steps.flatten(0, 1)).reshape(steps.shape)  # type: ignore[no-any-return]
    num_steps, _, channels = steps.shape[:3]
    joined = steps.transpose(0, 1).flatten(1, 2)  # [B, TC, ...]: a step's channels are channels of their own
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    mean, variance = (values.new_zeros(num_steps * channels) for values in (norm.running_mean, norm.running_var))
    weight, bias = norm.weight.repeat(num_steps), norm.bias.repeat(num_steps)
    # with a momentum of 1 the "running" values that the call leaves are the statistics of each step
    joined = F.batch_norm(joined, mean, variance, weight, bias, training=True, momentum=1.0, eps=norm.eps)
    _update(norm.running_mean, mean.view(num_steps, channels), norm.momentum)
    _update(norm.running_var, variance.view(num_steps, channels), norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(num_steps)
    return joined.reshape(steps.shape[1], *steps.shape[:1], *steps.shape[2:]).transpose(0, 1)


@torch.no_grad()
def _update(running: Tensor, values: Tensor, momentum: float) -> None:
    """Update running [C] in place by values [T, C] in turn: running <- (1 - momentum) running + momentum value."""
    num_steps, keep = values.shape[0], 1 - momentum
    age = torch.arange(num_steps - 1, -1, -1, device=values.device, dtype=values.dtype)
    running.mul_(keep**num_steps).add_((momentum * keep**age) @ values)


def normalize_maps(norm: nn.BatchNorm2d, maps: Tensor, *, rectify: bool = False) -> Tensor:
    """``norm(maps)``; with ``rectify``, ``norm(maps.relu_())``. maps and returned: [N, C, H, W]."""
    if norm.training and _suits(maps):
        return _channels_last(norm, maps, num_groups=1, rectify=rectify)
    return norm(maps.relu_() if rectify else maps)  # type: ignore[no-any-return]


def normalize_step_maps(norm: nn.BatchNorm2d, maps: Tensor, num_steps: int, *, rectify: bool = False) -> Tensor:
    """As ``normalize_maps``, each time step by statistics of its own. maps and returned: [T*B, C, H, W]; num_steps: T.

    Running values, where the norm trains, are updated as by T successive calls. Maps keep their memory format.
    """
    if norm.training and _suits(maps):
        return _channels_last(norm, maps, num_groups=num_steps, rectify=rectify)
    maps = maps.relu_() if rectify else maps
    if not norm.training:
        return norm(maps)  # type: ignore[no-any-return]
    steps = maps.reshape(num_steps, -1, *maps.shape[1:])
    result: Tensor
    result, mean, variance = _StepNorm.apply(steps, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    update_running_values(norm, mean, variance, maps.numel() // mean.numel())
    return result.flatten(0, 1)


def _suits(maps: Tensor) -> bool:
    """Whether maps [N, C, H, W] are what ``ChannelsLastNorm`` is for: channels-last without gaps, on a CPU.

    Packed jobs' maps are not: under vmap the jobs' channels lie side by side, or no channels do.
    """
    return is_plain_channels_last(maps) and maps.shape[1] > 1 and maps.shape[2] * maps.shape[3] > 1


def is_plain_channels_last(maps: Tensor) -> bool:
    """Whether maps [N, C, H, W] lie on a CPU, channels-last without gaps, and no program is being compiled."""
    _, channels, height, width = maps.shape
    strides = (height * width * channels, 1, width * channels, channels)
    plain = maps.stride() == strides and maps.device.type == "cpu"
    return plain and not torch.compiler.is_compiling() and not _as_packed.get()


@contextmanager
def as_packed() -> Iterator[None]:
    """Within it maps are normalised as those of batched jobs and of a GPU are, for what such a step keeps and costs."""
    token = _as_packed.set(True)
    try:
        yield
    finally:
        _as_packed.reset(token)


def _channels_last(norm: nn.BatchNorm2d, maps: Tensor, *, num_groups: int, rectify: bool) -> Tensor:
    result: Tensor
    result, mean, variance, *_ = ChannelsLastNorm.apply(  # type: ignore[no-untyped-call]
        maps, norm.weight, norm.bias, norm.eps, num_groups, rectify
    )
    update_running_values(norm, mean, variance, maps.numel() // mean.numel())
    return result


def update_running_values(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running values by means and biased variances [G, C] of ``count`` values each, one after another."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    _update(norm.running_mean, mean, norm.momentum)
    _update(norm.running_var, variance * (count / (count - 1)), norm.momentum)
    with torch.no_grad():
        norm.num_batches_tracked.add_(len(mean))


_PIXELS = (-4, -2, -1)  # of [..., T, B, C, H, W]: what one statistic is taken over


class _StepNorm(torch.autograd.Function):
    """Batch normalisation of maps [..., T, B, C, H, W], each step and job for itself, in the weight's precision.

    Plain sums are used because they group their terms: they are exact enough in every memory format, and fast.
    """

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the normalised maps and the steps' means and (biased) variances [..., T, C]."""
        given = maps.to(weight.dtype)
        count = given.shape[-4] * given.shape[-2] * given.shape[-1]
        mean = given.sum(_PIXELS, keepdim=True) / count
        centred = given - mean
        variance = centred.square_().sum(_PIXELS, keepdim=True) / count
        factor = _per_channel(weight) * torch.rsqrt(variance + eps)
        result = torch.addcmul(_per_channel(bias) - mean * factor, given, factor, out=centred)
        return result.to(maps.dtype), _squeezed(mean), _squeezed(variance)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: tuple[Tensor, ...]) -> None:
        maps, weight, _, eps = inputs
        _, mean, variance = output
        ctx.mark_non_differentiable(mean, variance)
        ctx.save_for_backward(maps, weight, mean, torch.rsqrt(variance + eps))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        maps, weight, mean, scale = ctx.saved_tensors
        mean, scale = (values[..., None, :, None, None] for values in (mean, scale))
        count = maps.shape[-4] * maps.shape[-2] * maps.shape[-1]
        given = grad.to(weight.dtype)
        centred = maps.to(weight.dtype) - mean
        grad_bias = given.sum(_PIXELS, keepdim=True)
        grad_weight = (given * centred).sum(_PIXELS, keepdim=True) * scale
        factor = _per_channel(weight) * scale
        # factor * (grad - mean of grad - normalised * mean of grad * normalised)
        centred.mul_(-factor * scale * grad_weight / count).addcmul_(given, factor).sub_(factor * grad_bias / count)
        return centred.to(grad.dtype), _squeezed(grad_weight).sum(-2), _squeezed(grad_bias).sum(-2), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], maps: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        """Packed jobs: the same code with their axis in front of every tensor."""
        stacked = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip((maps, weight, bias), in_dims, strict=False)
        ]
        return _StepNorm.apply(*stacked, eps), (0, 0, 0)  # type: ignore[no-untyped-call]


def _per_channel(values: Tensor) -> Tensor:
    """[..., C] as [..., 1, 1, C, 1, 1]."""
    return values[..., None, None, :, None, None]


def _squeezed(values: Tensor) -> Tensor:
    """[..., T, 1, C, 1, 1] as [..., T, C]."""
    return values.squeeze(-1).squeeze(-1).squeeze(-2)
