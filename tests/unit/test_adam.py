"""Adam and AdamW against torch.optim, row for row."""

import pytest
import torch

from jepa.errors import ConfigError
from jepa.optim import Adam, AdamW, Constant, FlatLayout

LAYOUT = FlatLayout(["weight", "bias"], [(6, 4), (5,)])
SETTINGS = {"base_lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1, "clip_grad_norm": 2.0}


def build(kind, **changes):
    return kind(**{"scale_lr_with_batch": False, "schedule": Constant(), **SETTINGS, **changes})


def hyper_of(optimizers):
    rows = [optimizer.hyperparameters() for optimizer in optimizers]
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def torch_steps(kind, start, grads, rates, settings):
    """What torch.optim makes of one job's parameters [P]."""
    param = torch.nn.Parameter(start.clone())
    optimizer = kind(
        [param],
        lr=1.0,
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
    )
    for grad, rate in zip(grads, rates, strict=True):
        param.grad = grad.clone()
        if settings["clip_grad_norm"] is not None:
            torch.nn.utils.clip_grad_norm_([param], settings["clip_grad_norm"])
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.step()
    return param.detach()


@pytest.mark.parametrize(("ours", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
@pytest.mark.parametrize("clip", [2.0, None])
def test_matches_torch_for_jobs_with_settings_of_their_own(ours, theirs, clip):
    changes = [{}, {"beta1": 0.5, "weight_decay": 0.0}, {"beta2": 0.95, "eps": 1e-3}, {"beta1": 0.0}]
    optimizers = [build(ours, **{"clip_grad_norm": clip, **change}) for change in changes]
    source = torch.Generator().manual_seed(0)
    params = torch.randn(4, LAYOUT.num_elements, generator=source)
    grads = torch.randn(20, 4, LAYOUT.num_elements, generator=source)  # norms around 5: above the limit
    grads[7] *= 1e-2  # ... and below it
    rates = torch.rand(20, 4, generator=source) * 0.01
    expected = [
        torch_steps(theirs, params[job], grads[:, job], rates[:, job], {**SETTINGS, "clip_grad_norm": clip, **change})
        for job, change in enumerate(changes)
    ]
    state = optimizers[0].init_state(params)
    for grad, rate in zip(grads, rates, strict=True):
        optimizers[0].update(params, grad.clone(), state, rate, hyper_of(optimizers), LAYOUT)
    torch.testing.assert_close(params, torch.stack(expected), rtol=1e-6, atol=1e-6)
    assert state["step"].tolist() == [20.0] * 4


def test_fp32_keeps_the_first_step_exact():
    """The first step is the learning rate times the gradient's sign, whatever beta2."""
    optimizer = build(Adam, weight_decay=0.0, beta2=0.99999, clip_grad_norm=None)
    params = torch.zeros(1, LAYOUT.num_elements)
    grads = torch.randn(1, LAYOUT.num_elements, generator=torch.Generator().manual_seed(0))
    optimizer.update(
        params, grads.clone(), optimizer.init_state(params), torch.tensor([1.0]), hyper_of([optimizer]), LAYOUT
    )
    torch.testing.assert_close(params, -grads.sign(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_a_job_in_a_pack_has_the_bits_it_has_alone(kind):
    layout = FlatLayout(["weight"], [(300, 401)])
    optimizer = build(kind)
    source = torch.Generator().manual_seed(0)
    packed = torch.randn(3, layout.num_elements, generator=source)
    grads = torch.randn(3, 3, layout.num_elements, generator=source)
    alone = [packed[job : job + 1].clone() for job in range(3)]
    rate = torch.tensor([1e-3, 1e-2, 1e-1])
    state = optimizer.init_state(packed)
    states = [optimizer.init_state(params) for params in alone]
    for grad in grads:
        for job in range(3):
            row, own = grad[job : job + 1].clone(), rate[job : job + 1]
            optimizer.update(alone[job], row, states[job], own, hyper_of([optimizer]), layout)
        optimizer.update(packed, grad.clone(), state, rate, hyper_of([optimizer] * 3), layout)
    assert torch.equal(torch.cat(alone), packed)


def test_no_clipping_means_no_key():
    assert "clip_grad_norm" not in build(Adam, clip_grad_norm=None).hyperparameters()


@pytest.mark.parametrize(("key", "value"), [("beta1", 1.0), ("beta2", -0.1), ("eps", 0), ("clip_grad_norm", 0.0)])
def test_settings_are_checked(key, value):
    with pytest.raises(ConfigError, match=f"optimizer.{key}"):
        build(Adam, **{key: value})
