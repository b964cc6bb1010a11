"""IDM, supervised and the untrained baselines, against plain loops written from the definitions."""

import pytest
import torch
from method_samples import BURN_IN, MLP_PROJECTOR, B, D, K, T, batch, idm, simclr, supervised, untrained, vicreg

from jepa.errors import ConfigError
from jepa.models.predictors import IdentityPredictor
from jepa.types import Rollout


@pytest.mark.parametrize("action_input", ["faithful", "encodings"])
def test_idm_against_plain_loops(action_input):
    objective, data = idm(action_input=action_input).double(), batch(dtype=torch.float64)
    z, predicted = objective.rollout(data.states, data.actions)
    linear = objective.terms.action.action_predictor.model
    weight, bias = linear.weight, linear.bias
    total = 0.0
    for t in range(T - 1):
        for b in range(B):
            context = z[t, b] if t == 0 or action_input == "encodings" else predicted[t - 1, b]
            answer = weight @ torch.cat([context, z[t + 1, b]]) + bias
            total += sum((x - y) ** 2 for x, y in zip(answer.tolist(), data.actions[t, b].tolist(), strict=True))
    expected = total / ((T - 1) * B * 2)
    losses = objective(data, None)
    assert losses.terms["action"].item() == pytest.approx(expected, rel=1e-9)
    assert losses.total.item() == pytest.approx(1.3 * expected, rel=1e-6)
    assert set(losses.terms) == {"action"}


def test_idm_is_vicreg_with_action_coeff_only():
    ours, theirs = idm(action_coeff=0.7), vicreg(action=0.7)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(batch()).total, theirs(batch()).total)


@pytest.mark.parametrize(("action_input", "reached"), [("faithful", True), ("encodings", False)])
def test_only_the_faithful_input_trains_the_predictor(action_input, reached):
    objective = idm(action_input=action_input)
    objective(batch()).total.backward()
    assert (objective.predictor.rnn.weight_hh_l0.grad is not None) == reached


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"action_coeff": 0.0}, r"every coefficient is 0"), ({"action_input": "z"}, r"action_input='z'")],
)
def test_idm_errors_name_the_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        idm(**changes)


@pytest.mark.parametrize("networks", [{}, {"predictor": BURN_IN}])
def test_supervised_against_plain_loops(networks):
    objective, data = supervised(networks=networks).double(), batch(dtype=torch.float64)
    first = objective.first_frame
    z, predicted = objective.rollout(data.states, data.actions)
    total, count = 0.0, 0
    for t in range(first, T):
        for b in range(B):
            embedding = z[t, b] if t == first else predicted[t - 1, b]
            # x and y of the first dot, of the second, ...
            answer = (objective.location_head.head.weight @ embedding).tolist()
            for k in range(K):
                x, y = data.locations[t, b, k].tolist()
                total += (answer[2 * k] - x) ** 2 + (answer[2 * k + 1] - y) ** 2
                count += 1
    losses = objective(data, None)
    assert losses.total.item() == pytest.approx(total / count, rel=1e-9)
    assert losses.terms == {"location": losses.total}


def test_supervised_answers_for_every_frame():
    objective, data = supervised().eval(), batch()
    rollout = objective.rollout(data.states, data.actions)
    answers = objective.predict_locations(rollout)
    assert answers.shape == data.locations.shape and objective.location_head.head.bias is None
    shown = objective.rollout(data.states[:1], data.actions)
    torch.testing.assert_close(objective.predict_locations(shown), answers)


def test_supervised_trains_every_part():
    objective = supervised()
    objective(batch()).total.backward()
    assert all(parameter.grad.any() for parameter in objective.parameters())


def test_untrained_is_judged_as_it_is():
    objective = untrained(networks={"predictor": IdentityPredictor}).eval()
    assert not objective.trainable and supervised().trainable
    data = batch()
    rollout = objective.rollout(data.states, data.actions)
    assert isinstance(rollout, Rollout) and rollout.encodings.shape == (T, B, D)
    torch.testing.assert_close(rollout.predictions, rollout.encodings[:1].expand(T - 1, -1, -1))
    assert not objective.has_location_head and supervised().has_location_head


@pytest.mark.parametrize("build", [idm, supervised, untrained, vicreg])
def test_only_rssm_draws_noise(build):
    objective = build(**({"sim": 1.0} if build is vicreg else {}))
    source = torch.Generator()
    assert objective.draw_latent_noise(source, B, torch.device("cpu")) is None
    assert objective.draw_rollout_noise(source, B, torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (idm(action_coeff=0.5), {"action": "× 0.5"}),
        (vicreg(sim=25.0, std=118.44, cov=1.0), {"prediction": "× 25", "variance": "× 118.4", "covariance": "× 1"}),
        (simclr(), {"nt_xent": "× 1"}),
        (supervised(), {"location": "× 1"}),
    ],
)
def test_methods_say_how_their_terms_are_weighted(objective, weights):
    losses = objective(batch())
    assert objective.loss_weights() == weights and set(losses.terms) == set(weights)
    total = sum(float(weights[name].split()[1]) * value.item() for name, value in losses.terms.items())
    assert losses.total.item() == pytest.approx(total, rel=1e-3)


def test_losses_that_compare_the_sequences_of_a_batch_say_so():
    assert vicreg(sim=1.0).smallest_batch == vicreg(action=1.0).smallest_batch == 1
    assert all(vicreg(**{name: 1.0}).smallest_batch == 2 for name in ("std", "cov", "enc_std", "enc_cov"))
    assert vicreg(sim=1.0, projector=MLP_PROJECTOR).smallest_batch == 1  # the loss does not see the projector
    assert vicreg(sim=1.0, projector=MLP_PROJECTOR, after_projector=True).smallest_batch == 2
    assert simclr().smallest_batch == 2
    assert idm().smallest_batch == supervised().smallest_batch == 1
