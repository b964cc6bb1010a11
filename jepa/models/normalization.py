"""Batch normalisation of many time steps in one call, each step by its own statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def normalize_maps(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """``norm(maps)`` with sums that keep their digits in every memory format. maps and returned: [N, C, H, W].

    PyTorch's BatchNorm for channels-last on a CPU adds up one pixel after the other in single precision: from 2 000
    images of a constant background its variances are wrong by 2 %. Here pixels are added up in small groups, and these
    in double precision.
    """
    channels_last = maps.stride(1) == 1 and maps.shape[1] > 1 and maps.shape[2] * maps.shape[3] > 1
    if not (channels_last and norm.training and maps.device.type == "cpu") or torch.compiler.is_compiling():
        return norm(maps)  # type: ignore[no-any-return]
    result: Tensor
    result, mean, variance = _ChannelsLastNorm.apply(maps, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    count = maps.numel() // maps.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        for running, value in ((norm.running_mean, mean), (norm.running_var, variance * (count / (count - 1)))):
            running.mul_(1 - norm.momentum).add_(value, alpha=norm.momentum)
    return result


class _ChannelsLastNorm(torch.autograd.Function):
    """Batch normalisation of maps [N, C, H, W], channels-last, on a CPU; returns it with the mean and variance [C]."""

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        groups = torch.batch_norm_update_stats(_grouped(maps), None, None, 0.0)
        means, variances = (values.view(-1, maps.shape[1]).double() for values in groups)
        double = means.mean(dim=0)
        mean, variance = double.to(weight.dtype), (variances + (means - double).square()).mean(dim=0).to(weight.dtype)
        return F.batch_norm(maps, mean, variance, weight, bias, training=False, eps=eps), mean, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: tuple[Tensor, ...]) -> None:
        maps, weight, _, eps = inputs
        _, mean, variance = output
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(maps, weight, mean, torch.rsqrt(variance + eps))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None
        maps, weight, mean, scale = ctx.saved_tensors
        channels, count = maps.shape[1], maps.numel() // maps.shape[1]
        grad = grad.contiguous(memory_format=torch.channels_last)
        rows, grad_rows = _grouped(maps), _grouped(grad)
        means, scales = (values.repeat(rows.shape[1] // channels) for values in (mean, scale))
        # PyTorch's own backward pass is asked for sums over rows only: of grad, and of grad * (x - mean) * scale
        sums = torch.ops.aten.native_batch_norm_backward(
            grad_rows, rows, None, None, None, means, scales, True, 0.0, [False, True, True]
        )[1:]
        grad_weight, grad_bias = (values.view(-1, channels).double().sum(dim=0).to(weight.dtype) for values in sums)
        # weight * scale * (grad - mean of grad - (x - mean) * scale * mean of grad * (x - mean) * scale)
        factor = weight * scale
        slope = -factor * scale * grad_weight / count
        offset = -factor * grad_bias / count - slope * mean
        parts = [values.to(maps.dtype).view(1, -1, 1, 1) for values in (offset, slope, factor)]
        return torch.addcmul(parts[0], maps, parts[1]).addcmul_(grad, parts[2]), grad_weight, grad_bias, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], maps: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        """Packed jobs (that are given the same frames): a job's channels are channels of their own."""
        maps, weight, bias = (
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip((maps, weight, bias), in_dims, strict=False)
        )
        joined = maps.transpose(0, 1).flatten(1, 2)  # [N, JC, H, W]
        result, *statistics = _ChannelsLastNorm.apply(joined, weight.flatten(), bias.flatten(), eps)  # type: ignore[no-untyped-call]
        mean, variance = (values.view(weight.shape) for values in statistics)
        return (result.view(maps.transpose(0, 1).shape), mean, variance), (1, 0, 0)


def _grouped(maps: Tensor) -> Tensor:
    """maps [N, C, H, W], channels-last, seen as a column of at most 16 pixels of very many channels; no copy."""
    height, width = maps.shape[2:]
    rows = max(size for size in range(1, height * width + 1) if height * width % size == 0 and size <= 16)
    return maps.permute(0, 2, 3, 1).reshape(rows, -1).t().unsqueeze(0).unsqueeze(-1)  # [1, GC, rows, 1]


def normalize_step_maps(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """As ``normalize_steps`` for maps [T, B, C, H, W], which keep their memory format: nothing is copied to do it."""
    if not norm.training:
        return norm(maps.flatten(0, 1)).reshape(maps.shape)  # type: ignore[no-any-return]
    result: Tensor
    result, mean, variance = _StepNorm.apply(maps, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    count = maps.numel() // (maps.shape[0] * maps.shape[2])
    _update(norm.running_mean, mean, norm.momentum)
    _update(norm.running_var, variance * (count / (count - 1)), norm.momentum)
    with torch.no_grad():
        norm.num_batches_tracked.add_(maps.shape[0])
    return result


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
