"""Two rooms: the wall against a slow walk in plain numbers, what is drawn, how many sequences pass the door."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from environment_samples import KEYS

from jepa.data.dots import DotDraws
from jepa.data.stream import Stream
from jepa.data.two_rooms import TwoRooms
from jepa.errors import ConfigError

LOW, HIGH = 2.6, 24.4
ROOMS: dict[str, Any] = {
    "image_size": 28,
    "wall": "per_sequence",
    "wall_column": 13.5,
    "door_row": 13.5,
    "door_size": 6.0,
    "wall_width": 1.0,
    "wall_brightness": 1.0,
    "guided": 0.25,
}
AT_65 = {"image_size": 65, "wall_column": 32.0, "door_row": 32.0, "door_size": 8.0, "wall_width": 3.0, "guided": 0.5}


def rooms(**changes: Any) -> TwoRooms:
    return TwoRooms(**{**KEYS, **ROOMS, **changes})


def slow_step(
    here: tuple[float, float], action: tuple[float, float], column: float, row: float, door: float, gap: float
) -> tuple[float, float]:
    """One move in small pieces: the dot goes on until the next piece would come too near to the closed wall."""
    x, y = here
    end = (min(max(x + action[0], LOW), HIGH), min(max(y + action[1], LOW), HIGH))
    if (x - column) * (end[0] - column) > 0:
        return end
    crossing = y + (end[1] - y) * (column - x) / (end[0] - x)
    if abs(crossing - row) <= door / 2:
        return end
    pieces = 100_000
    first, last = x, y
    for piece in range(1, pieces + 1):
        at = (x + (end[0] - x) * piece / pieces, y + (end[1] - y) * piece / pieces)
        if abs(at[0] - column) < gap:
            break
        first, last = at
    return first, last


def test_steps_equal_a_slow_walk_that_goes_in_small_pieces() -> None:
    rng = np.random.default_rng(0)
    world = rooms()
    count = 60
    layouts = np.stack((rng.uniform(8, 19, count), rng.uniform(6, 21, count)), axis=1)
    here = rng.uniform(LOW, HIGH, (count, 2))
    actions = rng.normal(0, 6, (count, 2))
    found = world.step(
        world.start(torch.from_numpy(here), torch.from_numpy(layouts)), torch.from_numpy(actions)
    ).numpy()
    expected = np.array(
        [slow_step(tuple(p), tuple(a), *layout, 6.0, 0.5) for p, a, layout in zip(here, actions, layouts, strict=True)]
    )
    free = np.clip(here + actions, LOW, HIGH)
    blocked = (found[:, :2] != free).any(1)
    assert 5 < blocked.sum() < count - 20
    np.testing.assert_allclose(found[:, :2], expected, rtol=0, atol=5e-4)  # a piece is at most 3e-4 px long
    np.testing.assert_array_equal(found[:, 2:], layouts)


@pytest.mark.parametrize("changes", [{}, {"wall": "fixed"}, {"wall": "fixed", **AT_65}, AT_65])
def test_no_trajectory_crosses_the_wall_outside_of_the_door(changes: dict[str, Any]) -> None:
    """Every move of 2000 sequences, in plain numbers: it ends on its side, or it crosses in the door."""
    world = rooms(**changes)
    motion = world.draw_motion(torch.Generator().manual_seed(0), 2000, num_dots=1)
    locations = world.trajectories(motion)[0][:, :, 0].double().numpy()
    layouts = world.layouts(DotDraws(motion, {})).numpy()
    half, crossings = world.door_size / 2, 0
    for sequence, (column, row) in enumerate(layouts.tolist()):
        path = locations[:, sequence].tolist()
        assert abs(path[0][0] - column) >= world.wall_width / 2 - 1e-4  # starts lie outside of the drawn wall
        for (x, y), (next_x, next_y) in zip(path[:-1], path[1:], strict=True):
            assert x != column
            if (x < column) != (next_x < column):
                crossing = y + (next_y - y) * (column - x) / (next_x - x)
                assert abs(crossing - row) <= half + 1e-4
                crossings += 1
    assert crossings > 200


def test_moves_at_the_edge() -> None:
    """Wall at 10, door from 12 to 16: touching the line, standing before it, moving along it, and the jamb."""
    world = rooms(wall="fixed", wall_column=10.0, door_row=14.0, door_size=4.0)
    cases = [
        ((8.0, 20.0), (2.0, 0.0), (9.5, 20.0)),  # a path that ends on the line is stopped
        ((9.8, 20.0), (3.0, 1.0), (9.8, 20.0)),  # nearer than the gap: stays
        ((9.5, 20.0), (-1.0, 1.0), (8.5, 21.0)),  # away from the wall is free
        ((8.0, 16.0), (4.0, 0.0), (12.0, 16.0)),  # the door's edge belongs to the door
        ((8.0, 16.01), (4.0, 0.0), (9.5, 16.01)),  # next to it
        ((10.0, 14.0), (0.0, 1.0), (10.0, 15.0)),  # on the line, along it, inside the door
        ((10.0, 14.0), (0.0, 5.0), (10.0, 14.0)),  # out of the door along the line: refused
        ((10.0, 14.0), (3.0, 5.0), (13.0, 19.0)),  # leaves the line
        ((8.0, 20.0), (4.0, -8.0), (12.0, 12.0)),  # crosses at row 16
        ((8.0, 22.0), (4.0, -8.0), (9.5, 19.0)),  # crosses at row 18
        ((8.0, 14.0), (40.0, 0.0), (24.4, 14.0)),  # through the door to the border
    ]
    here, actions, expected = (torch.tensor(values, dtype=torch.float64) for values in zip(*cases, strict=True))
    torch.testing.assert_close(world.step(world.start(here), actions)[:, :2], expected)


def test_vmap_equals_a_loop() -> None:
    world = rooms()
    rng = torch.Generator().manual_seed(0)
    states = torch.rand(50, 4, generator=rng) * 20 + 3
    actions = 5 * torch.randn(50, 2, generator=rng)
    together = torch.func.vmap(world.step)(states, actions)
    alone = torch.stack([world.step(state, action) for state, action in zip(states, actions, strict=True)])
    assert torch.equal(together, alone) and torch.equal(world.step(states, actions), alone)


@pytest.mark.parametrize(
    ("changes", "shares"),  # of 200 000 sequences, by the share of guided sequences; the table of docs/two_rooms.md
    [
        ({"wall": "fixed"}, {0.0: 0.131, 0.25: 0.292, 0.5: 0.453, 1.0: 0.771}),
        ({}, {0.0: 0.124, 0.25: 0.279, 0.5: 0.433, 1.0: 0.739}),
        ({"wall": "fixed", **AT_65}, {0.0: 0.020, 0.25: 0.138, 0.5: 0.255, 1.0: 0.489}),
        (AT_65, {0.0: 0.019, 0.25: 0.113, 0.5: 0.206, 1.0: 0.392}),
    ],
)
def test_the_share_of_sequences_that_pass_the_door(changes: dict[str, Any], shares: dict[float, float]) -> None:
    found = {}
    for guided in shares:
        world = rooms(**{**changes, "guided": guided})
        motion = world.draw_motion(torch.Generator().manual_seed(1), 20_000, num_dots=1)
        columns = world.layouts(DotDraws(motion, {}))[:, 0]
        left = world.trajectories(motion)[0][:, :, 0, 0] < columns
        found[guided] = float((left != left[0]).any(0).float().mean())
    assert found == pytest.approx(shares, abs=0.011)  # three standard errors


def test_starts_are_uniform_in_both_rooms_and_layouts_in_their_ranges() -> None:
    world = rooms()
    motion = world.draw_motion(torch.Generator().manual_seed(0), 20_000, num_dots=1)
    start = world.trajectories(motion)[0][0, :, 0].double()
    column, row = world.layouts(DotDraws(motion, {})).double().T
    before = start[:, 0] < column
    left = (column - 0.5 - LOW) / (HIGH - LOW - 1)  # the left room's share of both rooms
    assert abs((before.double() - left).mean()) < 5 * 0.5 / math.sqrt(20_000)
    for values, low, high in ((column, 8.05, 18.95), (row, 5.6, 21.4), (start[:, 1], LOW, HIGH)):
        assert low <= values.min() and values.max() <= high
        error = (high - low) / math.sqrt(12 * 20_000)
        assert abs(values.mean() - (low + high) / 2) < 5 * error
        assert float(values.std()) == pytest.approx((high - low) / math.sqrt(12), rel=0.02)


def test_guided_sequences_start_towards_the_door() -> None:
    world = rooms(guided=1.0)
    motion = world.draw_motion(torch.Generator().manual_seed(0), 5000, num_dots=1)
    locations, actions = (values[:, :, 0] for values in world.trajectories(motion))
    doors = world.layouts(DotDraws(motion, {}))
    free = world.sample_actions(motion[2:])[:, :, 0]
    torch.testing.assert_close(actions.norm(dim=-1), free.norm(dim=-1))
    wanted = doors - locations[0]
    cosines = torch.nn.functional.cosine_similarity(actions, wanted.expand_as(actions), dim=-1)
    assert cosines.min() >= math.cos(math.pi / 4) - 1e-4
    assert float(cosines.mean()) == pytest.approx(math.sin(math.pi / 4) / (math.pi / 4), abs=0.005)


def test_the_way_to_the_other_room_is_the_shortest_one_through_the_door() -> None:
    """Against every point of the door's inner half, in steps of 0.001 px."""
    world = rooms()
    source = torch.Generator().manual_seed(0)
    uniforms = torch.rand(3, 200, 2, generator=source, dtype=torch.float64)
    layouts = world.layouts_from(uniforms[0])
    here, goals = (world.place(values, layouts) for values in uniforms[1:])
    found = world.distance(world.start(here, layouts), goals)
    parted = 0
    for (column, row), a, b, length in zip(layouts.tolist(), here.tolist(), goals.tolist(), found, strict=True):
        assert abs(a[0] - column) >= 0.5 and min(a) >= LOW and max(a) <= HIGH
        expected = math.dist(a, b)
        if (a[0] < column) != (b[0] < column):
            points = np.arange(row - 1.5, row + 1.5005, 0.001)
            expected = (np.hypot(column - a[0], points - a[1]) + np.hypot(column - b[0], points - b[1])).min()
            parted += 1
        assert float(length) == pytest.approx(expected, abs=1e-4)
    assert parted == int(world.parted(here, goals, layouts).sum()) > 50


# --- frames -----------------------------------------------------------------------------------------------------------


def slow_wall(column: float, row: float, *, width: float, door: float, size: int) -> np.ndarray:
    """The share of each pixel that the wall covers, from 400 x 400 points in each pixel."""
    points = (np.arange(400) + 0.5) / 400 - 0.5
    fine = (np.arange(size)[:, None] + points).ravel()
    columns = (np.abs(fine - column) < width / 2).reshape(size, 400).mean(1)
    rows = (np.abs(fine - row) > door / 2).reshape(size, 400).mean(1)
    return rows[:, None] * columns


@pytest.mark.parametrize("changes", [{}, {"wall_width": 2.7, "door_size": 0.4}, {"wall": "fixed"}, AT_65])
def test_the_wall_is_drawn_as_it_stands(changes: dict[str, Any]) -> None:
    world = rooms(**changes, normalize=False)
    stream = Stream(world, 0, "train", None, "cpu")
    draws = stream.draw(3)
    batch = world.assemble(draws, stream.coefficients, None)
    layouts, size = world.layouts(draws).tolist(), world.shapes.image_size
    pixels = np.arange(size)
    x, y = batch.locations[:, :, 0].double().numpy().transpose(2, 0, 1)[..., None, None]
    squares = (pixels - x) ** 2 + (pixels[:, None] - y) ** 2
    dots = np.exp(-squares / (2 * 1.3**2)) / (2 * math.pi * 1.3**2)
    walls = np.stack(
        [slow_wall(*place, width=world.wall_width, door=world.door_size, size=size) for place in layouts]
    )
    expected = dots + walls / (2 * math.pi * 1.3**2)
    np.testing.assert_allclose(batch.states[:, :, 0].numpy(), expected, rtol=0, atol=6e-4)  # 1/400 of the wall
    for name, value in zip(world.quantities, np.array(layouts).T, strict=True):
        np.testing.assert_allclose(batch.targets[name].numpy(), np.tile(value, (17, 1)), rtol=1e-6)


def test_numbers_of_a_batch_are_normalised_as_locations_are() -> None:
    world = rooms()
    stream = Stream(world, 0, "train", None, "cpu")
    draws = stream.draw(500)
    batch = world.assemble(draws, stream.coefficients, None)
    found = torch.stack([world.unnormalize_quantity(name, batch.targets[name][3]) for name in world.quantities], -1)
    torch.testing.assert_close(found, world.layouts(draws))
    assert batch.targets["door"].abs().max() < 1.74


def test_frames_of_a_state_are_those_of_the_batch() -> None:
    """What planning draws for a state: the location, the state's wall and the overlays of the sequence."""
    world = rooms(static_noise=0.7)
    stream = Stream(world, 0, "train", world.estimate_normalizer(0, "cpu", num_batches=2), "cpu")
    draws = stream.draw(4)
    batch = world.assemble(draws, stream.coefficients, stream.normalizer)
    states = world.start(world.unnormalize_locations(batch.locations[0, :, 0]), world.layouts(draws))
    for action in world.unnormalize_actions(batch.actions):
        states = world.step(states, action)
    every = torch.cat((world.unnormalize_locations(batch.locations[:-1]), states[None, :, None, :2]))
    found = world.frames(every, states[:, 2:], draws.overlays, stream.coefficients, stream.normalizer)
    torch.testing.assert_close(found, batch.states, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wall": "per_sequnce"}, r"dataset\.wall='per_sequnce'.*did you mean 'per_sequence'"),
        ({"num_dots": 3, "channels": 3}, r"dataset\.num_dots=3: two rooms have one dot"),
        ({"door_size": 12}, r"dataset\.door_size=12: must be at least 0\.1 and at most 10\.9"),
        ({"wall_column": 1}, r"dataset\.wall_column=1: must be at least 2\.6"),
        ({"door_row": 5.5}, r"dataset\.door_row=5\.5: must be at least 5\.6"),
        ({"guided": 1.5}, r"dataset\.guided=1\.5: must be at least 0 and at most 1"),
        ({"image_size": 8}, r"dataset\.image_size=8: must be at least 16"),
        ({"image_size": 28.0}, r"dataset\.image_size=28\.0: must be a whole number"),
        ({"wall_width": 0}, r"dataset\.wall_width=0: must be at least 0\.1"),
        ({"wall_brightness": -1}, r"dataset\.wall_brightness=-1: must be at least 0"),
    ],
)
def test_values_that_cannot_be_used_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rooms(**changes)


def test_a_drawn_wall_must_be_given_to_start() -> None:
    with pytest.raises(ValueError, match="start needs the layouts"):
        rooms().start(torch.zeros(3, 2))
