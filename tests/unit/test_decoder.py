"""The decoder against one written plainly: upsample, convolve, normalise, one time step after the other."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from jepa.errors import ConfigError
from jepa.kernels import install, upsampled_conv
from jepa.kernels.setting import Setting
from jepa.models.decoders import Decoder, UpsampledConv, bilinear_matrix

STEPS, BATCH, FEATURES = 3, 4, 7


@pytest.fixture(params=[True, False], ids=["kernels", "plain"])
def kernels(request):
    """Whether the decoder's kernels are in place."""
    return request.param


def decoder(kernels, seed=0, channels=1, image_size=28, batched=False, dtype=torch.float64):
    torch.manual_seed(seed)
    made = Decoder(input_size=FEATURES, channels=channels, image_size=image_size, width_factor=1).to(dtype)
    if kernels:
        installed = install(made, device=torch.device("cpu"), precision="fp32", batched=batched)
        assert installed == ["decoder"]
    made.resize = bilinear_matrix(54, image_size).to(dtype)
    for norm in (made.layers[2], made.layers[5]):
        nn.init.normal_(norm.weight, 1.0, 0.2)
        nn.init.normal_(norm.bias)
    return made


def features(seed=1, *leading):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*leading, STEPS, BATCH, FEATURES, generator=source, dtype=torch.float64)


def normalized(norm, maps):
    return nn.BatchNorm2d.forward(norm, maps)


def plain_step(made, rows, image_size):
    """The decoder for one time step's features [B, F], with the modules of ``made``."""
    maps = F.relu(made.fc(rows)).reshape(len(rows), -1, 3, 3)
    for layer, scale, kernel in ((0, 2, 3), (3, 3, 5), (6, 3, 5)):
        maps = maps.repeat_interleave(scale, dim=-1).repeat_interleave(scale, dim=-2)
        maps = F.conv2d(maps, made.layers[layer].conv.weight, padding=kernel // 2)
        if layer < 6:
            maps = normalized(made.layers[layer + 2], F.relu(maps))
    return F.interpolate(maps, size=(image_size, image_size), mode="bilinear", align_corners=False)


def plain(made, given, image_size=28):
    return torch.stack([plain_step(made, rows, image_size) for rows in given])


def assert_same_gradients(ours, theirs):
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_gradients_and_running_values(kernels, channels):
    ours, given = decoder(kernels, channels=channels), features()
    theirs = decoder(False, channels=channels)
    inputs = [given.clone().requires_grad_() for _ in range(2)]
    images, expected = ours(inputs[0]), plain(theirs, inputs[1])
    assert images.shape == (STEPS, BATCH, channels, 28, 28)
    torch.testing.assert_close(images, expected, rtol=1e-10, atol=1e-12)
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=images.dtype)
    (images * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_same_gradients(ours, theirs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-9, atol=1e-11)
    for (name, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")
    assert ours.layers[2].num_batches_tracked == STEPS


def test_evaluation_uses_running_values(kernels):
    made = decoder(kernels)
    with torch.no_grad():
        made(features())
        made.eval()
        before = copy.deepcopy(made.state_dict())
        images = made(features(3))
        torch.testing.assert_close(images, plain(made, features(3)), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_other_image_sizes(kernels):
    made = decoder(kernels, image_size=20).eval()
    with torch.no_grad():
        torch.testing.assert_close(made(features()), plain(made, features(), image_size=20), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kernel_size", "scale"), [(3, 2), (5, 2), (3, 3), (5, 3), (7, 3), (5, 4)])
@pytest.mark.parametrize("channels", [1, 9])
def test_upsampled_convolution(kernel_size, scale, channels):
    torch.manual_seed(0)
    layer = UpsampledConv(in_channels=3, out_channels=channels, kernel_size=kernel_size, scale=scale).double()
    upsampled_conv.install(layer, Setting(torch.device("cpu"), "fp32", batched=False))
    maps = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    upsampled = maps.repeat_interleave(scale, dim=-1).repeat_interleave(scale, dim=-2)
    expected = F.conv2d(upsampled, layer.conv.weight, padding=kernel_size // 2)
    ours = layer(maps)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-13)
    weights = torch.randn_like(ours)
    inputs = (maps, layer.conv.weight)
    for a, b in zip(*(torch.autograd.grad((out * weights).sum(), inputs) for out in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_packed_decoders_are_separate_decoders(kernels):
    made, given = [decoder(kernels, seed, batched=True) for seed in range(3)], features(1, 3)
    parameters, buffers = stack_module_state(made)

    def call(state, rows):
        return functional_call(made[0], state, (rows,))

    images = vmap(call)({**parameters, **buffers}, given)
    images.square().sum().backward()
    for job, module in enumerate(made):
        expected = module(given[job])
        torch.testing.assert_close(images[job], expected, rtol=1e-10, atol=1e-12)
        expected.square().sum().backward()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(parameters[name].grad[job], parameter.grad, rtol=1e-8, atol=1e-9)
        for name, buffer in module.named_buffers():
            torch.testing.assert_close(buffers[name][job], buffer, rtol=1e-10, atol=1e-12)


def test_bf16_autocast(kernels):
    made, given = decoder(kernels, dtype=torch.float32), features().float()
    exact = decoder(False, dtype=torch.float32)(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = made(given)
    images.float().sum().backward()
    assert (images - exact).abs().max() < 0.05 * exact.abs().max()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


def test_a_constant_background_keeps_its_statistics(kernels):
    """Maps that are nearly the same everywhere: sums over many pixels must not lose the little that differs."""
    made = decoder(kernels, dtype=torch.float32)
    exact = decoder(False)
    exact.load_state_dict(made.state_dict())
    given = 1.0 + 1e-3 * torch.randn(2, 64, FEATURES, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made(given)
        exact(given.double())
    for (name, a), b in zip(made.named_buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(
            a.double(), b.double(), rtol=2e-3, atol=1e-6, msg=lambda t, name=name: f"{name}: {t}"
        )


def test_width_is_checked():
    with pytest.raises(ConfigError, match="model.decoder.width_factor"):
        Decoder(input_size=4, channels=1, image_size=28, width_factor=0)
