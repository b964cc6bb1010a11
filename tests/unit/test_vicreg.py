"""VICReg against plain loops in double precision, written from the definitions; its switches; terms without weight."""

import copy

import pytest
import torch
from method_samples import BURN_IN, MENET5, MLP_PROJECTOR, SHAPES, B, D, T, batch, vicreg

from jepa.errors import ConfigError
from jepa.losses.covariance import covariance_loss
from jepa.losses.variance import variance_loss
from jepa.models.decoders import Decoder

ALL = {"sim": 25.0, "std": 12.0, "cov": 1.5, "enc_std": 0.7, "enc_cov": 0.3, "action": 0.9}


def slow_variance_and_covariance(features):
    """Both terms of one time step's features [B, D], number by number."""
    rows, (size, dims) = features.tolist(), features.shape
    means = [sum(row[d] for row in rows) / size for d in range(dims)]

    def covariance(d, e):
        return sum((row[d] - means[d]) * (row[e] - means[e]) for row in rows) / (size - 1)

    variance = sum(max(0.0, 1 - (covariance(d, d) + 1e-4) ** 0.5) for d in range(dims)) / dims
    return variance, sum(covariance(d, e) ** 2 for d in range(dims) for e in range(dims) if d != e) / dims


def slow_mse(first, second):
    pairs = list(zip(first.flatten().tolist(), second.flatten().tolist(), strict=True))
    return sum((a - b) ** 2 for a, b in pairs) / len(pairs)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def slow_terms(objective, data):
    """Every term by its definition, one time step after the other, from the method's own networks."""
    steps = range(T)
    z = objective.encoder(data.states.flatten(0, 1)).reshape(T, B, -1)
    predicted = [None, *objective.predictor(z, data.actions)]  # predicted[t] is the prediction of z_t
    project = objective.projector if not hasattr(objective.projector, "model") else objective.projector.model
    p = project(z.flatten(0, 1)).reshape(T, B, -1)
    if objective.terms.prediction.after_projector:
        prediction = mean(slow_mse(project(predicted[t]), p[t]) for t in steps[1:])
    else:
        prediction = mean(slow_mse(predicted[t], z[t]) for t in steps[1:])
    regularised = steps[1:] if objective.terms.variance.skip_first_step else steps
    variances, covariances = zip(*(slow_variance_and_covariance(p[t]) for t in regularised), strict=True)
    enc_variances, enc_covariances = zip(*(slow_variance_and_covariance(z[t]) for t in regularised), strict=True)
    term = objective.terms.action
    context = {t: z[t] if t == 0 or term.action_input == "encodings" else predicted[t] for t in steps[:-1]}
    weight, bias = term.action_predictor.model.weight, term.action_predictor.model.bias
    action = mean(
        slow_mse(torch.cat([context[t], z[t + 1]], dim=1) @ weight.T + bias, data.actions[t]) for t in steps[:-1]
    )
    return {
        "prediction": prediction,
        "variance": mean(variances),
        "covariance": mean(covariances),
        "encoder_variance": mean(enc_variances),
        "encoder_covariance": mean(enc_covariances),
        "action": action,
    }


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"skip_first_step": False},
        {"action_input": "encodings"},
        {"projector": MLP_PROJECTOR},
        {"projector": MLP_PROJECTOR, "after_projector": True, "skip_first_step": False},
    ],
)
def test_terms_and_total_against_plain_loops(switches):
    objective = vicreg(**ALL, **switches).double()
    data = batch(dtype=torch.float64)
    with torch.no_grad():
        expected = slow_terms(copy.deepcopy(objective), data)
    losses = objective(data, None)
    assert set(losses.terms) == set(expected)
    for name, value in losses.terms.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-9), name
    names = dict(zip(expected, ALL.values(), strict=True))
    assert losses.total.item() == pytest.approx(sum(names[term] * expected[term] for term in expected), rel=1e-6)


@pytest.mark.parametrize("shape", [(3, 5, 8), (3, 8, 8), (3, 9, 4), (1, 2, 3), (2, 40, 2)])
def test_covariance_through_either_matrix(shape):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centered = features - features.mean(dim=1, keepdim=True)
    slow = [slow_variance_and_covariance(step) for step in features]
    assert float(variance_loss(centered)) == pytest.approx(mean(v for v, _ in slow), rel=1e-12)
    assert float(covariance_loss(centered)) == pytest.approx(mean(c for _, c in slow), rel=1e-10)


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 6, 4)])
def test_covariance_gradient(shape):
    centered = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(covariance_loss, centered)
    assert torch.autograd.gradcheck(variance_loss, centered)


def test_reconstruction_is_the_error_of_every_frame():
    def decoder(**sizes):
        return Decoder(width_factor=1, **sizes)

    objective = vicreg(decoding=2.0, decoder=decoder)
    losses = objective(batch())
    images = objective.terms.reconstruction.decoder(objective.encode(batch().states)).detach()
    assert losses.terms["reconstruction"].item() == pytest.approx(slow_mse(images, batch().states), rel=1e-4)
    torch.testing.assert_close(losses.total, 2 * losses.terms["reconstruction"])


def test_burn_in_regards_the_frames_from_the_last_one_shown():
    objective, data = vicreg(**ALL, networks={"predictor": BURN_IN}).double(), batch(dtype=torch.float64)
    assert objective.first_frame == 2
    losses = objective(data)
    with torch.no_grad():
        z, predicted = objective.rollout(data.states, data.actions)
    assert losses.terms["prediction"].item() == pytest.approx(slow_mse(predicted[2:], z[3:]), rel=1e-9)
    expected = mean(slow_variance_and_covariance(z[t])[0] for t in range(3, T))
    assert losses.terms["variance"].item() == pytest.approx(expected, rel=1e-9)
    context = torch.stack([z[2], *predicted[2:-1]])
    answer = objective.terms.action.action_predictor(context, z[3:]).detach()
    assert losses.terms["action"].item() == pytest.approx(slow_mse(answer, data.actions[2:]), rel=1e-9)


@pytest.mark.parametrize(
    ("coefficients", "terms"),
    [
        ({"sim": 1.0}, {"prediction"}),
        ({"std": 1.0}, {"variance"}),
        ({"cov": 1.0}, {"covariance"}),
        ({"enc_std": 1.0}, {"encoder_variance"}),
        ({"enc_cov": 1.0}, {"encoder_covariance"}),
        ({"action": 1.0}, {"action"}),
        ({"sim": 1.0, "std": 1.0, "cov": 1.0}, {"prediction", "variance", "covariance"}),
    ],
)
def test_a_zero_coefficient_leaves_the_term_out(coefficients, terms):
    objective = vicreg(**coefficients)
    assert set(objective(batch()).terms) == terms
    assert set(objective.terms) == terms


def test_coefficients_are_buffers_that_no_checkpoint_holds():
    objective = vicreg(sim=2.0)
    assert dict(objective.named_buffers())["terms.prediction.coeff"] == 2.0
    assert "terms.prediction.coeff" not in objective.state_dict()
    first = objective(batch()).total
    objective.terms.prediction.coeff.fill_(4.0)
    torch.testing.assert_close(objective(batch()).total, 2 * first)


def test_bfloat16_losses_are_close_and_in_single_precision():
    objective = vicreg(**ALL, projector=MLP_PROJECTOR, networks={"encoder": MENET5}, after_projector=True)
    data = batch(size=32)
    exact = objective(data).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(data)
    losses.total.backward()
    assert all(value.dtype == torch.float32 for value in [losses.total, *losses.terms.values()])
    torch.testing.assert_close(losses.total, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sim": -1.0}, r"coeff=-1\.0: must be at least 0"),
        ({"cov": float("nan")}, r"coeff=nan: must be a finite number"),
        ({"std": "1"}, r"coeff='1': must be a finite number"),
        ({"sim": 1.0, "action_input": "faithfull"}, r"action_input='faithfull'.*did you mean 'faithful'"),
        ({"sim": 1.0, "after_projector": 1}, r"after_projector=1: must be true or false"),
        ({"sim": 1.0, "skip_first_step": "no"}, r"skip_first_step='no'"),
        ({"decoding": 1.0}, r"coeff=1\.0: needs a decoder"),
        ({}, r"model: every coefficient is 0"),
    ],
)
def test_errors_name_the_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        vicreg(**changes)


def test_a_burn_in_as_long_as_the_sequence_is_refused():
    shapes = SHAPES.__class__(num_steps=3, channels=1, image_size=28, num_dots=1, action_size=2)
    with pytest.raises(ConfigError, match=r"model\.predictor\.burn_in=3: must be below dataset\.num_steps=3"):
        vicreg(sim=1.0, networks={"predictor": BURN_IN, "shapes": shapes})


def test_embedding_size_flows_to_predictor_and_projector():
    objective = vicreg(sim=1.0, action=1.0, projector=MLP_PROJECTOR)
    assert objective.predictor.rnn.hidden_size == objective.projector.model[0].in_features == D
    assert objective.terms.action.action_predictor.model.in_features == 2 * D
