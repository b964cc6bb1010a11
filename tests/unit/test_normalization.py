"""Batch normalisation: many steps against one call after the other, channels-last maps against double precision."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from jepa.models import channels_last_norm
from jepa.models.normalization import normalize_maps, normalize_step_maps, normalize_steps


def normals(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def norm_with_history(kind, channels):
    norm = kind(channels)
    with torch.no_grad():
        for i, tensor in enumerate((norm.weight, norm.bias, norm.running_mean)):
            tensor.copy_(normals(channels, seed=i))
        norm.running_var.copy_(normals(channels).square())
    return norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, (4, 6, 3)), (nn.BatchNorm2d, (4, 6, 3, 5, 5))])
def test_steps_are_successive_calls(kind, shape, training):
    ours = norm_with_history(kind, 3).train(training)
    theirs = copy.deepcopy(ours)
    x = normals(*shape).requires_grad_()
    together = normalize_steps(ours, x)
    one_by_one = torch.stack([theirs(step) for step in x])
    torch.testing.assert_close(together, one_by_one)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()))
    weights = normals(*shape, seed=9)
    for value, reference in zip(
        torch.autograd.grad((together * weights).sum(), [x, *ours.parameters()]),
        torch.autograd.grad((one_by_one * weights).sum(), [x, *theirs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-5)


def test_steps_of_packed_jobs():
    jobs = [norm_with_history(nn.BatchNorm1d, 3) for _ in range(2)]
    params, buffers = stack_module_state(jobs)
    x = normals(2, 4, 6, 3)

    def call(job_params, job_buffers, job_x):
        return functional_call(_Steps(jobs[0]), {**_inner(job_params), **_inner(job_buffers)}, (job_x,))

    together = vmap(call)(params, buffers, x)
    for j, job in enumerate(jobs):
        torch.testing.assert_close(together[j], normalize_steps(job, x[j]))
        for name, value in job.named_buffers():
            torch.testing.assert_close(buffers[name][j], value)


class _Steps(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return normalize_steps(self.norm, x)


def _inner(tensors):
    return {f"norm.{name}": value for name, value in tensors.items()}


def background(images, channels, side):
    """What a convolution leaves of a dot on a constant background: the case in which sums lose most digits."""
    level = normals(1, channels, 1, 1).abs() + 0.3
    dots = (normals(images, 1, side, side, seed=1) > 1.5).float()
    return (level + 0.2 * dots * normals(images, channels, side, side, seed=2)).relu()


def statistics_and_gradients(norm, maps):
    maps = maps.detach().requires_grad_()
    result = normalize_maps(norm, maps)
    weights = normals(*maps.shape, seed=5, dtype=torch.float64).to(result.dtype)
    grads = torch.autograd.grad((result * weights).sum(), [maps, *norm.parameters()])
    return [result.detach(), *grads, norm.running_mean, norm.running_var]


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_steps_of_maps_are_successive_calls(memory_format, num_steps, rectify):
    ours = norm_with_history(nn.BatchNorm2d, 40)
    theirs = copy.deepcopy(ours).double()
    x = normals(8 * num_steps, 40, 33, 31).requires_grad_()  # in channels-last, more than one piece to a step
    exact = x.detach().double().requires_grad_()
    maps = x.to(memory_format=memory_format) + 0  # as a convolution's result, not a leaf: ReLU works in place
    together = (
        normalize_maps(ours, maps, rectify=rectify)
        if num_steps == 1
        else normalize_step_maps(ours, maps, num_steps, rectify=rectify)
    )
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
    monkeypatch.setattr(channels_last_norm, "PIECE", 1000 * 8)  # several pieces to a share, the last one shorter
    maps = background(8, 8, 33)[..., :31]
    norm = norm_with_history(nn.BatchNorm2d, 8)
    reference = statistics_and_gradients(copy.deepcopy(norm).double(), maps.double())
    torch.set_num_threads(threads)
    groups = channels_last_norm._rows(maps.contiguous(memory_format=torch.channels_last), 1)
    assert groups.shape[1] == (1 if threads == 5 else threads)
    ours = statistics_and_gradients(norm, maps.contiguous(memory_format=torch.channels_last))
    for value, exact in zip(ours, reference, strict=True):
        torch.testing.assert_close(value.double(), exact, rtol=0, atol=5e-6 * float(exact.abs().max()))


def test_channels_last_result_stays_channels_last():
    norm = nn.BatchNorm2d(8)
    maps = background(6, 8, 7).to(memory_format=torch.channels_last).requires_grad_()
    result = normalize_maps(norm, maps)
    assert result.is_contiguous(memory_format=torch.channels_last)
    grad = torch.autograd.grad(result.square().sum(), maps)[0]
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
def test_maps_in_bfloat16(training):
    maps = background(64, 8, 14).to(torch.bfloat16)
    norm = nn.BatchNorm2d(8).train(training)
    reference = copy.deepcopy(norm).double()(maps.double())
    ours = normalize_maps(norm, maps.to(memory_format=torch.channels_last))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), reference, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 3, 1, 1), (5, 1, 4, 4)])
def test_other_maps_are_left_to_torch(shape):
    norm = norm_with_history(nn.BatchNorm2d, shape[1])
    theirs = copy.deepcopy(norm)
    maps = normals(*shape)
    torch.testing.assert_close(normalize_maps(norm, maps), theirs(maps), rtol=0, atol=0)
    torch.testing.assert_close(dict(norm.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
