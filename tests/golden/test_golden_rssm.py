"""RSSM against the original: loss, gradients, BatchNorm's running values of encoder and decoder."""

from functools import partial

import pytest
import torch
from golden_arrays import ARRAYS, LOSS, NETWORKS, SHAPES, assert_running_values, batch_of, group, load
from golden_arrays import with_golden_weights as golden

from jepa.models.decoders import Decoder
from jepa.objectives.elbo import RSSM

MIN_VAR = {"rssm": 0.05, "rssm_min_var_zero": 0.0, "rssm_large_kl": 0.1}
# The large weights of the last file multiply rounding: here an element is judged beside its tensor's largest.
RELATIVE_TO_LARGEST = {"rssm": 0.0, "rssm_min_var_zero": 0.0, "rssm_large_kl": 1e-4}


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


def test_a_training_pass(name):
    arrays = load(name)
    objective = golden(build(name), arrays)
    losses = objective(batch_of(arrays), arrays["noise"])
    torch.testing.assert_close(losses.total, arrays["loss/total"], **LOSS)
    losses.total.backward()
    assert_running_values(objective, arrays)
    parameters = dict(objective.named_parameters())
    for key, expected in group(arrays, "grad").items():
        grad = parameters[key].grad
        grad = torch.zeros_like(expected) if grad is None else grad
        atol = max(ARRAYS["atol"], RELATIVE_TO_LARGEST[name] * float(expected.abs().max()))
        torch.testing.assert_close(grad, expected, rtol=ARRAYS["rtol"], atol=atol, msg=lambda t, key=key: f"{key}: {t}")


def test_the_floor_of_the_kl():
    """Below the floor the total holds it; above, the mean KL itself."""
    for name, floored in (("rssm", True), ("rssm_large_kl", False)):
        arrays = load(name)
        with torch.no_grad():
            losses = golden(build(name), arrays)(batch_of(arrays), arrays["noise"])
        kl = torch.tensor(3.0) if floored else losses.terms["kl"]
        assert (losses.terms["kl"] < 3.0) == floored
        torch.testing.assert_close(losses.total, losses.terms["reconstruction"] + kl)
