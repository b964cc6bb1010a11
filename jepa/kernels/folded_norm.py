"""Convolution, ReLU and batch normalisation on a CPU, with each normalisation folded into the next linear layer.

Normalisation computes (x - mean) * factor + shift for each channel. The next layer is linear, so the factor multiplies
its kernel, and mean and shift become an offset for each output pixel. The offset depends on the pixel, because fewer
taps of the kernel lie inside the maps at the border.

This saves passes over memory. The convolution writes each map once. One more pass applies ReLU and computes mean and
variance. The normalised map is never written. The backward pass obtains the sums it needs from the kernel's gradient.

The mathematics is that of separate layers, but the rounding differs: the mean is subtracted after the convolution. To
keep the digits, each channel is stored minus a value near its mean. In bfloat16 the digits would be lost all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.kernels.channels_last import PIECE
from jepa.kernels.channels_last import features as unfolded_features
from jepa.kernels.setting import Setting, channels_last, replace, update_running_values
from jepa.models.encoders import MeNet5

# Fold normalisations if the first maps have at least this many elements. Smaller maps save little time. They keep the
# original's order of operations, because its rounding already uses half of the golden arrays' tolerance.
FOLDED_FROM = 1 << 20


def install(module: nn.Module, setting: Setting) -> bool:
    """Replace ``features`` of a :class:`MeNet5` on a CPU, outside bf16 and packs; returns whether ``module`` suits."""
    if setting.device.type != "cpu" or setting.precision == "bf16" or setting.batched or type(module) is not MeNet5:
        return False
    replace(module, "features", features)
    return True


def features(encoder: MeNet5, frames: Tensor) -> Tensor:
    """Compute ``encoder.features(frames)``. frames: [N, C, H, W]; returns [N, features_size]."""
    *layers, pool = encoder.layer1
    first = layers[0]
    assert isinstance(first, nn.Conv2d)
    num_first = len(frames) * first.out_channels * frames.shape[2] * frames.shape[3] // 4
    if not encoder.training or num_first < FOLDED_FROM or torch.compiler.is_compiling():
        return unfolded_features(encoder, frames)
    maps, pending = folded_layers(layers, channels_last(frames))
    return folded_linear(encoder.fc, pool(maps), pending)  # pooling and normalisation commute


class Normalization(NamedTuple):
    """A normalisation not yet applied to maps [N, C, H, W]: (maps - mean) * factor + shift. Each field: [C]."""

    mean: Tensor
    factor: Tensor
    shift: Tensor


def folded_layers(layers: Sequence[nn.Module], maps: Tensor) -> tuple[Tensor, Normalization]:
    """Apply repeated convolution, ReLU and BatchNorm2d in training mode, except for the last normalisation.

    Args:
        layers: convolution, ReLU, norm, convolution, …; no convolution has groups; padding is by zeros.
        maps: [N, C, H, W], channels-last.

    Returns:
        The last maps after ReLU [N, O, H', W'], minus a constant for each channel; and the normalisation to apply.
    """
    pending: Normalization | None = None
    for convolution, norm in zip(layers[0::3], layers[2::3], strict=True):
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        kernel, offset = _folded_kernel(convolution, maps, pending)
        maps = F.conv2d(maps, kernel, None, convolution.stride, convolution.padding)
        maps, mean, variance, origin = _RectifiedMoments.apply(maps, offset)  # type: ignore[no-untyped-call]
        moments = ((mean + origin).detach()[None], variance.detach()[None])
        update_running_values(norm, *moments, maps.numel() // mean.numel())
        pending = Normalization(mean, norm.weight * torch.rsqrt(variance + norm.eps), norm.bias)
    assert pending is not None
    return maps, pending


def folded_linear(linear: nn.Linear, maps: Tensor, pending: Normalization) -> Tensor:
    """Apply ``linear`` to the normalised maps, flattened as [C, H, W]. maps: [N, C, H, W], channels-last."""
    weight = linear.weight.view(linear.out_features, maps.shape[1], -1)  # [D, C, H * W]
    kernel, constant = _fold(weight, pending)
    # Reorder the kernel's columns to the maps' memory order. Copying the maps and their gradients would cost more.
    columns = kernel.transpose(1, 2).flatten(1)
    return F.linear(maps.permute(0, 2, 3, 1).flatten(1), columns, linear.bias + constant.sum((1, 2)))


def _folded_kernel(convolution: nn.Conv2d, maps: Tensor, pending: Normalization | None) -> tuple[Tensor, Tensor]:
    """Kernel [O, C, h, w] and offsets [H' * W', O] that convolve the maps and apply the pending normalisation."""
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None
    inside = _taps_inside(convolution, maps)  # [h * w, H' * W']
    if pending is None:
        return weight, bias.expand(inside.shape[1], -1)
    kernel, constant = _fold(weight.flatten(2), pending)
    return kernel.view_as(weight), inside.mT @ constant.sum(1).mT + bias


def _fold(weight: Tensor, pending: Normalization) -> tuple[Tensor, Tensor]:
    """Fold ``pending`` into ``weight`` [O, C, K]: the weight for unnormalised maps, and each element's constant."""
    kernel = weight * pending.factor[:, None]
    return kernel, weight * pending.shift[:, None] - kernel * pending.mean[:, None]


def _taps_inside(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """[h * w, H' * W']: 1 where the tap reads a pixel for this output pixel, 0 where the tap reads padding."""
    ones = convolution.weight.new_ones(1, 1, *maps.shape[2:])
    padding: Any = convolution.padding
    return F.unfold(ones, convolution.kernel_size, padding=padding, stride=convolution.stride)[0]


class _RectifiedMoments(torch.autograd.Function):
    """Compute relu(maps + offset) - origin in place, with its mean and variance, in pieces that fit a core's cache.

    The origin of a channel is its mean in the first image. Subtracting it keeps the digits of mean and variance.
    """

    @staticmethod
    def forward(maps: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """maps: [N, C, H, W], channels-last; offset: [H * W, C]. Return the maps, mean, biased variance, origin."""
        images = _images(maps)
        origin = torch.add(images[0, 0], offset).relu_().mean(0)
        offset = offset - origin
        scratch = torch.empty_like(_pieces(images)[0])
        sums, squares = [], []
        for piece in _pieces(images):
            torch.maximum(piece.add_(offset), -origin, out=piece)
            sums.append(piece.sum((1, 2)))
            squares.append(torch.mul(piece, piece, out=scratch[:, : piece.shape[1]]).sum((1, 2)))
        count = images[..., 0].numel()
        mean, square = (torch.stack(values).double().sum((0, 1)) / count for values in (sums, squares))
        return maps, mean.to(maps.dtype), (square - mean.square()).to(maps.dtype), origin

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        maps, mean, _, origin = output
        ctx.mark_dirty(inputs[0])
        ctx.mark_non_differentiable(origin)  # the mean is subtracted later, so any origin gives the same result
        ctx.save_for_backward(maps, mean, origin)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad: Tensor, grad_mean: Tensor, grad_variance: Tensor, grad_origin: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of maps [N, C, H, W] and offset [H * W, C]."""
        maps, mean, origin = ctx.saved_tensors
        slope = grad_variance * (2 * mean.numel() / maps.numel())
        level = grad_mean * (mean.numel() / maps.numel()) - slope * mean
        result = torch.empty_like(maps)
        grad = grad.contiguous(memory_format=torch.channels_last)
        pieces = [_pieces(_images(one)) for one in (maps, grad, result)]
        scratch = torch.empty_like(pieces[0][0])
        offsets = []
        for piece, grad_piece, target in zip(*pieces, strict=True):
            torch.addcmul(level, piece, slope, out=target).add_(grad_piece)
            rectified = torch.add(piece, origin, out=scratch[:, : piece.shape[1]])
            torch.ops.aten.threshold_backward.grad_input(target, rectified, 0, grad_input=target)
            offsets.append(target.sum((0, 1)))
        return result, torch.stack(offsets).sum(0)


def _images(maps: Tensor) -> Tensor:
    """View channels-last maps [N, C, H, W] as [S, N / S, H * W, C]. S: number of threads if it divides N, else 1."""
    num_images, channels, height, width = maps.shape
    threads = torch.get_num_threads()
    shares = threads if num_images % threads == 0 else 1
    return maps.permute(0, 2, 3, 1).view(shares, -1, height * width, channels)


def _pieces(images: Tensor) -> tuple[Tensor, ...]:
    """Split images [S, N / S, P, C] into pieces of a few images of each share."""
    return torch.split(images, max(1, PIECE // (images.shape[2] * images.shape[3])), dim=1)
