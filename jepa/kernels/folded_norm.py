"""Convolution, ReLU and batch normalisation, each normalisation folded into the layer that follows it, on a CPU.

Normalising a channel is (x - mean) * factor + shift, and what follows is linear: the factor goes into its kernel, the
rest into an offset for each of its output pixels (fewer of a kernel's taps lie inside the maps at the border than in
the middle). So a map is written once by its convolution, read and rectified once for its moments, and never written
normalised; and the sums that the backward pass of a normalisation needs come out of the kernel's own gradient. The same
mathematics as layer by layer, in an order that rounds differently: a mean is taken off after the convolution. For the
digits to last, a channel is kept less a value near its mean; those of bfloat16 would not.
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

# Normalisations are folded from this many elements of the first maps on. Smaller maps have little time to save, and
# keep the original's order of operations, whose rounding fills half of the golden arrays' tolerance.
FOLDED_FROM = 1 << 20


def install(module: nn.Module, setting: Setting) -> bool:
    """Replace the features of a :class:`MeNet5`; returns whether ``module`` is one, in full precision on a CPU."""
    if setting.device.type != "cpu" or setting.precision == "bf16" or setting.batched or type(module) is not MeNet5:
        return False
    replace(module, "features", features)
    return True


def features(encoder: MeNet5, frames: Tensor) -> Tensor:
    """What ``encoder.features(frames)`` gives. frames: [N, C, H, W]; returns [N, features_size]."""
    *layers, pool = encoder.layer1
    first = layers[0]
    assert isinstance(first, nn.Conv2d)
    num_first = len(frames) * first.out_channels * frames.shape[2] * frames.shape[3] // 4
    if not encoder.training or num_first < FOLDED_FROM or torch.compiler.is_compiling():
        return unfolded_features(encoder, frames)
    maps, pending = folded_layers(layers, channels_last(frames))
    return folded_linear(encoder.fc, pool(maps), pending)  # pooling and normalising: either may come first


class Normalization(NamedTuple):
    """What is still to be done to maps [N, C, H, W]: (maps - mean) * factor + shift. [C] each."""

    mean: Tensor
    factor: Tensor
    shift: Tensor


def folded_layers(layers: Sequence[nn.Module], maps: Tensor) -> tuple[Tensor, Normalization]:
    """Convolution, ReLU and BatchNorm2d in training, any number of times, up to the last normalisation.

    Args:
        layers: the three of each time; no convolution has groups, or is padded but with zeros.
        maps: [N, C, H, W], channels-last.

    Returns:
        The last rectified maps [N, O, H', W'], each channel less some value, and the normalisation that they lack.
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
    """linear(normalised maps, flattened as [C, H, W]), for maps [N, C, H, W] in channels-last order."""
    weight = linear.weight.view(linear.out_features, maps.shape[1], -1)  # [D, C, H * W]
    kernel, constant = _fold(weight, pending)
    # Its columns in the maps' own order: cheaper than the maps, and their gradients, in the order of the weight.
    columns = kernel.transpose(1, 2).flatten(1)
    return F.linear(maps.permute(0, 2, 3, 1).flatten(1), columns, linear.bias + constant.sum((1, 2)))


def _folded_kernel(convolution: nn.Conv2d, maps: Tensor, pending: Normalization | None) -> tuple[Tensor, Tensor]:
    """Kernel [O, C, h, w] and offsets [H' * W', O] with which maps that lack a normalisation are to be convolved."""
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None
    inside = _taps_inside(convolution, maps)  # [h * w, H' * W']
    if pending is None:
        return weight, bias.expand(inside.shape[1], -1)
    kernel, constant = _fold(weight.flatten(2), pending)
    return kernel.view_as(weight), inside.mT @ constant.sum(1).mT + bias


def _fold(weight: Tensor, pending: Normalization) -> tuple[Tensor, Tensor]:
    """The weight [O, C, K] for maps as they are, and what each of its elements then adds whatever they are."""
    kernel = weight * pending.factor[:, None]
    return kernel, weight * pending.shift[:, None] - kernel * pending.mean[:, None]


def _taps_inside(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """[h * w, H' * W']: 1 where a tap of the kernel reads a pixel for this output pixel, 0 in the padding."""
    ones = convolution.weight.new_ones(1, 1, *maps.shape[2:])
    padding: Any = convolution.padding
    return F.unfold(ones, convolution.kernel_size, padding=padding, stride=convolution.stride)[0]


class _RectifiedMoments(torch.autograd.Function):
    """relu(maps + offset) - origin, in place, with its mean and variance, piece by piece of what a core's cache holds.

    The origin of a channel is its mean in the first image: the moments of what is left lose no digits to it.
    """

    @staticmethod
    def forward(maps: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """maps: [N, C, H, W], channels-last; offset: [H * W, C]. Returns the maps, mean, biased variance, origin."""
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
        ctx.mark_non_differentiable(origin)  # what follows takes the mean off: the result is the same for any origin
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
    """maps [N, C, H, W], channels-last, as [S, N / S, H * W, C]; S: a share of the images for each thread, if even."""
    num_images, channels, height, width = maps.shape
    threads = torch.get_num_threads()
    shares = threads if num_images % threads == 0 else 1
    return maps.permute(0, 2, 3, 1).view(shares, -1, height * width, channels)


def _pieces(images: Tensor) -> tuple[Tensor, ...]:
    """Images [S, N / S, P, C] cut into pieces of a few images of each share."""
    return torch.split(images, max(1, PIECE // (images.shape[2] * images.shape[3])), dim=1)
