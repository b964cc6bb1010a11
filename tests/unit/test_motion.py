"""Motion: the sampler of directions against numerical integration, the walk against a slow walk, the moments."""

import math

import numpy as np
import pytest
import torch
from environment_samples import moving_dots
from torch import Tensor

from jepa.data.motion import von_mises_quantile

PADDING = 2.6


def distribution_function(angles: np.ndarray, concentration: float) -> np.ndarray:
    """The von Mises distribution function on (-pi, pi), by trapezoids from its density."""
    grid = np.linspace(-np.pi, np.pi, 400_001)
    density = np.exp(concentration * np.cos(grid))
    cumulative = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    return np.interp(angles, grid, cumulative / cumulative[-1])


def uniforms_of(seed: int, *, batch_size: int, num_dots: int = 1, num_steps: int = 17) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return moving_dots(num_steps=num_steps).draw_motion(generator, batch_size, num_dots)


@pytest.mark.parametrize("concentration", [0.0, 0.05, 0.2])
def test_quantile_inverts_the_distribution_function(concentration: float) -> None:
    uniforms = torch.linspace(0.0, 1.0, 2001, dtype=torch.float64)
    angles = von_mises_quantile(uniforms, concentration)
    found = distribution_function(angles.numpy(), concentration)
    np.testing.assert_allclose(found, uniforms.numpy(), rtol=0, atol=1e-9)


def test_quantile_in_single_precision_stays_close_to_double() -> None:
    uniforms = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    exact = von_mises_quantile(uniforms.double())
    torch.testing.assert_close(von_mises_quantile(uniforms).double(), exact, rtol=0, atol=1e-6)
    assert exact.abs().max() <= math.pi


def test_walk_equals_a_slow_walk() -> None:
    generator = np.random.default_rng(0)
    start = generator.uniform(2.6, 24.4, (5, 2)).astype(np.float32)
    actions = generator.normal(0, 5, (16, 5, 2)).astype(np.float32)
    expected = [start]
    for action in actions:
        moved = [
            [min(max(float(x + dx), 2.6), 24.4) for x, dx in zip(location, step, strict=True)]
            for location, step in zip(expected[-1], action, strict=True)
        ]
        expected.append(np.asarray(moved, np.float32))
    found = moving_dots().walk(torch.from_numpy(start), torch.from_numpy(actions))
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=1e-6)


@pytest.mark.parametrize("num_dots", [1, 2, 3])
def test_shapes_and_the_stationary_dot(num_dots: int) -> None:
    uniforms = uniforms_of(0, batch_size=4, num_dots=num_dots, num_steps=6)
    locations, actions = moving_dots(num_steps=6).trajectories(uniforms)
    assert locations.shape == (6, 4, num_dots, 2)
    assert actions.shape == (5, 4, num_dots, 2)
    expected = (locations[:-1] + actions).clamp(PADDING, 27 - PADDING)
    torch.testing.assert_close(locations[1:], expected, rtol=0, atol=0)
    moved = (actions != 0).flatten(0, 1).any(0).any(-1)
    assert moved.tolist() == [True, True, False][:num_dots]


def test_dots_move_independently() -> None:
    _, actions = moving_dots().trajectories(uniforms_of(0, batch_size=4000, num_dots=3))
    correlation = torch.corrcoef(actions[:, :, :2, 0].flatten(0, 1).T)[0, 1]
    assert correlation.abs() < 5 / math.sqrt(4000 * 16)


def test_moments_of_starts_lengths_and_directions() -> None:
    """Each moment within five standard errors of the value that the law of motion implies."""
    batch_size = 20_000
    locations, actions = moving_dots().trajectories(uniforms_of(1, batch_size=batch_size))
    start, steps = locations[0, :, 0].double(), actions[:, :, 0].double()
    width = 27 - 2 * PADDING
    assert start.min() >= PADDING - 1e-6 and start.max() <= 27 - PADDING + 1e-6
    assert abs(start.mean() - 13.5) < 5 * width / math.sqrt(12 * start.numel())
    variance_error = width**2 * math.sqrt((1 / 80 - 1 / 144) / start.numel())  # of U: E[(u - 1/2)^4] = 1/80
    assert abs(start.var() - width**2 / 12) < 5 * variance_error

    lengths = steps.norm(dim=-1)
    assert abs(lengths.mean() - 2) < 5 * 4 / math.sqrt(12 * lengths.numel())
    assert lengths.max() <= 4 + 1e-5

    units = steps / lengths.unsqueeze(-1)
    for lag in (1, 7):  # E cos(difference) = (I_1 / I_0)^2 at kappa = 0.2, whatever the lag
        cosines = (units[lag:] * units[:-lag]).sum(-1).mean(0)
        error = cosines.std() / math.sqrt(batch_size)
        assert abs(cosines.mean() - 0.0990066**2 / 0.9900997) < 5 * error + 1e-4
    assert units.mean(0).mean(0).abs().max() < 5 * units.mean(0)[:, 0].std() / math.sqrt(batch_size)


def test_draws_follow_from_the_generator_alone() -> None:
    assert torch.equal(uniforms_of(3, batch_size=8), uniforms_of(3, batch_size=8))
    assert not torch.equal(uniforms_of(3, batch_size=8), uniforms_of(4, batch_size=8))
