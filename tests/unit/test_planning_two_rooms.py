"""Planning in two rooms: the list of goals, the walls of the episodes, and the ceiling."""

from __future__ import annotations

import math

import pytest
import torch
from test_two_rooms import AT_65, rooms

from jepa.data.two_rooms import TwoRooms
from jepa.errors import ConfigError
from jepa.planning.goals import goals_in
from jepa.planning.world import World

WORLDS = {"fixed": {"wall": "fixed"}, "per sequence": {}, "65 px": AT_65}


@pytest.mark.parametrize("name", WORLDS)
def test_far_goals_are_in_the_other_room_and_all_others_in_the_same(name: str) -> None:
    world = rooms(**WORLDS[name])
    pairs = goals_in(world, seed=0, num_episodes=300)
    assert pairs.layouts is not None and pairs.kinds.tolist() == [0, 1, 2] * 100
    width = world.area.width
    rows = zip(pairs.starts.tolist(), pairs.goals.tolist(), pairs.layouts.tolist(), pairs.kinds.tolist(), strict=True)
    for start, goal, (column, _), kind in rows:
        assert min(abs(start[0] - column), abs(goal[0] - column)) >= world.wall_width / 2 - 1e-4
        assert ((start[0] < column) != (goal[0] < column)) == (kind == 2)
        share = math.dist(start, goal) / width
        assert (0.15 <= share < 0.35) if kind == 0 else share >= 0.35
    assert len({tuple(layout) for layout in pairs.layouts.tolist()}) == (1 if name == "fixed" else 300)


def test_a_shorter_list_is_the_start_of_a_longer_one() -> None:
    short, long = (goals_in(rooms(), seed=3, num_episodes=number) for number in (7, 60))
    for ours, theirs in zip(short, long, strict=True):
        assert ours is not None and theirs is not None and torch.equal(ours, theirs[:7])
    assert not torch.equal(short.starts, goals_in(rooms(), seed=4, num_episodes=7).starts)


def test_a_wall_that_leaves_no_second_room_is_refused() -> None:
    """The area begins at 2.6 px; the dot stops half a pixel before the wall."""
    world = rooms(wall="fixed", wall_column=3.0)
    goals_in(world, seed=0, num_episodes=2)  # near and middle goals are there
    with pytest.raises(ConfigError, match=r"plan: no far goal fits beside the wall at 3\.0 px"):
        goals_in(world, seed=0, num_episodes=3)


def episodes(world: TwoRooms, number: int) -> World:
    pairs = goals_in(world, seed=0, num_episodes=number)
    return World(world, None, pairs, num_steps=4, seed=0, device=torch.device("cpu"))


def test_start_and_goal_frames_show_the_walls_of_the_list() -> None:
    """Also under the other overlay. Without noise a frame is the wall plus the dot."""
    world = rooms(normalize=False)
    played = episodes(world, 5)
    pairs = goals_in(world, seed=0, num_episodes=5)
    walls = world.surroundings(pairs.layouts)
    states = played.begin()
    torch.testing.assert_close(states, torch.cat((pairs.starts, pairs.layouts), dim=-1))
    for frames in (played.observe(states, 0), played.goal_frame("same"), played.goal_frame("other")):
        dots = frames - walls
        assert dots.min() > -1e-6 and dots.sum((1, 2, 3)).tolist() == pytest.approx([1.0] * 5, abs=0.03)


def test_the_wall_blocks_episodes_and_the_way_leads_around_it() -> None:
    world = rooms(wall="fixed")
    played = episodes(world, 9)
    states = torch.tensor([[10.0, 3.0, 13.5, 13.5]])
    moved = played.step(states, torch.tensor([[4.0, 0.0]]))
    torch.testing.assert_close(moved, torch.tensor([[13.0, 3.0, 13.5, 13.5]]))
    way = played.distance(states, torch.tensor([[17.0, 3.0]]))  # through (13.5, 12), a quarter of 6 px above the middle
    assert float(way) == pytest.approx(2 * math.hypot(3.5, 9.0), abs=1e-4)
