"""Batch normalisation of many time steps in one call; each step has its own statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jepa.kernels.channels_last import normalize_groups, suits
from jepa.kernels.setting import Setting, jobs_first, replace, take_over_relu, update_running_values
from jepa.models.decoders import StepNorm2d


def install(module: nn.Module, setting: Setting) -> None:
    """Replace the forward pass of each :class:`StepNorm2d` in ``module``, and of a ReLU directly before it."""
    in_pieces = setting.device.type == "cpu" and not setting.batched
    for norm in module.children():
        if isinstance(norm, StepNorm2d):
            replace(norm, "forward", normalize_steps, take_over_relu(module, norm), in_pieces)


def normalize_steps(norm: StepNorm2d, rectify: bool, in_pieces: bool, maps: Tensor, num_steps: int) -> Tensor:
    """Compute ``norm(maps, num_steps)``, or ``norm(maps.relu_(), num_steps)`` if ``rectify``.

    Args:
        in_pieces: normalise channels-last maps in pieces, as the ``channels_last`` kernel does.
        maps: [T*B, C, H, W].
        num_steps: T.

    Returns:
        The normalised maps, with the shape and memory format of ``maps``.
    """
    if norm.training and in_pieces and suits(maps):
        return normalize_groups(norm, maps, num_groups=num_steps, rectify=rectify)
    maps = maps.relu_() if rectify else maps
    if not norm.training:
        return nn.BatchNorm2d.forward(norm, maps)  # every step uses the same running values
    steps = maps.reshape(num_steps, -1, *maps.shape[1:])
    result: Tensor
    result, mean, variance = _StepNorm.apply(steps, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    update_running_values(norm, mean, variance, maps.numel() // mean.numel())
    return result.flatten(0, 1)


_PIXELS = (-4, -2, -1)  # axes of [..., T, B, C, H, W] over which a statistic is computed


class _StepNorm(torch.autograd.Function):
    """Batch normalisation of maps [..., T, B, C, H, W], separately for each step and job, in the weight's precision.

    ``Tensor.sum`` adds its terms in groups: this is fast and exact enough in every memory format.
    """

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised maps and the steps' means and biased variances [..., T, C]."""
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
        """Packed jobs: the same code, with the job axis first in every tensor."""
        stacked = jobs_first((maps, weight, bias), in_dims[:3], info.batch_size)
        return _StepNorm.apply(*stacked, eps), (0, 0, 0)  # type: ignore[no-untyped-call]


def _per_channel(values: Tensor) -> Tensor:
    """[..., C] as [..., 1, 1, C, 1, 1]."""
    return values[..., None, None, :, None, None]


def _squeezed(values: Tensor) -> Tensor:
    """[..., T, 1, C, 1, 1] as [..., T, C]."""
    return values.squeeze(-1).squeeze(-1).squeeze(-2)
