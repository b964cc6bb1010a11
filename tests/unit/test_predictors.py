"""Predictors against slow references written from the definitions, one sequence step after the other."""

from functools import partial

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from jepa.errors import ConfigError
from jepa.models.predictors import RNN, IdentityPredictor, MLPPredictor, RNNBurnIn

T, B, D, A = 6, 4, 5, 2
SIZES = {"embedding_size": D, "action_size": A}
KINDS = {
    "rnn": partial(RNN, num_layers=1),
    "rnn of 4 layers": partial(RNN, num_layers=4),
    "burn-in of 2": partial(RNNBurnIn, num_layers=1, burn_in=2),
    "burn-in of 4, 2 layers": partial(RNNBurnIn, num_layers=2, burn_in=4),
    "mlp": partial(MLPPredictor, hidden="8-7"),
    "mlp without hidden layers": partial(MLPPredictor, hidden=""),
    "identity": IdentityPredictor,
}


def build(kind):
    torch.manual_seed(0)
    return KINDS[kind](**SIZES)


def data(seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(T, B, D, generator=source), torch.randn(T - 1, B, A, generator=source)


def torch_gru(predictor):
    """torch's own GRU with the predictor's weights."""
    gru = torch.nn.GRU(predictor.rnn.layer(0)[0].shape[1], D, predictor.rnn.num_layers)
    gru.load_state_dict(predictor.rnn.state_dict())
    return gru


def rnn_reference(predictor, encodings, actions):
    start = torch.stack([encodings[0]] * predictor.rnn.num_layers)
    return torch_gru(predictor)(actions, start)[0]


def burn_in_reference(predictor, encodings, actions):
    gru, hidden = torch_gru(predictor), torch.zeros(predictor.rnn.num_layers, B, D)
    latest, predictions = None, []
    for t in range(T - 1):
        shown = encodings[t] if t < predictor.burn_in else latest
        _, hidden = gru(torch.cat([shown, actions[t]], dim=1).unsqueeze(0), hidden)
        latest = predictor.output_projector(hidden[-1])
        predictions.append(latest)
    return torch.stack(predictions)


def mlp_reference(predictor, encodings, actions):
    latest, predictions = encodings[0], []
    for t in range(T - 1):
        latest = latest + predictor.model(torch.cat([latest, actions[t]], dim=1))
        predictions.append(latest)
    return torch.stack(predictions)


def identity_reference(predictor, encodings, actions):
    return torch.stack([encodings[0]] * (T - 1))


REFERENCES = {"rnn": rnn_reference, "bur": burn_in_reference, "mlp": mlp_reference, "ide": identity_reference}


@pytest.mark.parametrize("kind", KINDS)
def test_against_the_reference(kind):
    predictor = build(kind).eval()
    expected = REFERENCES[kind[:3]](predictor, *data())
    torch.testing.assert_close(predictor(*data()), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_later_frame_is_shown(kind):
    predictor = build(kind).eval()
    encodings, actions = data()
    changed = encodings.clone()
    changed[predictor.burn_in :] += 1
    torch.testing.assert_close(predictor(changed, actions), predictor(encodings, actions), rtol=0, atol=0)
    shown = encodings[: predictor.burn_in]
    torch.testing.assert_close(predictor(shown, actions), predictor(encodings, actions), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "identity"])
def test_gradients_reach_encodings_and_parameters(kind):
    predictor = build(kind)
    encodings, actions = data()
    encodings.requires_grad_()
    predictor(encodings, actions).square().sum().backward()
    assert encodings.grad[: predictor.burn_in].abs().amin(dim=(1, 2)).shape == (predictor.burn_in,)
    assert encodings.grad[: predictor.burn_in].any() and not encodings.grad[predictor.burn_in :].any()
    assert all(parameter.grad is not None for parameter in predictor.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_packed_jobs_are_the_jobs_alone(kind):
    jobs = [KINDS[kind](**SIZES) for _ in range(3)]
    params, buffers = stack_module_state(jobs)
    encodings, actions = (torch.stack(values) for values in zip(*(data(seed) for seed in range(3)), strict=True))

    def predict(job_params, job_buffers, *inputs):
        return functional_call(jobs[0], (job_params, job_buffers), inputs)

    together = vmap(predict)(params, buffers, encodings, actions)
    grads = torch.autograd.grad(together.square().sum(), list(params.values())) if params else []
    for j, job in enumerate(jobs):
        alone = job(encodings[j], actions[j])
        torch.testing.assert_close(together[j], alone, rtol=1e-4, atol=1e-5)
        singles = torch.autograd.grad(alone.square().sum(), list(job.parameters())) if params else []
        for stacked, single in zip(grads, singles, strict=True):
            torch.testing.assert_close(stacked[j], single, rtol=1e-3, atol=1e-4)
        for name, value in job.named_buffers():
            torch.testing.assert_close(buffers[name][j], value, rtol=1e-4, atol=1e-5)


def test_names_are_those_of_the_original():
    assert set(build("rnn").state_dict()) == {
        f"rnn.{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    assert {"rnn.weight_ih_l1", "output_projector.weight"} <= set(build("burn-in of 4, 2 layers").state_dict())
    assert build("mlp").model[-1].bias is None and build("mlp").model[0].weight.shape == (8, D + A)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("rnn", {"num_layers": 0}, r"model\.predictor\.num_layers=0"),
        ("burn-in of 2", {"burn_in": 1}, r"model\.predictor\.burn_in=1: must be at least 2"),
        ("mlp", {"hidden": "12,3"}, r"model\.predictor\.hidden='12,3'"),
    ],
)
def test_errors_name_the_key(kind, changes, message):
    with pytest.raises(ConfigError, match=message):
        KINDS[kind](**SIZES, **changes)
