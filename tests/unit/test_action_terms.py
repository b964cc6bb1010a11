"""The terms that infer actions, and the action hinge, against plain loops written from the definitions."""

from functools import partial

import pytest
import torch
from method_samples import BURN_IN, MENET5, NETWORKS, SHAPES, B, D, T, batch, joint_embedding

from jepa.errors import ConfigError
from jepa.losses.action_hinge import ActionHinge
from jepa.losses.base import Embeddings
from jepa.losses.difference_decoder import DifferenceDecoder
from jepa.losses.inverse_dynamics import InverseDynamics
from jepa.losses.k_step_inverse import KStepInverse
from jepa.methods.rssm import RSSM
from jepa.models.decoders import Decoder
from jepa.models.heads import ActionPredictor, IdentityProjector, check_head
from jepa.models.predictors import IdentityPredictor

HEADS = [("linear", "512"), ("mlp", "8"), ("mlp", "8-5")]
DATA = batch(dtype=torch.float64)


def method(term, **networks):
    return joint_embedding({"term": term}, networks=networks).double()


def answer(head, features):
    """What a head answers for one vector of features, layer by layer."""
    layers = [head.model] if isinstance(head.model, torch.nn.Linear) else list(head.model)
    for layer in layers:
        linear = isinstance(layer, torch.nn.Linear)
        features = layer.weight @ features + layer.bias if linear else torch.where(features > 0, features, 0.0)
    return features


def squared_error(answered, action):
    return sum((x - y) ** 2 for x, y in zip(answered.tolist(), action.tolist(), strict=True))


@pytest.mark.parametrize(("head", "hidden"), HEADS)
@pytest.mark.parametrize("action_input", ["faithful", "encodings"])
def test_inverse_dynamics_with_every_head(head, hidden, action_input):
    term = InverseDynamics(coeff=1.0, action_input=action_input, head=head, hidden=hidden)
    ours = method(term)
    z, predicted = ours.rollout(DATA.states, DATA.actions)
    total = 0.0
    for t in range(T - 1):
        for b in range(B):
            before = predicted[t - 1, b] if action_input == "faithful" and t else z[t, b]
            answered = answer(term.action_predictor, torch.cat([before, z[t + 1, b]]))
            total += squared_error(answered, DATA.actions[t, b])
    assert ours(DATA).total.item() == pytest.approx(total / ((T - 1) * B * 2), rel=1e-9)


@pytest.mark.parametrize(("head", "hidden"), HEADS)
def test_k_step_inverse(head, hidden):
    term = KStepInverse(coeff=1.0, max_steps=3, head=head, hidden=hidden)
    ours = method(term)
    z = ours.encode(DATA.states)
    means = []
    for k in (1, 2, 3):
        number = torch.tensor([float(k == 1), float(k == 2), float(k == 3)], dtype=torch.float64)
        errors = [
            squared_error(answer(term.action_predictor, torch.cat([z[t, b], z[t + k, b], number])), DATA.actions[t, b])
            for t in range(T - k)
            for b in range(B)
        ]
        means.append(sum(errors) / (len(errors) * 2))
    assert ours(DATA).total.item() == pytest.approx(sum(means) / 3, rel=1e-9)


def test_one_step_apart_is_inverse_dynamics():
    k_step, single = (
        method(KStepInverse(coeff=1.0, max_steps=1, head="linear", hidden="")),
        method(InverseDynamics(coeff=1.0, action_input="encodings")),
    )
    wide = k_step.terms.term.action_predictor.model
    narrow = single.terms.term.action_predictor.model
    single.encoder.load_state_dict(k_step.encoder.state_dict())
    with torch.no_grad():
        narrow.weight.copy_(wide.weight[:, : 2 * D])
        narrow.bias.copy_(wide.bias + wide.weight[:, 2 * D])
    torch.testing.assert_close(k_step(DATA).total, single(DATA).total)


@pytest.mark.parametrize(("head", "hidden"), HEADS)
def test_difference_decoder(head, hidden):
    term = DifferenceDecoder(coeff=1.0, head=head, hidden=hidden)
    ours = method(term)
    z = ours.encode(DATA.states)
    total = 0.0
    for t in range(T - 1):
        for b in range(B):
            total += squared_error(answer(term.action_predictor, z[t + 1, b] - z[t, b]), DATA.actions[t, b])
    assert ours(DATA).total.item() == pytest.approx(total / ((T - 1) * B * 2), rel=1e-9)


def test_a_constant_part_does_not_reach_the_difference_decoder():
    term = method(DifferenceDecoder(coeff=1.0, head="mlp", hidden="8")).terms.term
    source = torch.Generator().manual_seed(1)
    z, constant = (torch.randn(shape, generator=source, dtype=torch.float64) for shape in ((T, B, D), (B, D)))
    losses = [
        term(Embeddings(encodings=moved, predictions=z[1:], batch=DATA, projector=IdentityProjector(embedding_size=D)))
        for moved in (z, z + constant)
    ]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("margin", [0.3, 1.7])
@pytest.mark.parametrize("networks", [{}, {"predictor": BURN_IN}])
def test_action_hinge(margin, networks):
    ours = method(ActionHinge(coeff=1.0, margin=margin), **networks)
    first = ours.first_frame
    z = ours.encode(DATA.states)
    predicted = ours.predictor(z, DATA.actions)
    stopped = DATA.actions.clone()
    stopped[first:] = 0  # the frames before are shown, so their actions happened
    idle = ours.predictor(z, stopped)
    total, active = 0.0, 0
    for t in range(first, T - 1):
        for b in range(B):
            p, q = predicted[t, b].detach(), idle[t, b].detach()
            excess = float((p @ q) / ((p @ p) * (q @ q)) ** 0.5) - (1 - margin)
            total += max(0.0, excess)
            active += excess > 0
    assert active > 0
    assert ours(DATA).total.item() == pytest.approx(total / ((T - 1 - first) * B), rel=1e-6)


def test_predictions_that_ignore_actions_pay_the_margin():
    ours = method(ActionHinge(coeff=1.0, margin=0.3), predictor=IdentityPredictor)
    assert ours(DATA).total.item() == pytest.approx(0.3)


def test_the_hinge_trains_rssm_through_its_beliefs():
    torch.manual_seed(0)
    settings = {"min_var": 0.1, "free_nats": 3.0, "reparameterize": False}
    rssm = RSSM(
        shapes=SHAPES,
        encoder=NETWORKS["encoder"],
        decoder=partial(Decoder, width_factor=1),
        **settings,
        terms={"hinge": ActionHinge(coeff=1.0, margin=0.3)},
    )
    data = batch()
    noise = rssm.draw_latent_noise(torch.Generator().manual_seed(0), B, torch.device("cpu"))
    value = rssm(data, noise).terms["hinge"]
    z = rssm._encode(data.states)
    first = rssm.predictor.prior(z[0]).sample(noise[0]).detach()
    beliefs = [rssm.filter(z, actions, first, noise[2::2])[0] for actions in (data.actions, 0 * data.actions)]
    cosines = [torch.cosine_similarity(p, q, dim=0) for p, q in zip(*(b.flatten(0, 1) for b in beliefs), strict=True)]
    expected = sum(max(0.0, cosine.item() - 0.7) for cosine in cosines) / len(cosines)
    assert expected > 0
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("term", "predictor_trained"),
    [
        (KStepInverse(coeff=1.0, max_steps=2, head="mlp", hidden="8"), False),
        (DifferenceDecoder(coeff=1.0, head="linear", hidden=""), False),
        (ActionHinge(coeff=1.0, margin=0.3), True),
    ],
)
def test_what_each_term_trains(term, predictor_trained):
    ours = joint_embedding({"term": term}, networks={"encoder": MENET5})
    ours(batch()).total.backward()
    assert ours.encoder.fc.weight.grad.any()
    assert (ours.predictor.rnn.weight_ih_l0.grad is not None) == predictor_trained


def test_heads():
    assert check_head("linear", "512") == () and check_head("mlp", "6-4") == (6, 4) and check_head("mlp", 6) == (6,)
    assert list(ActionPredictor(input_size=3, action_size=2).state_dict()) == ["model.weight", "model.bias"]
    shapes = [tuple(p.shape) for p in ActionPredictor(input_size=3, action_size=2, hidden=(5,)).parameters()]
    assert shapes == [(5, 3), (5,), (2, 5), (2,)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DifferenceDecoder(coeff=1.0, head="mpl", hidden="8"), r"^head='mpl': .* did you mean 'mlp'"),
        (lambda: DifferenceDecoder(coeff=1.0, head="mlp", hidden=""), r"^hidden='': must name one width or more"),
        (lambda: KStepInverse(coeff=1.0, max_steps=0, head="mlp", hidden="8"), r"^max_steps=0: must be at least 1"),
        (lambda: ActionHinge(coeff=1.0, margin=3.0), r"^margin=3.0: must be at most 2"),
    ],
)
def test_bad_values_name_the_key(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_k_steps_need_as_many_frames():
    networks = {"predictor": BURN_IN}  # the loss sees the last 3 of 5 frames
    joint_embedding({"term": KStepInverse(coeff=1.0, max_steps=2, head="mlp", hidden="8")}, networks=networks)
    with pytest.raises(ConfigError, match=r"^dataset\.num_steps=5: must be at least 6 for model\.terms\.term"):
        joint_embedding({"term": KStepInverse(coeff=1.0, max_steps=3, head="mlp", hidden="8")}, networks=networks)
