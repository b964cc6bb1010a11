"""Dots with inertia: their law against one written number by number, and its limit, the study's motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from environment_samples import KEYS, moving_dots

from jepa.data.momentum import MomentumDots
from jepa.data.stream import Stream
from jepa.errors import ConfigError

LOW, HIGH = 2.6, 24.4


def world(momentum: float, **changes: object) -> MomentumDots:
    return MomentumDots(**{**KEYS, "momentum": momentum, **changes})  # type: ignore[arg-type]


def slow_walk(start: float, actions: np.ndarray, momentum: float) -> list[float]:
    """One coordinate of the location at every step."""
    location, velocity, path = float(start), 0.0, [float(start)]
    for action in actions:
        velocity = momentum * velocity + (1 - momentum) * float(action)
        if LOW <= location + velocity <= HIGH:
            location += velocity
        else:
            location, velocity = LOW if location + velocity < LOW else HIGH, 0.0
        path.append(location)
    return path


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
def test_a_walk_equals_a_slow_walk(momentum: float) -> None:
    rng = np.random.default_rng(0)
    start, actions = rng.uniform(LOW, HIGH, (6, 2)), rng.normal(0, 8, (16, 6, 2))
    expected = [[slow_walk(start[b, c], actions[:, b, c], momentum) for c in range(2)] for b in range(6)]
    found = world(momentum).walk(torch.from_numpy(start), torch.from_numpy(actions))
    np.testing.assert_allclose(found.numpy(), np.array(expected).transpose(2, 0, 1), rtol=0, atol=1e-9)


def test_without_momentum_batches_are_those_of_the_study() -> None:
    ours, theirs = (Stream(one, 3, "train", None, "cpu").next() for one in (world(0.0), moving_dots()))
    assert torch.equal(ours.states, theirs.states) and torch.equal(ours.locations, theirs.locations)


def test_a_steady_force_leads_to_its_own_velocity() -> None:
    states = world(0.5).start(torch.tensor([[5.0, 5.0]], dtype=torch.float64))
    for _ in range(30):
        states = world(0.5).step(states, torch.tensor([[0.4, 0.2]], dtype=torch.float64))
    assert states[0, 2:].tolist() == pytest.approx([0.4, 0.2], rel=1e-6)


def test_a_momentum_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.momentum=1: must be at least 0 and at most 0\.99"):
        world(1)
