"""Schedules against their definition, step by step."""

import math

import pytest
import torch

from jepa.errors import ConfigError
from jepa.optim import Constant, WarmupCosine


def reference_factor(step, num_steps, num_warmup, final):
    if step < num_warmup:
        return step / num_warmup
    cosine = 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / (num_steps - 1 - num_warmup)))
    return cosine + final * (1 - cosine)


def test_warmup_cosine_matches_its_definition():
    factors = WarmupCosine(warmup_epochs=10, final_factor=0.001).factors(600, 20)
    expected = torch.tensor([reference_factor(s, 600, 200, 0.001) for s in range(600)], dtype=torch.float64)
    assert factors.dtype == torch.float64 and factors.shape == (600,)
    torch.testing.assert_close(factors, expected, rtol=1e-12, atol=1e-15)


def test_warmup_cosine_at_its_corners():
    factors = WarmupCosine(warmup_epochs=10, final_factor=0.001).factors(600, 20)
    assert factors[0] == 0.0 and factors[100] == 0.5 and factors[200] == 1.0
    assert factors[-1] == pytest.approx(0.001, rel=1e-9)
    assert (factors[200:].diff() < 0).all()


def test_fractions_of_an_epoch_and_no_warmup():
    assert WarmupCosine(warmup_epochs=0.5, final_factor=0.0).factors(20, 10)[:6].tolist() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert WarmupCosine(warmup_epochs=0, final_factor=0.0).factors(1, 10).tolist() == [1.0]


def test_a_warmup_that_never_ends_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer.schedule.warmup_epochs=10: must be less than the run's 3 epochs"):
        WarmupCosine(warmup_epochs=10, final_factor=0.001).factors(60, 20)


def test_nothing_to_train_needs_no_factors():
    assert WarmupCosine(warmup_epochs=10, final_factor=0.001).factors(0, 20).shape == (0,)
    assert Constant().factors(0, 20).shape == (0,)


def test_constant():
    assert Constant().factors(7, 3).tolist() == [1.0] * 7


@pytest.mark.parametrize("changes", [{"warmup_epochs": -1}, {"final_factor": 1.5}, {"warmup_epochs": "ten"}])
def test_settings_are_checked(changes):
    with pytest.raises(ConfigError, match="optimizer.schedule"):
        WarmupCosine(**{"warmup_epochs": 10, "final_factor": 0.001, **changes})
