"""VICReg and IDM against the original: losses, terms, embeddings, gradients, BatchNorm's running values."""

from functools import partial

import pytest
import torch
from golden_arrays import ARRAYS, LOSS, NETWORKS, assert_gradients, assert_running_values, batch_of, load
from golden_arrays import with_golden_weights as golden
from method_samples import vicreg_terms

from jepa.losses.inverse_dynamics import InverseDynamics
from jepa.methods.joint_embedding import JointEmbedding
from jepa.models.heads import IdentityProjector, MLPProjector

SETTINGS = {
    "vicreg_paper": {
        "coefficients": {"sim": 52.7, "std": 118.4, "cov": 1.0},
        "projector": IdentityProjector,
        "after_projector": False,
        "skip_first_step": True,
    },
    "vicreg_projector": {
        "coefficients": {"sim": 25.0, "std": 25.0, "cov": 1.0, "enc_std": 0.7, "enc_cov": 0.3, "action": 0.9},
        "projector": partial(MLPProjector, layers="64-96"),
        "after_projector": True,
        "skip_first_step": False,
    },
    "idm": {
        "coefficients": {"action": 1.3},
        "projector": IdentityProjector,
        "after_projector": False,
        "skip_first_step": True,
    },
}
TERMS = {
    "prediction": "repr_loss",
    "variance": "std_loss",
    "covariance": "cov_loss",
    "encoder_variance": "enc_std_loss",
    "encoder_covariance": "enc_cov_loss",
    "action": "action_loss",
}


def vicreg(name):
    settings = dict(SETTINGS[name])
    projector, coefficients = settings.pop("projector"), settings.pop("coefficients")
    return JointEmbedding(**NETWORKS, projector=projector, terms=vicreg_terms(**coefficients, **settings))


def idm():
    return JointEmbedding(**NETWORKS, terms={"action": InverseDynamics(coeff=1.3, action_input="faithful")})


MODELS = [(name, partial(vicreg, name)) for name in SETTINGS] + [("idm", idm)]


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain"], indirect=True)
@pytest.mark.parametrize(("name", "build"), MODELS, ids=["vicreg_paper", "vicreg_projector", "idm as vicreg", "idm"])
def test_a_training_pass(name, build):
    arrays = load(name)
    objective = golden(build(), arrays)
    losses = objective(batch_of(arrays), None)
    torch.testing.assert_close(losses.total, arrays["loss/total"], **LOSS)
    for term, value in losses.terms.items():
        torch.testing.assert_close(value, arrays[f"loss/{TERMS[term]}"], **LOSS)
    losses.total.backward()
    assert_gradients(objective, arrays)
    assert_running_values(objective, arrays)


@pytest.mark.parametrize(("name", "build"), MODELS[:3], ids=list(SETTINGS))
def test_embeddings(name, build):
    arrays = load(name)
    objective = golden(build(), arrays)
    with torch.no_grad():
        rollout = objective.rollout(arrays["states"], arrays["actions"])
    torch.testing.assert_close(rollout.encodings, arrays["encodings"], **ARRAYS)
    torch.testing.assert_close(rollout.predictions, arrays["predictions"], **ARRAYS)


def test_terms_without_weight_are_not_computed():
    arrays = load("vicreg_paper")
    assert set(golden(vicreg("vicreg_paper"), arrays)(batch_of(arrays)).terms) == {
        "prediction",
        "variance",
        "covariance",
    }
