"""Dots that bounce: their law against one written number by number, what follows from it, and their reference lines."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from environment_samples import KEYS

from jepa.data.bouncing import BouncingDots, reflected
from jepa.data.stream import Stream
from jepa.errors import ConfigError

LOW, HIGH = 2.6, 24.4
NUM_SEQUENCES = 20_000


def bouncing(**changes: Any) -> BouncingDots:
    return BouncingDots(**{**KEYS, "friction": 0.2, "push": 1.5, **changes})


def slow_walk(start: float, pushes: np.ndarray, friction: float) -> list[tuple[float, float]]:
    """(location, velocity) of one coordinate at every step: each bounce is carried out by itself."""
    location, velocity, path = float(start), 0.0, [(float(start), 0.0)]
    for push in pushes:
        velocity = (1 - friction) * velocity + float(push)
        location += velocity
        while not LOW <= location <= HIGH:
            location = 2 * LOW - location if location < LOW else 2 * HIGH - location
            velocity = -velocity
        path.append((location, velocity))
    return path


@pytest.mark.parametrize(("friction", "scale"), [(0.2, 2.0), (0.0, 9.0), (1.0, 30.0)])  # the last bounces twice a step
def test_walk_and_steps_equal_a_slow_walk(friction: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    start, pushes = rng.uniform(LOW, HIGH, (6, 2)), rng.normal(0, scale, (16, 6, 2))
    expected = np.array(
        [[slow_walk(start[b, c], pushes[:, b, c], friction) for c in range(2)] for b in range(6)]
    )  # [B, 2, T, (location, velocity)]
    world = bouncing(friction=friction)
    found = world.walk(torch.from_numpy(start), torch.from_numpy(pushes))
    np.testing.assert_allclose(found.numpy(), expected[..., 0].transpose(2, 0, 1), rtol=0, atol=1e-9)
    states = world.start(torch.from_numpy(start))
    for step, push in enumerate(torch.from_numpy(pushes), start=1):
        states = world.step(states, push)
        np.testing.assert_allclose(states[:, :2].numpy(), expected[:, :, step, 0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(states[:, 2:].numpy(), expected[:, :, step, 1], rtol=0, atol=1e-9)


def test_a_bounce_turns_the_velocity_of_its_own_coordinate_alone() -> None:
    locations, velocities = reflected(torch.tensor([25.4, 10.0]), torch.tensor([3.0, -2.0]), LOW, HIGH)
    assert locations.tolist() == pytest.approx([23.4, 10.0]) and velocities.tolist() == [-3.0, -2.0]


def test_energy_is_kept_without_friction_and_pushes() -> None:
    world = bouncing(friction=0.0)
    states = torch.tensor([[5.0, 20.0, 7.0, -3.0]], dtype=torch.float64)
    for _ in range(50):
        states = world.step(states, torch.zeros(1, 2, dtype=torch.float64))
        assert states[:, 2:].abs().tolist() == [[7.0, 3.0]]
        assert states[:, :2].min() >= LOW and states[:, :2].max() <= HIGH


def test_locations_stay_uniform_and_pushes_have_the_moments_of_their_law() -> None:
    """Each moment at each step within five standard errors: the normalisation of the data rests on it."""
    world = bouncing()
    motion = world.draw_motion(torch.Generator().manual_seed(0), NUM_SEQUENCES, num_dots=1)
    locations, pushes = (values[:, :, 0].double() for values in world.trajectories(motion))
    width, count = HIGH - LOW, 2 * NUM_SEQUENCES
    for step in (0, 1, 4, 16):
        values = (locations[step] - 13.5) / width
        assert abs(values.mean()) < 5 * math.sqrt(1 / 12 / count)
        assert abs(values.square().mean() - 1 / 12) < 5 * math.sqrt((1 / 80 - 1 / 144) / count)
    lengths = pushes.norm(dim=-1)
    assert lengths.max() <= 1.5 and abs(lengths.mean() - 0.75) < 5 * 1.5 / math.sqrt(12 * lengths.numel())
    assert float(pushes.square().mean()) == pytest.approx(world.action_std**2, rel=0.01)
    assert abs(pushes.mean()) < 0.01 and abs((pushes[1:] * pushes[:-1]).mean()) < 0.01


def linear_rmse(known: np.ndarray, locations: np.ndarray) -> float:
    """RMSE, px, of the best linear guess of ``locations`` [N, T, 2] from ``known`` [N, F] and a constant."""
    features = np.concatenate((known, np.ones((len(known), 1))), axis=1)
    wanted = locations.reshape(len(locations), -1)
    weights = np.linalg.lstsq(features, wanted, rcond=None)[0]
    return float(np.sqrt(np.square(wanted - features @ weights).mean() * 2))


def test_the_reference_lines_are_those_of_its_own_law() -> None:
    """The law simulated in numpy, and general regressions on it; within 1 %."""
    rng = np.random.default_rng(0)
    angles, lengths = rng.uniform(0, 2 * np.pi, (16, NUM_SEQUENCES)), rng.uniform(0, 1.5, (16, NUM_SEQUENCES))
    pushes = lengths[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    path, velocity = [rng.uniform(LOW, HIGH, (NUM_SEQUENCES, 2))], np.zeros((NUM_SEQUENCES, 2))
    for push in pushes:
        velocity = 0.8 * velocity + push
        free = path[-1] + velocity
        outside = (free < LOW) | (free > HIGH)
        path.append(np.where(free < LOW, 2 * LOW - free, np.where(free > HIGH, 2 * HIGH - free, free)))
        velocity = np.where(outside, -velocity, velocity)
    locations = np.stack(path, axis=1)
    start, moves = locations[:, 0], pushes.transpose(1, 0, 2).reshape(NUM_SEQUENCES, -1)
    expected = {
        "always the centre": linear_rmse(start[:, :0], locations),
        "actions alone": linear_rmse(moves, locations),
        "start alone": linear_rmse(start, locations),
        "start and actions, linear": linear_rmse(np.concatenate([start, moves], axis=1), locations),
    }
    found = {line["name"]: line["rmse_px"] for line in bouncing().reference_lines()["prediction"]["lines"]}
    assert found == pytest.approx(expected, rel=0.01)
    assert found["always the centre"] == pytest.approx(21.8 * math.sqrt(2 / 12), rel=0.005)  # uniform at every step


def test_three_dots_are_pushed_unseen_and_at_rest() -> None:
    world = bouncing(num_dots=3, channels=3, normalize=False)
    batch = Stream(world, 0, "train", None, "cpu").next()
    locations = batch.locations
    assert torch.equal(locations[0, :, 2], locations[-1, :, 2])
    assert not torch.equal(locations[0, :, 1], locations[-1, :, 1])
    assert world.reference_lines()["dots"] == ["action", "random", "stationary"]
    torch.testing.assert_close(world.walk(locations[0, :, 0], batch.actions), locations[:, :, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"friction": 1.1}, r"dataset\.friction=1\.1: must be at least 0 and at most 1"),
        ({"push": 0}, r"dataset\.push=0: must be at least 0\.01"),
        ({"push": "hard"}, r"dataset\.push='hard': must be a finite number"),
        ({"num_dots": 4}, r"dataset\.num_dots=4"),
    ],
)
def test_values_that_cannot_be_used_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bouncing(**changes)
