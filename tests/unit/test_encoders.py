"""Encoders: sizes, names, BatchNorm over all frames, packed jobs, errors."""

from functools import partial

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from jepa.errors import ConfigError
from jepa.models.encoders import LeNet5, MeNet5, MLPEncoder, Pixels, ResNet18

SMALL = {
    "menet5": partial(MeNet5, width_factor=1, embedding_size=6, mlp=""),
    "resnet18": partial(ResNet18, base_width=4, mlp=None),
    "lenet5": partial(LeNet5, embedding_size=6, mlp=""),
    "mlp": partial(MLPEncoder, embedding_size=6, mlp=""),
    "pixels": partial(Pixels, mlp=""),
}
SIZES = {"menet5": 6, "resnet18": 32, "lenet5": 6, "mlp": 6, "pixels": 28 * 28}


def build(name, in_channels=1, image_size=28, **changes):
    torch.manual_seed(0)
    return SMALL[name](in_channels=in_channels, image_size=image_size, **changes)


def frames(count=5, channels=1, size=28, seed=0):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_sizes_and_gradients(name, channels):
    encoder = build(name, in_channels=channels)
    encodings = encoder(frames(channels=channels))
    assert encodings.shape == (5, encoder.embedding_size) == (5, SIZES[name] * (channels if name == "pixels" else 1))
    if name != "pixels":
        encodings.square().sum().backward()
        assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_an_mlp_on_top_decides_the_size(name):
    encoder = build(name, mlp="9-7")
    assert encoder(frames()).shape == (5, encoder.embedding_size) == (5, 7)
    *hidden, last = (layer for layer in encoder.mlp.model if isinstance(layer, torch.nn.Linear))
    assert [layer.out_features for layer in hidden] == [9] and hidden[0].bias is not None
    assert last.bias is None


def test_a_single_width_is_one_linear_even_as_a_number():
    encoder = build("menet5", mlp=12)  # model.encoder.mlp=12 on the command line is a number
    assert encoder.embedding_size == 12
    assert list(encoder.mlp.state_dict()) == ["model.0.weight"]


def test_menet5_is_the_sequence_of_its_layers():
    encoder = build("menet5")
    by_hand = encoder.fc(encoder.layer1(frames()).reshape(5, -1))
    torch.testing.assert_close(encoder(frames()), by_hand, rtol=1e-4, atol=1e-5)
    names = {f"layer1.{i}.{kind}" for i in (0, 2, 3, 5, 6, 8) for kind in ("weight", "bias")} | {"fc.weight", "fc.bias"}
    assert {name for name, _ in encoder.named_parameters()} == names


@pytest.mark.parametrize(("width", "size"), [(1, 2), (10, 64)])
def test_menet5_width_and_bottleneck(width, size):
    encoder = build("menet5", width_factor=width, embedding_size=size)
    assert encoder.layer1[0].out_channels == 16 * width and encoder.layer1[6].out_channels == 32 * width
    assert encoder.fc.weight.shape == (size, 9 * 32 * width)


def test_lenet5_is_the_sequence_of_its_layers():
    encoder = build("lenet5")
    maps = encoder.layer2(encoder.layer1(frames())).reshape(5, -1)
    assert maps.shape[1] == 256
    torch.testing.assert_close(encoder(frames()), encoder.fc1(encoder.fc(maps).relu()), rtol=1e-4, atol=1e-5)


def test_resnet18_has_eighteen_layers_on_maps_of_28_14_7_4():
    encoder = build("resnet18")
    convolutions = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) == 17  # and, in the place of its last Linear, the head that follows
    maps = encoder.conv1(frames())
    sides = [maps.shape[-1]]
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        maps = stage(maps)
        sides.append(maps.shape[-1])
    assert sides == [28, 28, 14, 7, 4]


def test_resnet18_block_adds_its_shortcut():
    block = build("resnet18").layer2[0]
    maps = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    inner = block.bn2(block.conv2(block.bn1(block.conv1(maps)).relu()))
    shortcut = block.downsample(maps[..., ::2, ::2])
    torch.testing.assert_close(block(maps), (inner + shortcut).relu(), rtol=1e-4, atol=1e-5)


def test_pixels_are_the_frames():
    torch.testing.assert_close(build("pixels")(frames()), frames().reshape(5, -1), rtol=0, atol=0)


def test_statistics_are_those_of_all_frames():
    encoder = build("menet5")
    encoder(frames(4))
    first = encoder.layer1[0](frames(4)).relu()
    torch.testing.assert_close(encoder.layer1[2].running_mean, 0.1 * first.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(encoder.layer1[2].running_var, 0.9 + 0.1 * first.transpose(0, 1).flatten(1).var(dim=1))


@pytest.mark.parametrize("name", ["menet5", "resnet18", "lenet5"])
def test_evaluation_uses_running_statistics(name):
    encoder = build(name)
    for _ in range(3):
        encoder(frames(8))
    encoder.eval()
    torch.testing.assert_close(encoder(frames(8))[:2], encoder(frames(8)[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["menet5", "resnet18", "lenet5", "mlp"])
def test_packed_jobs_are_the_jobs_alone(name):
    jobs = [SMALL[name](in_channels=1, image_size=28, mlp="5-4").double() for _ in range(3)]
    params, buffers = stack_module_state(jobs)
    x = torch.stack([frames(seed=job).double() for job in range(3)])

    def encode(job_params, job_buffers, job_frames):
        return functional_call(jobs[0], (job_params, job_buffers), (job_frames,))

    together = vmap(encode)(params, buffers, x)
    grads = torch.autograd.grad(together.square().sum(), list(params.values()))
    for j, job in enumerate(jobs):
        alone = job(x[j])
        torch.testing.assert_close(together[j], alone)
        for stacked, single in zip(
            grads, torch.autograd.grad(alone.square().sum(), list(job.parameters())), strict=True
        ):
            torch.testing.assert_close(stacked[j], single, rtol=1e-6, atol=1e-9)
        for key, value in job.named_buffers():
            torch.testing.assert_close(buffers[key][j], value)


def test_bfloat16_is_close():
    encoder = build("menet5")
    exact = encoder(frames(32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = encoder(frames(32))
    assert (reduced - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("menet5", {"embedding_size": 0}, r"model\.encoder\.embedding_size=0"),
        ("menet5", {"embedding_size": 2.5}, r"model\.encoder\.embedding_size=2\.5"),
        ("menet5", {"width_factor": -1}, r"model\.encoder\.width_factor=-1"),
        ("menet5", {"mlp": "12-x"}, r"model\.encoder\.mlp='12-x': must be widths"),
        ("menet5", {"image_size": 4}, r"model/encoder=menet5: images of 4 pixels"),
        ("lenet5", {"image_size": 12}, r"model/encoder=lenet5: images of 12 pixels"),
        ("lenet5", {"embedding_size": True}, r"model\.encoder\.embedding_size=True"),
        ("mlp", {"embedding_size": 0}, r"model\.encoder\.embedding_size=0"),
        ("resnet18", {"base_width": 0}, r"model\.encoder\.base_width=0"),
        ("pixels", {"mlp": "0"}, r"model\.encoder\.mlp='0'"),
    ],
)
def test_errors_name_the_key(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(name, **changes)
