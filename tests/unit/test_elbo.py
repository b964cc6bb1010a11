"""RSSM against its definition, step by step with torch.distributions and torch's own GRU cell, in float64."""

import copy
import operator
from functools import partial

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from jepa.errors import ConfigError
from jepa.methods.rssm import RSSM
from jepa.models.decoders import Decoder
from jepa.models.encoders import MLPEncoder
from jepa.models.rssm import Gaussian
from jepa.models.rssm import kl_divergence as our_kl
from jepa.types import Batch, DataShapes

STEPS, BATCH, SIZE = 5, 4, 6
SHAPES = DataShapes(num_steps=STEPS, channels=1, image_size=9, num_dots=1, action_size=2)
SETTINGS = {
    "faithful": {},
    "no min_var": {"min_var": 0.0, "free_nats": 0.23},
    "no free nats": {"free_nats": 0.0},
    "reparameterised": {"reparameterize": True, "free_nats": 0.0},
    "reparameterised with floor": {"reparameterize": True, "free_nats": 0.18},
}


def build(seed=0, **changes):
    """Weights are larger than usual, so that the KL lies about the floor and no layer is nearly linear."""
    torch.manual_seed(seed)
    made = RSSM(
        **{
            "shapes": SHAPES,
            "encoder": partial(MLPEncoder, embedding_size=SIZE, mlp=""),
            "decoder": partial(Decoder, width_factor=1),
            "min_var": 0.1,
            "free_nats": 0.18,
            "reparameterize": False,
            **changes,
        }
    )
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith(("predictor", "posterior")):
                parameter.mul_(2.0)
    return made.double()


def data(seed=0, *leading):
    source = torch.Generator().manual_seed(seed)

    def normals(*shape):
        return torch.randn(*leading, *shape, generator=source, dtype=torch.float64)

    batch = Batch(normals(STEPS, BATCH, 1, 9, 9), normals(STEPS - 1, BATCH, 2), normals(STEPS, BATCH, 1, 2))
    return batch, normals(2 * STEPS - 1, BATCH, SIZE)


def reference(model, batch, noise, *, min_var, free_nats, reparameterize):
    """Loss, terms and beliefs, one time step after the other."""
    predictor, posterior = model.predictor, model.posterior
    draws = iter(noise)

    def sample(distribution):
        drawn = distribution.loc + distribution.scale * next(draws)
        return drawn if reparameterize else drawn.detach()

    def prior_of(belief, extra):
        return Normal(predictor.prior_mu_net(belief), F.softplus(predictor.prior_var_net(belief)) + extra)

    def decode(features):
        return model.decoder(features.unsqueeze(0)).squeeze(0)

    encodings = model.encoder(batch.states.flatten(0, 1)).reshape(STEPS, BATCH, SIZE)
    belief = encodings[0]
    state = sample(prior_of(belief, 0.0))
    images = F.mse_loss(decode(torch.cat([state, belief], -1)), batch.states[0])
    floored, divergences, beliefs = torch.zeros(()), [], []
    for t in range(1, STEPS):
        belief = predictor.rnn(predictor.rnn_input_net(torch.cat([state, batch.actions[t - 1]], -1)), belief)
        beliefs.append(belief)
        prior = prior_of(belief, min_var)
        both = torch.cat([encodings[t], belief], -1)
        seen = Normal(posterior.posterior_mu_net(both), F.softplus(posterior.posterior_var_net(both)) + min_var)
        divergences.append(kl_divergence(prior, seen).mean())
        floored = floored + torch.clamp(divergences[-1], min=free_nats)
        images = images + F.mse_loss(decode(torch.cat([sample(prior), belief], -1)), batch.states[t])
        state = sample(seen)
    total = (images + floored) / (STEPS - 1)
    return total, images / (STEPS - 1), torch.stack(divergences)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_loss_terms_and_gradients(changes):
    settings = {"min_var": 0.1, "free_nats": 0.18, "reparameterize": False, **changes}
    ours = build(**changes)
    theirs = copy.deepcopy(ours)
    batch, noise = data()
    losses = ours(batch, noise)
    total, images, divergences = reference(theirs, batch, noise, **settings)
    if settings["free_nats"] > 0:
        assert divergences.min() < settings["free_nats"] < divergences.max()  # the floor is met and not
    torch.testing.assert_close(losses.total, total, rtol=1e-7, atol=0.0)
    torch.testing.assert_close(losses.terms["reconstruction"], images, rtol=1e-7, atol=0.0)
    torch.testing.assert_close(losses.terms["kl"], divergences.mean(), rtol=1e-7, atol=0.0)
    losses.total.backward()
    total.backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
        assert a.grad.any(), name
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_the_weight_of_the_divergence_names_its_floor():
    assert build(free_nats=2.5).loss_weights() == {"reconstruction": "× 1", "kl": "× 1 and at least 2.5 a frame"}


def test_rollout_uses_the_prior_alone():
    model = build().eval()
    batch, _ = data()
    noise = torch.randn(STEPS - 1, BATCH, SIZE, dtype=torch.float64)
    predictor = model.predictor
    with torch.no_grad():
        rollout = model.rollout(batch.states[:2], batch.actions, noise)
        belief = model.encoder(batch.states[0])
        for t in range(STEPS - 1):
            state = predictor.prior_mu_net(belief) + F.softplus(predictor.prior_var_net(belief)) * noise[t]
            belief = predictor.rnn(predictor.rnn_input_net(torch.cat([state, batch.actions[t]], -1)), belief)
            torch.testing.assert_close(rollout.predictions[t], belief, rtol=1e-10, atol=1e-12)
        encodings = model.encoder(batch.states[:2].flatten(0, 1)).reshape(2, BATCH, SIZE)
    torch.testing.assert_close(rollout.encodings, encodings)


@pytest.mark.parametrize("reparameterize", [False, True])
def test_packed_jobs_are_separate_jobs(reparameterize):
    """Weights, data, noise, min_var and free_nats of their own."""
    numbers = [{"min_var": 0.1}, {"min_var": 0.0, "free_nats": 0.0}, {"free_nats": 0.5}]
    models = [build(seed, reparameterize=reparameterize, **changes) for seed, changes in enumerate(numbers)]
    batch, noise = data(0, 3)
    parameters, buffers = stack_module_state(models)

    def call(state, *inputs):
        return functional_call(models[0], state, inputs)

    losses = vmap(call)({**parameters, **buffers}, batch, noise)
    losses.total.sum().backward()
    for job, model in enumerate(models):
        expected = model(tree_map(operator.itemgetter(job), batch), noise[job])
        torch.testing.assert_close(losses.total[job], expected.total, rtol=1e-10, atol=0.0)
        expected.total.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameters[name].grad[job], parameter.grad, rtol=1e-8, atol=1e-10)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffers[name][job], buffer, rtol=1e-10, atol=1e-12)


def test_packed_rollouts_are_separate_rollouts():
    models = [build(seed).eval() for seed in range(2)]
    batch, _ = data(0, 2)
    noise = torch.randn(2, STEPS - 1, BATCH, SIZE, dtype=torch.float64)
    parameters, buffers = stack_module_state(models)

    class Rolling(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *inputs):
            return self.inner.rollout(*inputs)

    rolling = Rolling(models[0])
    state = {f"inner.{name}": value.detach() for name, value in {**parameters, **buffers}.items()}
    rollouts = vmap(lambda *inputs: functional_call(rolling, inputs[0], inputs[1:]))(
        state, batch.states, batch.actions, noise
    )
    for job, model in enumerate(models):
        expected = model.rollout(batch.states[job], batch.actions[job], noise[job])
        torch.testing.assert_close(rollouts.predictions[job], expected.predictions, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reparameterize", [False, True])
def test_bf16_autocast(reparameterize):
    model = build(reparameterize=reparameterize).float()
    batch, noise = data()
    batch, noise = tree_map(lambda values: values.float(), batch), noise.float()
    exact = copy.deepcopy(model)(batch, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch, noise)
        rollout = model.eval().rollout(batch.states, batch.actions, noise[: STEPS - 1])
    losses.total.backward()
    assert losses.total.dtype == rollout.predictions.dtype == torch.float32
    torch.testing.assert_close(losses.total, exact.total, rtol=0.05, atol=0.0)
    assert all(
        parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all() for parameter in model.parameters()
    )


def test_noise_has_the_documented_shapes():
    model = build()
    source = torch.Generator().manual_seed(0)
    device = torch.device("cpu")
    assert model.draw_latent_noise(source, 3, device).shape == (2 * STEPS - 1, 3, SIZE)
    assert model.draw_rollout_noise(source, 3, device).shape == (STEPS - 1, 3, SIZE)


def test_kl_divergence_in_single_precision():
    source = torch.Generator().manual_seed(0)
    mean, other = torch.randn(2, 1000, generator=source)
    std, wide = torch.rand(2, 1000, generator=source) + 0.1
    expected = kl_divergence(Normal(mean.double(), std.double()), Normal(other.double(), wide.double()))
    ours = our_kl(Gaussian(mean, std), Gaussian(other, wide))
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"min_var": -0.1}, "model.min_var"),
        ({"free_nats": -1.0}, "model.free_nats"),
        ({"reparameterize": "yes"}, "model.reparameterize"),
        ({"shapes": DataShapes(1, 1, 9, 1, 2)}, "dataset.num_steps"),
    ],
)
def test_settings_are_checked(changes, match):
    with pytest.raises(ConfigError, match=match):
        build(**changes)
