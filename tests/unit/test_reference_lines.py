"""SPEC §7's reference lines, recomputed from this project's simulator by numpy: a check of the whole environment."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from jepa.data.motion import draw_motion, trajectories

NUM_SEQUENCES = 20_000
PADDING = 2.6
CENTRE = 13.5
TOLERANCE_PX = 0.05

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def simulated() -> tuple[Array, Array]:
    """Locations [N, T, 2] about the centre and actions [N, T-1, 2] of one dot, px."""
    generator = torch.Generator().manual_seed(0)
    uniforms = draw_motion(generator, num_steps=17, batch_size=NUM_SEQUENCES, num_dots=1, device="cpu")
    locations, actions = (
        value[:, :, 0].transpose(0, 1).double().numpy() for value in trajectories(uniforms, padding=PADDING)
    )
    return locations - CENTRE, actions


def rmse(errors: Array) -> float:
    """Root of the mean over sequences and time of squared distances; ``errors`` [N, T, 2] px."""
    return float(np.sqrt(np.square(errors).sum(-1).mean()))


def linear_rmse(features: Array, locations: Array) -> float:
    """The RMSE of the best linear guess of all ``locations`` [N, T, 2] from ``features`` [N, F] and a constant."""
    features = np.concatenate((features, np.ones((len(features), 1))), axis=1)
    targets = locations.reshape(len(locations), -1)
    weights = np.linalg.solve(features.T @ features, features.T @ targets)
    return rmse((targets - features @ weights).reshape(locations.shape))


def test_always_the_centre(simulated: tuple[Array, Array]) -> None:
    locations, _ = simulated
    assert rmse(locations) == pytest.approx(9.39, abs=TOLERANCE_PX)
    assert rmse(locations[:, :1]) == pytest.approx(8.92, abs=TOLERANCE_PX)  # a dot that stays where it starts


def test_linear_guesses(simulated: tuple[Array, Array]) -> None:
    locations, actions = simulated
    start, moves = locations[:, 0], actions.reshape(NUM_SEQUENCES, -1)
    assert linear_rmse(moves, locations) == pytest.approx(7.79, abs=TOLERANCE_PX)
    assert linear_rmse(start, locations) == pytest.approx(5.57, abs=TOLERANCE_PX)
    assert linear_rmse(np.concatenate((start, moves), axis=1), locations) == pytest.approx(1.82, abs=TOLERANCE_PX)


def test_start_plus_summed_actions_clipped_once(simulated: tuple[Array, Array]) -> None:
    locations, actions = simulated
    summed = np.concatenate((np.zeros_like(actions[:, :1]), actions.cumsum(1)), axis=1)
    limit = CENTRE - PADDING
    guess = np.clip(locations[:, :1] + summed, -limit, limit)
    assert rmse(guess - locations) == pytest.approx(1.16, abs=TOLERANCE_PX)
