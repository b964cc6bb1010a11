"""RSSM against the original: loss, gradients, BatchNorm's running values of encoder and decoder."""

from functools import partial

import golden_arrays
import pytest
import torch
from golden_arrays import ARRAYS, LOSS, NETWORKS, SHAPES, assert_running_values, batch_of, group, load
from golden_arrays import with_golden_weights as golden
from torch.utils._pytree import tree_map

from jepa.kernels import KERNELS
from jepa.methods.rssm import RSSM
from jepa.models.decoders import Decoder

MIN_VAR = {"rssm": 0.05, "rssm_min_var_zero": 0.0, "rssm_large_kl": 0.1}
# Draws of the weights' last digits: enough that every sign which rounding decides comes out both ways.
NUM_DRAWS = 32
LAST_DIGITS = 2.0**-20  # relative: the rounding that a sum of some hundred products in single precision gathers


@pytest.fixture(params=MIN_VAR)
def name(request):
    return request.param


def build(name):
    return RSSM(
        shapes=SHAPES,
        encoder=NETWORKS["encoder"],
        decoder=partial(Decoder, width_factor=1),
        min_var=MIN_VAR[name],
        free_nats=3.0,
        reparameterize=False,
    )


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain"], indirect=True)
def test_a_training_pass(name):
    arrays = load(name)
    objective = golden(build(name), arrays)
    losses = objective(batch_of(arrays), arrays["noise"])
    torch.testing.assert_close(losses.total, arrays["loss/total"], **LOSS)
    losses.total.backward()
    assert_running_values(objective, arrays)


def test_gradients(name, monkeypatch):
    """In single precision, ours and the original's, they are gradients of weights that differ in their last digits.

    Inputs of ReLU come as near to 0 as 1e-7, where rounding, another on each processor, decides whether the gradient
    passes; and the large weights of one file multiply it. So what rounding can do is made in double precision, and
    that is what is allowed beside the tolerances of all golden arrays.
    """
    arrays = load(name)
    ours = gradients(name, arrays, torch.float32)
    monkeypatch.setattr(golden_arrays, "kernels_in_use", tuple(KERNELS))  # in double precision as good, and faster
    exact = [gradients(name, arrays, torch.float64, draw) for draw in range(NUM_DRAWS)]
    for key, original in group(arrays, "grad").items():
        draws = torch.stack([grads[key] for grads in exact])
        lowest, highest = draws.amin(0), draws.amax(0)
        for values in (original.double(), ours[key].double()):
            torch.testing.assert_close(
                values, values.clamp(lowest, highest), **ARRAYS, msg=lambda text, key=key: f"{key}: {text}"
            )


def gradients(name, arrays, dtype, draw=None):
    """Gradients of all parameters by name; draw: a seed for the last digits of the weights."""
    objective = golden(build(name), arrays).to(dtype)
    if draw is not None:
        generator = torch.Generator().manual_seed(draw)
        with torch.no_grad():
            for weight in objective.parameters():
                weight *= 1 + LAST_DIGITS * (2 * torch.rand(weight.shape, generator=generator, dtype=dtype) - 1)
    batch = tree_map(lambda values: values.to(dtype), batch_of(arrays))
    objective(batch, arrays["noise"].to(dtype)).total.backward()
    return {
        key: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for key, weight in objective.named_parameters()
    }


def test_the_floor_of_the_kl():
    """Below the floor the total holds it; above, the mean KL itself."""
    for name, floored in (("rssm", True), ("rssm_large_kl", False)):
        arrays = load(name)
        with torch.no_grad():
            losses = golden(build(name), arrays)(batch_of(arrays), arrays["noise"])
        kl = torch.tensor(3.0) if floored else losses.terms["kl"]
        assert (losses.terms["kl"] < 3.0) == floored
        torch.testing.assert_close(losses.total, losses.terms["reconstruction"] + kl)
