"""LARS against a slow reference, row for row, and the flat layout it works on."""

import pytest
import torch

from jepa.errors import ConfigError
from jepa.optim import LARS, Constant, FlatLayout

SHAPES = {"conv": (4, 3, 5, 5), "norm": (7,), "bias": (3,), "linear": (33, 17), "dead": (5, 5)}
LAYOUT = FlatLayout(list(SHAPES), list(SHAPES.values()))
SETTINGS = {"momentum": 0.9, "weight_decay": 1e-2, "trust_coefficient": 1e-3}


def lars(**changes):
    return LARS(**{"base_lr": 1.4, "scale_lr_with_batch": True, "schedule": Constant(), **SETTINGS, **changes})


def hyper_of(optimizers):
    rows = [optimizer.hyperparameters() for optimizer in optimizers]
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def reference_step(params, grads, momenta, learning_rate, *, momentum, weight_decay, trust_coefficient):
    """LARS with numbers of Python, tensor by tensor; returns new params and momenta."""
    new_params, new_momenta = [], []
    for p, g, m in zip(params, grads, momenta, strict=True):
        if p.ndim > 1:
            g = g + weight_decay * p
            p_norm, g_norm = float((p**2).sum() ** 0.5), float((g**2).sum() ** 0.5)
            if p_norm > 0 and g_norm > 0:
                g = g * trust_coefficient * p_norm / g_norm
        m = momentum * m + g
        new_momenta.append(m)
        new_params.append(p - learning_rate * m)
    return new_params, new_momenta


def random_case(num_jobs, seed=0):
    """Parameters and three gradients [J, P]; the matrix "dead" is 0, and has no gradient in the first job."""
    source = torch.Generator().manual_seed(seed)
    params = torch.randn(num_jobs, LAYOUT.num_elements, generator=source)
    grads = torch.randn(3, num_jobs, LAYOUT.num_elements, generator=source)
    LAYOUT.views(params)["dead"].zero_()
    for grad in grads:
        LAYOUT.views(grad)["dead"][0].zero_()
    return params, grads


def test_three_steps_of_three_jobs_with_settings_of_their_own():
    optimizers = [lars(), lars(momentum=0.5, weight_decay=0.3), lars(trust_coefficient=0.1, base_lr=0.2)]
    params, grads = random_case(3)
    rates = [torch.tensor([0.1, 0.7, 0.3]), torch.tensor([0.2, 0.1, 0.0]), torch.tensor([1.0, 0.4, 0.5])]
    expected = []
    for job, optimizer in enumerate(optimizers):
        settings = optimizer.hyperparameters()
        del settings["base_lr"]
        own = [view[job].double() for view in LAYOUT.views(params).values()]
        momenta = [torch.zeros_like(p) for p in own]
        for grad, rate in zip(grads, rates, strict=True):
            own_grads = [view[job].double() for view in LAYOUT.views(grad).values()]
            own, momenta = reference_step(own, own_grads, momenta, float(rate[job]), **settings)
        expected.append(LAYOUT.flatten(own))
    state = optimizers[0].init_state(params)
    for grad, rate in zip(grads, rates, strict=True):
        optimizers[0].update(params, grad.clone(), state, rate, hyper_of(optimizers), LAYOUT)
    torch.testing.assert_close(params.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_a_job_in_a_pack_has_the_bits_it_has_alone():
    params, grads = random_case(5, seed=1)
    optimizer = lars()
    packed = params.clone()
    state = optimizer.init_state(packed)
    rate = torch.linspace(0.1, 1.0, 5)
    for grad in grads:
        optimizer.update(packed, grad.clone(), state, rate, hyper_of([optimizer] * 5), LAYOUT)
    for job in range(5):
        alone = params[job : job + 1].clone()
        own = optimizer.init_state(alone)
        for grad in grads:
            row = grad[job : job + 1].clone()
            optimizer.update(alone, row, own, rate[job : job + 1], hyper_of([optimizer]), LAYOUT)
        assert torch.equal(alone[0], packed[job])


def test_a_nan_row_leaves_the_others_alone():
    params, grads = random_case(2)
    grads[0][0] = float("nan")
    optimizer = lars()
    optimizer.update(params, grads[0], optimizer.init_state(params), torch.ones(2), hyper_of([optimizer] * 2), LAYOUT)
    assert params[0].isnan().all() and params[1].isfinite().all()


def test_learning_rate_scales_with_the_batch():
    assert lars(base_lr=0.4).scaled_lr(16) == pytest.approx(0.025)
    assert lars(base_lr=0.4, scale_lr_with_batch=False).scaled_lr(16) == 0.4


@pytest.mark.parametrize(
    ("key", "value"),
    [("base_lr", 0.0), ("momentum", 1.5), ("weight_decay", -1e-6), ("trust_coefficient", 0), ("momentum", "high")],
)
def test_settings_are_checked(key, value):
    with pytest.raises(ConfigError, match=f"optimizer.{key}"):
        lars(**{key: value})


def test_layout_views_and_flatten_are_inverse():
    flat = torch.randn(2, LAYOUT.num_elements)
    views = LAYOUT.views(flat)
    assert {name: tuple(view.shape[1:]) for name, view in views.items()} == SHAPES
    assert torch.equal(LAYOUT.flatten(list(views.values()), leading=1), flat)
    single = LAYOUT.views(flat[1])
    assert all(torch.equal(single[name], views[name][1]) for name in SHAPES)
    assert torch.equal(LAYOUT.flatten(list(single.values())), flat[1])
    views["norm"].zero_()
    assert LAYOUT.slice(flat, 1).eq(0).all() and flat.eq(0).sum() == 14
    with pytest.raises(ValueError, match="do not fill"):
        LAYOUT.flatten(list(views.values())[1:], leading=1)


def test_gradients_flow_through_views():
    flat = torch.randn(2, LAYOUT.num_elements, requires_grad=True)
    sum((view**2).sum() for view in LAYOUT.views(flat).values()).backward()
    torch.testing.assert_close(flat.grad, 2 * flat.detach())
