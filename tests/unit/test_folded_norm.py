"""Normalisations folded into the layers that follow, against the same layers one after another."""

import copy

import pytest
import torch
from torch import nn

from jepa.kernels import folded_norm
from jepa.kernels.folded_norm import folded_layers, folded_linear


class Layers(nn.Module):
    """Two or three convolutions, strided and not, a mean of pixels, a Linear; folded or one after another."""

    def __init__(self, *, folded: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.folded = folded
        self.trunk = nn.Sequential(
            *(nn.Conv2d(2, 6, 5, stride=2, padding=2), nn.ReLU(), nn.BatchNorm2d(6)),
            *(nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4)),
            *(nn.Conv2d(4, 8, (3, 5), stride=(1, 2), padding=(0, 1)), nn.ReLU(), nn.BatchNorm2d(8)),
        )
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(8 * 2, 3)
        with torch.no_grad():
            for norm in self.trunk[2::3]:
                norm.weight.normal_(1, 0.3)
                norm.bias.normal_(0, 0.3)
                norm.running_mean.normal_()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if not self.folded:
            return self.fc(self.pool(self.trunk(maps)).flatten(1))
        maps, pending = folded_layers(list(self.trunk), maps.contiguous(memory_format=torch.channels_last))
        return folded_linear(self.fc, self.pool(maps), pending)


def frames(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, 2, 13, 11, generator=torch.Generator().manual_seed(1)).to(dtype)


def one_after_another(layers: Layers) -> Layers:
    theirs = copy.deepcopy(layers)
    theirs.folded = False
    return theirs


def results(layers: Layers, maps: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradients of the input and of every parameter, running values."""
    maps = maps.clone().requires_grad_()
    output = layers(maps)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    grads = torch.autograd.grad((output * weights).sum(), [maps, *layers.parameters()])
    return [output, *grads, *layers.buffers()]


@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [2, 9, 12])  # 9 images are no equal shares for 2 threads
def test_folding_changes_nothing_but_rounding(count: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded_norm, "PIECE", 5 * 7 * 6 * 6)  # several pieces to a share, the last one shorter
    torch.set_num_threads(threads)
    ours = Layers().double()
    theirs = one_after_another(ours)
    for value, exact in zip(results(ours, frames(count)), results(theirs, frames(count)), strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-9, atol=1e-11)


def test_single_precision_keeps_its_digits() -> None:
    """Images of a constant background, the dot a few pixels: means are many standard deviations away from 0."""
    maps = torch.full((400, 2, 13, 11), 3.0)
    maps[:, :, 5:7, 4:6] += 0.1 * torch.rand(400, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    ours = Layers()
    exact = results(one_after_another(ours).double(), maps.double())
    plain = results(one_after_another(ours), maps)
    for value, torchs, reference in zip(results(ours, maps), plain, exact, strict=True):
        scale = reference.abs().max().item()
        error, theirs = ((one.double() - reference).abs().max().item() / max(scale, 1e-9) for one in (value, torchs))
        assert error < 1e-5 or error < theirs
