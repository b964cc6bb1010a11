"""The environment against arrays and moments computed by the original code (``environment.npz``)."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from environment_samples import moving_dots

from jepa.data.render import render
from jepa.data.stream import Stream

GOLDEN = dict(np.load(Path(__file__).parent / "environment.npz"))
STDS = (1.3, 2.0)


def golden(dot_std: float, name: str) -> torch.Tensor:
    """An array of ``environment.npz`` with time in front of the batch."""
    array = torch.from_numpy(GOLDEN[f"std{dot_std}/{name}"])
    return array if name == "start" else array.movedim(1, 0)


@pytest.mark.parametrize("dot_std", STDS)
def test_padding(dot_std: float) -> None:
    assert moving_dots(dot_std=dot_std).padding == GOLDEN[f"std{dot_std}/padding"]


@pytest.mark.parametrize("dot_std", STDS)
def test_clipped_walk(dot_std: float) -> None:
    found = moving_dots(dot_std=dot_std).walk(golden(dot_std, "start"), golden(dot_std, "actions"))
    torch.testing.assert_close(found, golden(dot_std, "locations").squeeze(-2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dot_std", STDS)
def test_rendering(dot_std: float) -> None:
    found = render(golden(dot_std, "locations"), 28, dot_std)
    torch.testing.assert_close(found.squeeze(2), golden(dot_std, "frames").squeeze(2), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dot_std", STDS)
def test_normalisation(dot_std: float) -> None:
    locations, normalized = golden(dot_std, "locations"), golden(dot_std, "normalized_locations")
    world = moving_dots(dot_std=dot_std)
    torch.testing.assert_close(world.area.normalize(locations), normalized, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(world.unnormalize_locations(normalized), locations, rtol=1e-5, atol=1e-5)
    actions = golden(dot_std, "actions") / world.action_std
    torch.testing.assert_close(actions, golden(dot_std, "normalized_actions"), rtol=1e-6, atol=1e-6)


def assert_same_mean(name: str, per_sequence: torch.Tensor, sample_size: int) -> None:
    """The mean of independent ``per_sequence`` values is the original's, within five standard errors of the difference.

    ``sample_size``: the number of sequences behind the original's figure.
    """
    error = float(per_sequence.double().std()) * math.sqrt(1 / len(per_sequence) + 1 / sample_size)
    assert float(per_sequence.double().mean()) == pytest.approx(float(GOLDEN[f"moments/{name}"]), rel=0, abs=5 * error)


def test_moments_of_actions() -> None:
    generator = torch.Generator().manual_seed(0)
    world = moving_dots()
    _, actions = world.trajectories(world.draw_motion(generator, 20_000, num_dots=1))
    actions = actions[:, :, 0].double()
    lengths = actions.norm(dim=-1)
    assert_same_mean("step_length_mean", lengths.mean(0), 20_000)
    assert float(lengths.max()) == pytest.approx(float(GOLDEN["moments/step_length_max"]), abs=1e-3)
    # a standard deviation: compare mean squares (the mean is 0), whose error follows from the sequences' own
    squares = actions.square().mean((0, 2))
    error = float(squares.std()) * math.sqrt(2 / 20_000)
    assert float(squares.mean()) == pytest.approx(float(GOLDEN["moments/action_std"]) ** 2, abs=5 * error)
    # One pair of steps a sequence: over all pairs the original's figure (0.0017) lies six standard errors below what
    # its own von Mises law has for kappa = 0.2 (0.0099), which test_motion.py holds this sampler to.
    units = actions / lengths.unsqueeze(-1)
    assert_same_mean("cos_between_consecutive_directions", (units[1] * units[0]).sum(-1), 20_000)


@pytest.mark.parametrize(
    ("name", "noise", "static_noise"),
    [("clean", 0.0, 0.0), ("changing_1", 1.0, 0.0), ("fixed_1_25", 0.0, 1.25), ("both", 0.5, 0.5)],
)
def test_moments_of_frames(name: str, noise: float, static_noise: float) -> None:
    world = moving_dots(noise=noise, static_noise=static_noise, batch_size=512, size=512, normalize=False)
    stream = Stream(world, 0, "train", None, "cpu")
    means, squares = [], []
    for _ in range(20):
        states = stream.next().states
        means.append(states.mean((0, 2, 3, 4)))
        squares.append(states.square().mean((0, 2, 3, 4)))
    mean, square = torch.cat(means).double(), torch.cat(squares).double()
    assert_same_mean(f"{name}/frame_mean", mean, 20 * 512)
    # by the delta method, the error of std = sqrt(E s - (E m)^2) is that of (s - 2 E[m] m) / (2 std)
    std = float((square.mean() - mean.mean() ** 2).sqrt())
    influence = (square - 2 * mean.mean() * mean) / (2 * std)
    error = float(influence.std()) * math.sqrt(2 / (20 * 512))
    assert std == pytest.approx(float(GOLDEN[f"moments/{name}/frame_std"]), rel=0, abs=5 * error)
