"""Batch normalisation by kernels: steps against one call after the other, channels-last maps against float64."""

import copy

import pytest
import torch
from torch import nn

from jepa.kernels import channels_last, step_norm
from jepa.models.decoders import StepNorm2d


def normals(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def norm_with_history(kind, channels):
    norm = kind(channels)
    with torch.no_grad():
        for i, tensor in enumerate((norm.weight, norm.bias, norm.running_mean)):
            tensor.copy_(normals(channels, seed=i))
        norm.running_var.copy_(normals(channels).square())
    return norm


def background(images, channels, side):
    """What a convolution leaves of a dot on a constant background: the case in which sums lose most digits."""
    level = normals(1, channels, 1, 1).abs() + 0.3
    dots = (normals(images, 1, side, side, seed=1) > 1.5).float()
    return (level + 0.2 * dots * normals(images, channels, side, side, seed=2)).relu()


def statistics_and_gradients(norm, maps):
    maps = maps.detach().requires_grad_()
    result = channels_last.normalize(norm, False, maps)
    weights = normals(*maps.shape, seed=5, dtype=torch.float64).to(result.dtype)
    grads = torch.autograd.grad((result * weights).sum(), [maps, *norm.parameters()])
    return [result.detach(), *grads, norm.running_mean, norm.running_var]


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_steps_of_maps_are_successive_calls(memory_format, num_steps, rectify):
    ours = norm_with_history(StepNorm2d, 40)
    theirs = norm_with_history(nn.BatchNorm2d, 40).double()
    x = normals(8 * num_steps, 40, 33, 31).requires_grad_()  # in channels-last, more than one piece to a step
    exact = x.detach().double().requires_grad_()
    maps = x.to(memory_format=memory_format) + 0  # as a convolution's result, not a leaf: ReLU works in place
    together = step_norm.normalize_steps(ours, rectify, True, maps, num_steps)
    steps = (exact.relu() if rectify else exact).chunk(num_steps)
    one_by_one = torch.cat([theirs(step) for step in steps])
    torch.testing.assert_close(together.double(), one_by_one, rtol=1e-5, atol=1e-5)
    for value, reference in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(value.double(), reference.double(), rtol=1e-5, atol=1e-6)
    weights = normals(*x.shape, seed=9)
    for value, reference in zip(
        torch.autograd.grad((together * weights).sum(), [x, *ours.parameters()]),
        torch.autograd.grad((one_by_one * weights).sum(), [exact, *theirs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(value.double(), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("images", "side"), [(400, 14), (61, 7), (33, 13)])
def test_channels_last_maps_keep_their_digits(images, side):
    maps = background(images, 8, side)
    norm = norm_with_history(nn.BatchNorm2d, 8)
    reference = statistics_and_gradients(copy.deepcopy(norm).double(), maps.double())
    ours = statistics_and_gradients(norm, maps.to(memory_format=torch.channels_last))
    assert norm.num_batches_tracked == 1
    for value, exact in zip(ours, reference, strict=True):
        torch.testing.assert_close(value.double(), exact, rtol=0, atol=5e-6 * float(exact.abs().max()))


@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize("threads", [2, 3, 5])  # 5 cannot have equal shares of 8 * 33 * 31 pixels
def test_threads_share_the_maps(threads, monkeypatch):
    monkeypatch.setattr(channels_last, "PIECE", 1000 * 8)  # several pieces to a share, the last one shorter
    maps = background(8, 8, 33)[..., :31]
    norm = norm_with_history(nn.BatchNorm2d, 8)
    reference = statistics_and_gradients(copy.deepcopy(norm).double(), maps.double())
    torch.set_num_threads(threads)
    groups = channels_last._rows(maps.contiguous(memory_format=torch.channels_last), 1)
    assert groups.shape[1] == (1 if threads == 5 else threads)
    ours = statistics_and_gradients(norm, maps.contiguous(memory_format=torch.channels_last))
    for value, exact in zip(ours, reference, strict=True):
        torch.testing.assert_close(value.double(), exact, rtol=0, atol=5e-6 * float(exact.abs().max()))


def test_channels_last_result_stays_channels_last():
    norm = nn.BatchNorm2d(8)
    maps = background(6, 8, 7).to(memory_format=torch.channels_last).requires_grad_()
    result = channels_last.normalize(norm, False, maps)
    assert result.is_contiguous(memory_format=torch.channels_last)
    grad = torch.autograd.grad(result.square().sum(), maps)[0]
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
def test_maps_in_bfloat16(training):
    maps = background(64, 8, 14).to(torch.bfloat16)
    norm = nn.BatchNorm2d(8).train(training)
    reference = copy.deepcopy(norm).double()(maps.double())
    ours = channels_last.normalize(norm, False, maps.to(memory_format=torch.channels_last))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), reference, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 3, 1, 1), (5, 1, 4, 4)])
def test_other_maps_are_left_to_torch(shape):
    norm = norm_with_history(nn.BatchNorm2d, shape[1])
    theirs = copy.deepcopy(norm)
    maps = normals(*shape)
    torch.testing.assert_close(channels_last.normalize(norm, False, maps), theirs(maps), rtol=0, atol=0)
    torch.testing.assert_close(dict(norm.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
