"""Each kernel against the plain code that it stands for, at the sizes of a default run; what install puts in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from method_samples import vicreg_terms
from torch import Tensor, nn

from jepa.kernels import KERNELS, install
from jepa.methods.base import Method
from jepa.methods.joint_embedding import JointEmbedding
from jepa.methods.rssm import RSSM
from jepa.models.decoders import Decoder
from jepa.models.encoders import LeNet5, MeNet5, MLPEncoder, ResNet18
from jepa.models.gru import GRU
from jepa.models.predictors import RNN
from jepa.types import DataShapes

T, B, D = 17, 32, 512
CPU = torch.device("cpu")
SHAPES = DataShapes(num_steps=T, channels=1, image_size=28, num_dots=1, action_size=2)


class Filter(nn.Module):
    """The filter of an RSSM whose encoder and decoder have no part in it."""

    def __init__(self) -> None:
        super().__init__()
        encoder = partial(MLPEncoder, embedding_size=D, mlp="")
        decoder = partial(Decoder, width_factor=1)
        self.method = RSSM(
            shapes=SHAPES, encoder=encoder, decoder=decoder, min_var=0.1, free_nats=3.0, reparameterize=False
        )
        del self.method.encoder, self.method.decoder

    def forward(self, encodings: Tensor, actions: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
        beliefs, posterior = self.method.filter(encodings, actions, sample.detach(), noise)
        return torch.stack([beliefs, *posterior])


MENET5 = partial(MeNet5, in_channels=1, image_size=28, width_factor=2, embedding_size=D, mlp="")
RESNET18 = partial(ResNet18, in_channels=3, image_size=28, base_width=4, mlp=None)
LENET5 = partial(LeNet5, in_channels=1, image_size=28, embedding_size=16, mlp="")
DECODER = partial(Decoder, input_size=2 * D, channels=1, image_size=28, width_factor=2)
FRAMES = (T * B, 1, 28, 28)
# name: the kernel, the plain module, shapes of its inputs
PARTS: dict[str, tuple[str, Callable[[], nn.Module], list[tuple[int, ...]]]] = {
    "encoder": ("channels_last", MENET5, [FRAMES]),
    "encoder, folded": ("folded_norm", MENET5, [FRAMES]),
    "resnet18": ("channels_last", RESNET18, [(B, 3, 28, 28)]),
    "lenet5": ("channels_last", LENET5, [FRAMES]),
    "decoder": ("decoder", DECODER, [(T, 8, 2 * D)]),
    "gru": ("recurrence", partial(GRU, input_size=2, hidden_size=D, num_layers=1), [(T - 1, B, 2), (1, B, D)]),
    "filter": ("filtering", Filter, [(T, B, D), (T - 1, B, 2), (B, D), (T - 1, B, D)]),
}


def built(part: str) -> nn.Module:
    torch.manual_seed(0)
    module = PARTS[part][1]()
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.normal_(1.0, 0.2)
                norm.bias.normal_(0.0, 0.2)
    return module


def results(module: nn.Module, inputs: list[Tensor]) -> dict[str, Tensor]:
    """The output, the gradients of every input and parameter, and the buffers after the call."""
    leaves = {f"input {index}": value.detach().requires_grad_() for index, value in enumerate(inputs)}
    output = module(*leaves.values())
    output = output[0] if isinstance(output, tuple) else output
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    leaves |= dict(module.named_parameters())
    grads = torch.autograd.grad((output * weights).sum(), list(leaves.values()), allow_unused=True)
    found = {name: grad for name, grad in zip(leaves, grads, strict=True) if grad is not None}
    return {"output": output.detach(), **found, **{f"buffer {name}": value for name, value in module.named_buffers()}}


def distance(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-30))


@pytest.mark.parametrize("part", PARTS)
def test_a_kernel_is_its_plain_equivalent(part: str) -> None:
    """In single precision it is as near to the plain code in double precision as the plain code itself is."""
    kernel, _, shapes = PARTS[part]
    source = torch.Generator().manual_seed(1)
    inputs = [torch.randn(shape, generator=source) for shape in shapes]
    exact = results(built(part).double(), [value.double() for value in inputs])
    plain = results(built(part), inputs)
    module = built(part)
    assert install(module, device=CPU, precision="fp32", only=[kernel]) == [kernel]
    ours = results(module, inputs)
    assert list(ours) == list(exact)
    for name, value in exact.items():
        error, theirs = distance(ours[name], value), distance(plain[name], value)
        assert error < max(3e-6, 3 * theirs), f"{name}: {error:.1e}, plain {theirs:.1e}"


def vicreg() -> Method:
    torch.manual_seed(0)
    encoder = partial(MeNet5, width_factor=1, embedding_size=8, mlp="")
    terms = vicreg_terms(sim=1.0, std=1.0, cov=1.0)
    return JointEmbedding(shapes=SHAPES, encoder=encoder, predictor=partial(RNN, num_layers=1), terms=terms)


def rssm(reparameterize: bool = False) -> Method:
    torch.manual_seed(0)
    return RSSM(
        shapes=SHAPES,
        encoder=partial(MeNet5, width_factor=1, embedding_size=8, mlp=""),
        decoder=partial(Decoder, width_factor=1),
        min_var=0.1,
        free_nats=3.0,
        reparameterize=reparameterize,
    )


@pytest.mark.parametrize(
    ("method", "setting", "names"),
    [
        (vicreg, {}, ["channels_last", "folded_norm", "recurrence"]),
        (vicreg, {"precision": "bf16"}, ["channels_last", "recurrence"]),
        (vicreg, {"batched": True}, ["recurrence"]),
        (vicreg, {"device": torch.device("cuda")}, ["recurrence"]),
        (vicreg, {"only": ()}, []),
        (rssm, {}, ["channels_last", "folded_norm", "decoder", "filtering"]),
        (rssm, {"batched": True}, ["decoder", "filtering"]),
        (partial(rssm, True), {"batched": True}, ["decoder"]),
    ],
)
def test_what_is_installed(method: Callable[[], Method], setting: dict[str, object], names: list[str]) -> None:
    assert install(method(), **{"device": CPU, "precision": "fp32", **setting}) == names  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [vicreg, rssm])
def test_tensors_keep_names_and_places_and_kernels_can_be_taken_out(method: Callable[[], Method]) -> None:
    module = method()
    before = {name: value.data_ptr() for name, value in module.state_dict().items()}
    attributes = {name: set(vars(part)) for name, part in module.named_modules()}
    install(module, device=CPU, precision="fp32")
    assert {name: value.data_ptr() for name, value in module.state_dict().items()} == before
    assert {name: set(vars(part)) for name, part in module.named_modules()} != attributes
    assert install(module, device=CPU, precision="fp32", only=()) == []
    assert {name: set(vars(part)) for name, part in module.named_modules()} == attributes


def test_a_class_of_ones_own_is_left_alone() -> None:
    class OwnGRU(GRU):
        def forward(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return inputs, hidden

    class OwnNorm(nn.BatchNorm2d):
        def forward(self, maps: Tensor) -> Tensor:
            return maps

    own = nn.ModuleList([OwnGRU(input_size=2, hidden_size=3, num_layers=1), OwnNorm(3)])
    assert install(own, device=CPU, precision="fp32") == []
    assert set(KERNELS) == {name for name, _, _ in PARTS.values()}
