"""The reference lines: recomputed by numpy from the simulator, and compared with the published setting's numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from environment_samples import moving_dots, reference_lines

from jepa.config.compose import compose, register
from jepa.data.moving_dots import MovingDots
from jepa.data.stream import Stream
from jepa.results.reference import PUBLISHED

NUM_SEQUENCES = 20_000
PADDING = 2.6
CENTRE = 13.5
TOLERANCE_PX = 0.05  # the difference of two simulations of 20 000 sequences has a standard error of 0.025 px

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def simulated() -> tuple[Array, Array]:
    """Locations [N, T, 2] about the centre and actions [N, T-1, 2] of one dot, px."""
    generator = torch.Generator().manual_seed(0)
    world = moving_dots()
    found = world.trajectories(world.draw_motion(generator, NUM_SEQUENCES, num_dots=1))
    locations, actions = (value[:, :, 0].transpose(0, 1).double().numpy() for value in found)
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


# --- the lines that a run is given ----------------------------------------------------------------------------------

NAMES = [
    "always the centre",
    "actions alone",
    "start alone",
    "start and actions, linear",
    "start plus summed actions, clipped once",
]


def lines(probe: str = "prediction", **changes: Any) -> dict[str, dict[str, Any]]:
    """A data set's lines by name; the published setting but for ``changes``."""
    found = reference_lines(**{"num_dots": 1, "num_steps": 17, "padding": PADDING, **changes})
    return {line["name"]: line for line in found[probe]["lines"]}


def dataset(*overrides: str) -> MovingDots:
    register()
    node = compose([*overrides]).dataset
    return MovingDots(**{str(key): value for key, value in node.items() if key not in ("_target_", "eval")})


def test_the_published_setting() -> None:
    found = lines()
    assert list(found) == NAMES
    for name, value in zip(NAMES, (9.39, 7.79, 5.57, 1.82, 1.16), strict=True):
        assert found[name]["rmse_px"] == pytest.approx(value, abs=TOLERANCE_PX)
        assert found[name]["per_dot_px"] == [found[name]["rmse_px"]]
    assert lines("encoder")["always the centre"]["rmse_px"] == pytest.approx(8.90, abs=TOLERANCE_PX)
    assert list(lines("encoder")) == ["always the centre"]


@pytest.mark.parametrize(
    ("changes", "centre", "start"),
    [({"num_steps": 5}, 9.08, 3.03), ({"padding": 6.0}, 6.68, 4.93), ({"num_steps": 2}, 8.98, 1.57)],
)
def test_other_settings_have_other_lines(changes: dict[str, Any], centre: float, start: float) -> None:
    found = lines(**changes)
    assert found["always the centre"]["rmse_px"] == pytest.approx(centre, abs=TOLERANCE_PX)
    assert found["start alone"]["rmse_px"] == pytest.approx(start, abs=TOLERANCE_PX)


def test_the_lines_equal_general_regressions(simulated: tuple[Array, Array]) -> None:
    """Frame by frame, with a constant and both coordinates' features: the symmetries that the lines use hold."""
    locations, actions = simulated
    moves = actions.reshape(NUM_SEQUENCES, -1)
    features = {
        "actions alone": moves,
        "start alone": locations[:, 0],
        "start and actions, linear": np.concatenate((locations[:, 0], moves), axis=1),
    }
    for name, known in features.items():
        steps = lines()[name]["per_step_px"]
        expected = [linear_rmse(known, locations[:, step : step + 1]) for step in range(17)]
        assert steps == pytest.approx(expected, abs=2 * TOLERANCE_PX)  # one frame alone has a larger error
    centre = lines()["always the centre"]["per_step_px"]
    assert centre == pytest.approx([rmse(locations[:, step]) for step in range(17)], abs=2 * TOLERANCE_PX)


def test_the_lines_follow_from_the_environment_as_it_is_described() -> None:
    """The environment simulated in numpy; every line within 1 %, over two standard errors of 20 000 sequences."""
    rng = np.random.default_rng(0)
    count, steps, low, high = NUM_SEQUENCES, 17, 2.6, 24.4
    direction = rng.uniform(0, 2 * np.pi, (1, count)) + rng.vonmises(0, 0.2, (steps - 1, count))
    actions = rng.uniform(0, 4, direction.shape)[..., None] * np.stack([np.cos(direction), np.sin(direction)], -1)
    path = [rng.uniform(low, high, (count, 2))]
    for action in actions:
        path.append(np.clip(path[-1] + action, low, high))
    locations = np.stack(path, axis=1)  # [N, T, 2]
    start, moves = locations[:, 0], actions.transpose(1, 0, 2).reshape(count, -1)
    sums = np.concatenate([np.zeros((count, 1, 2)), actions.cumsum(0).transpose(1, 0, 2)], axis=1)
    expected = (
        rmse(locations - CENTRE),
        linear_rmse(moves, locations),
        linear_rmse(start, locations),
        linear_rmse(np.concatenate([start, moves], axis=1), locations),
        rmse(np.clip(start[:, None] + sums, low, high) - locations),
    )
    assert tuple(line["rmse_px"] for line in lines().values()) == pytest.approx(expected, rel=0.01)
    assert tuple(line["rmse_px"] for line in PUBLISHED["prediction"]["lines"]) == pytest.approx(expected, rel=0.01)


def test_lines_by_time_step_average_to_the_line_over_all() -> None:
    for line in lines().values():
        assert np.sqrt(np.square(line["per_step_px"]).mean()) == pytest.approx(line["rmse_px"], abs=1e-3)
    start = lines()["start alone"]["per_step_px"]
    assert start[0] == 0 and start[1:3] == pytest.approx([2.2, 3.1], abs=TOLERANCE_PX)
    assert start[16] == pytest.approx(7.4, abs=TOLERANCE_PX)


def test_each_dot_has_its_own_lines() -> None:
    one, three = lines(), lines(num_dots=3)
    action, random, stationary = np.array([line["per_dot_px"] for line in three.values()]).T
    assert list(action) == [line["rmse_px"] for line in one.values()]
    centre, start = one["always the centre"]["rmse_px"], one["start alone"]["rmse_px"]
    assert list(random) == [centre, centre, start, start, start]  # nobody is told where it goes
    assert list(stationary) == pytest.approx([8.92, 8.92, 0, 0, 0], abs=TOLERANCE_PX)
    for line in three.values():
        assert np.sqrt(np.square(line["per_dot_px"]).mean()) == pytest.approx(line["rmse_px"], abs=1e-3)
    assert lines("encoder", num_dots=2)["always the centre"]["per_dot_px"] == [8.9128, 8.9128]


def test_a_data_set_gives_the_lines_of_its_own_setting() -> None:
    found = dataset("dataset=multiple", "dataset.num_steps=5", "dataset.dot_std=2").reference_lines()
    assert found == reference_lines(num_dots=3, num_steps=5, padding=4.0)
    assert (found["num_sequences"], found["seed"]) == (20_000, 0)
    assert found["dots"] == ["action", "random", "stationary"]
    assert "bias" in dataset("dataset.normalize=false").reference_lines()["no_verdict"]


def test_simulating_draws_from_no_stream_of_a_run() -> None:
    data = dataset("dataset.num_steps=7", "dataset.batch_size=4")
    stream = Stream(data, 0, "train", None, "cpu")
    before, states = torch.get_rng_state(), stream.state_dict()
    first = data.reference_lines()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state, states[name]) for name, state in stream.state_dict().items())
    assert data.reference_lines() == first
