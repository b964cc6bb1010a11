"""Convolution, ReLU and batch normalisation of channels-last maps on a CPU.

ReLU and batch normalisation process the maps in pieces that fit into a core's cache. The forward pass reads each map
twice at most, and so does the backward pass.

PyTorch's own BatchNorm for channels-last maps on a CPU sums one pixel after another in single precision. With 4 000
images of a constant background its variances are wrong by 10 %. This module keeps the digits in two ways: it subtracts
a value near the mean first, and it sums with ``Tensor.sum``, which adds its terms in groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.kernels.setting import Setting, channels_last, replace, take_over_relu, update_running_values
from jepa.models.encoders import LeNet5, MeNet5, ResNet18

PIECE = 1 << 18  # elements that a thread processes at a time: 1 MiB in single precision


def install(module: nn.Module, setting: Setting) -> bool:
    """Replace an encoder's convolutions, its norms and the ReLUs before norms; returns whether ``module`` suits."""
    if setting.device.type != "cpu" or setting.batched or type(module) not in (MeNet5, ResNet18, LeNet5):
        return False
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            replace(part, "forward", convolve)
        for norm in part.children():
            if isinstance(norm, nn.BatchNorm2d):
                replace(norm, "forward", normalize, take_over_relu(part, norm))
    if type(module) is MeNet5:
        replace(module, "features", features)
    return True


def convolve(module: nn.Conv2d, maps: Tensor) -> Tensor:
    """Compute ``module(maps)`` with channels-last maps. maps: [N, C, H, W]; returns [N, O, H', W']."""
    return nn.Conv2d.forward(module, channels_last(maps))


def features(encoder: MeNet5, frames: Tensor) -> Tensor:
    """Compute ``encoder.features(frames)``. frames: [N, C, H, W]; returns [N, features_size]."""
    maps = encoder.layer1(frames).permute(0, 2, 3, 1)  # [N, 3, 3, 32w]
    # Reorder the weight's columns to the maps' memory order. Copying the maps and their gradients would cost more.
    weight = encoder.fc.weight.view(encoder.fc.out_features, maps.shape[3], -1).transpose(1, 2).flatten(1)
    return F.linear(maps.flatten(1), weight, encoder.fc.bias)


def normalize(norm: nn.BatchNorm2d, rectify: bool, maps: Tensor) -> Tensor:
    """Compute ``norm(maps)``, or ``norm(maps.relu_())`` if ``rectify``. maps and result: [N, C, H, W]."""
    if norm.training and suits(maps):
        return normalize_groups(norm, maps, num_groups=1, rectify=rectify)
    return nn.BatchNorm2d.forward(norm, maps.relu_() if rectify else maps)


def suits(maps: Tensor) -> bool:
    """Whether ``ChannelsLastNorm`` can process ``maps`` [N, C, H, W].

    True if the maps are channels-last without gaps, have several channels and several pixels, and torch.compile is not
    tracing.
    """
    _, channels, height, width = maps.shape
    strides = (height * width * channels, 1, width * channels, channels)
    plain = maps.stride() == strides and channels > 1 and height * width > 1
    return plain and not torch.compiler.is_compiling()


def normalize_groups(norm: nn.BatchNorm2d, maps: Tensor, *, num_groups: int, rectify: bool) -> Tensor:
    """Apply :class:`ChannelsLastNorm` with the parameters of ``norm``; update its running values group by group."""
    result: Tensor
    result, mean, variance, *_ = ChannelsLastNorm.apply(  # type: ignore[no-untyped-call]
        maps, norm.weight, norm.bias, norm.eps, num_groups, rectify
    )
    update_running_values(norm, mean, variance, maps.numel() // mean.numel())
    return result


class ChannelsLastNorm(torch.autograd.Function):
    """Batch normalisation of channels-last maps [N, C, H, W]; each group of images has its own statistics.

    Maps may be in bfloat16. Sums and differences are computed in the dtype of the weight.
    """

    @staticmethod
    def forward(
        maps: Tensor, weight: Tensor, bias: Tensor, eps: float, num_groups: int, rectify: bool
    ) -> tuple[Tensor, ...]:
        """Return the normalised maps, the groups' means and biased variances [G, C], and, if rectified, the maps.

        num_groups: G; a group is N / G consecutive images. rectify: apply ReLU to the maps first, in place.
        """
        groups = _rows(maps, num_groups)
        result = torch.empty_like(maps)
        scratch = [_scratch(groups, weight.dtype) for _ in range(2)]
        moments = [_moments(rows, rectify, scratch) for rows in groups]
        mean, variance = (torch.stack(values) for values in zip(*moments, strict=True))  # float64
        factor = weight * torch.rsqrt(variance + eps)
        shift = (bias - mean * factor).to(weight.dtype)
        factor = factor.to(weight.dtype)
        for index, (rows, out) in enumerate(zip(groups, _rows(result, num_groups), strict=True)):
            for piece, target in _pieces(rows, out):
                torch.addcmul(shift[index], _exact(piece, scratch[0]), factor[index], out=target)
        statistics = mean.to(weight.dtype), variance.to(weight.dtype)
        return (result, *statistics, maps) if rectify else (result, *statistics)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        maps, weight, _, eps, ctx.num_groups, ctx.rectify = inputs
        _, mean, variance = output[:3]
        if ctx.rectify:
            ctx.mark_dirty(maps)
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(maps, weight, mean, torch.rsqrt(variance + eps))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Gradients of maps, weight and bias. If rectified, the maps' gradient is that of the maps before ReLU."""
        if grad is None:
            return (None,) * 6
        maps, weight, mean, scale = ctx.saved_tensors  # [N, C, H, W], [C], [G, C], [G, C]
        grad = grad.contiguous(memory_format=torch.channels_last)
        result = torch.empty_like(maps)
        groups, grads = _rows(maps, ctx.num_groups), _rows(grad, ctx.num_groups)
        scratch = [_scratch(groups, weight.dtype) for _ in range(3)]
        sums = [_gradient_sums(*rows, scratch) for rows in zip(groups, grads, mean, strict=True)]
        grad_bias, grad_weight = (torch.stack(values) for values in zip(*sums, strict=True))  # [G, C], float64
        grad_weight *= scale
        # weight * scale * (grad - mean of grad - (x - mean) * scale * mean of grad * (x - mean) * scale)
        factor, count = weight * scale.double(), groups.shape[1] * groups.shape[2]
        slope = -factor * scale * grad_weight / count
        offset = -factor * grad_bias / count - slope * mean
        parts = (values.to(weight.dtype) for values in (offset, slope, factor))
        for rows, grad_rows, out, *values in zip(groups, grads, _rows(result, ctx.num_groups), *parts, strict=True):
            for piece, grad_piece, target in _pieces(rows, grad_rows, out):
                _input_gradient(piece, grad_piece, target, values, ctx.rectify, scratch)
        sums_of_all = (values.sum(0).to(weight.dtype) for values in (grad_weight, grad_bias))
        return result, *sums_of_all, None, None, None


def _moments(rows: Tensor, rectify: bool, scratch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C], float64, of rows [S, M, C]; ``rectify`` applies ReLU to the rows in place first."""
    origin, sums, squares = None, [], []
    for (piece,) in _pieces(rows):
        if rectify:
            piece.relu_()
        exact = _exact(piece, scratch[0])
        if origin is None:
            origin = exact[0].mean(0)  # near the overall mean, so the squared differences keep their digits
        shifted = torch.sub(exact, origin, out=scratch[1][:, : piece.shape[1]])
        sums.append(shifted.sum(1))
        squares.append(shifted.mul_(shifted).sum(1))
    assert origin is not None
    count = rows.shape[0] * rows.shape[1]
    mean, square = (torch.stack(values).double().sum((0, 1)) / count for values in (sums, squares))
    return mean + origin, square - mean.square()


def _gradient_sums(rows: Tensor, grads: Tensor, mean: Tensor, scratch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Sums [C], float64, of the gradients [S, M, C] and of gradient * (row - mean)."""
    plain, weighted = [], []
    for piece, grad in _pieces(rows, grads):
        exact = _exact(grad, scratch[0])
        centred = torch.sub(_exact(piece, scratch[1]), mean, out=scratch[2][:, : piece.shape[1]])
        plain.append(exact.sum(1))
        weighted.append(centred.mul_(exact).sum(1))
    return torch.stack(plain).double().sum((0, 1)), torch.stack(weighted).double().sum((0, 1))


def _input_gradient(
    piece: Tensor, grad: Tensor, target: Tensor, values: list[Tensor], rectify: bool, scratch: list[Tensor]
) -> None:
    """Set target = offset + slope * piece + factor * grad; 0 where ReLU gave 0. values: offset, slope, factor [C]."""
    offset, slope, factor = values
    exact = _exact(piece, scratch[0])
    result = target if target.dtype == exact.dtype else scratch[1][:, : piece.shape[1]]
    torch.addcmul(offset, exact, slope, out=result).addcmul_(_exact(grad, scratch[2]), factor)
    if rectify:
        torch.ops.aten.threshold_backward.grad_input(result, exact, 0, grad_input=result)
    if result is not target:
        target.copy_(result)


def _rows(maps: Tensor, num_groups: int) -> Tensor:
    """View channels-last maps [N, C, H, W] as [G, S, N * H * W / (G * S), C].

    S: the number of threads if it divides a group's rows, else 1. PyTorch splits the first axis that is not summed over
    among its threads. With the axis S, each thread processes the same images in every pass, sums included.
    """
    rows = maps.permute(0, 2, 3, 1).view(num_groups, -1, maps.shape[1])
    threads = torch.get_num_threads()
    shares = threads if rows.shape[1] % threads == 0 else 1
    return rows.view(num_groups, shares, -1, maps.shape[1])


def _pieces(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors [S, M, C] in the same way into pieces of at most ``_piece_length`` rows of each share."""
    length = _piece_length(rows[0].shape[2])
    return zip(*(torch.split(tensor, length, dim=1) for tensor in rows), strict=True)


def _piece_length(channels: int) -> int:
    """Number of rows that a piece takes from each share."""
    return max(1, PIECE // channels)


def _scratch(groups: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty tensor that holds one piece of any of the groups [G, S, M, C]."""
    length = min(groups.shape[2], _piece_length(groups.shape[3]))
    return groups.new_empty(groups.shape[1], length, groups.shape[3], dtype=dtype)


def _exact(piece: Tensor, scratch: Tensor) -> Tensor:
    """The piece in the dtype of ``scratch``: the piece itself if the dtypes agree, else a copy in ``scratch``."""
    return piece if piece.dtype == scratch.dtype else scratch[:, : piece.shape[1]].copy_(piece)
