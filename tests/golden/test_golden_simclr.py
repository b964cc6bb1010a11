"""SimCLR against the original: loss, gradients, BatchNorm's running values."""

import pytest
import torch
from golden_arrays import LOSS, NETWORKS, assert_gradients, assert_running_values, batch_of, load, with_golden_weights

from jepa.losses.nt_xent import NTXent
from jepa.methods.joint_embedding import JointEmbedding

SETTINGS = {"simclr_paper": (0.5, True), "simclr_unnormalized": (16.0, False)}


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain"], indirect=True)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_pass(name):
    arrays = load(name)
    temperature, normalized = SETTINGS[name]
    term = NTXent(coeff=None, temperature=temperature, normalize_embeddings=normalized)
    objective = JointEmbedding(**NETWORKS, terms={"nt_xent": term})
    with_golden_weights(objective, arrays)
    losses = objective(batch_of(arrays), None)
    torch.testing.assert_close(losses.total, arrays["loss/total"], **LOSS)
    losses.total.backward()
    assert_gradients(objective, arrays)
    assert_running_values(objective, arrays)
