"""Two rooms: a wall with a door divides the area of one moving dot."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from jepa.data.dots import START_ROWS, DotDraws, DotWorld
from jepa.data.motion import ACTION_STD, MAX_STEP_PX, sample_actions
from jepa.errors import ConfigError, check_choice, check_count, check_number

WALLS = ("fixed", "per_sequence")
LAYOUT_ROWS = 2  # uniform numbers for a layout: column and row
GUIDED_ANGLE = 0.25  # guided steps deviate from the direction to the door by this share of a free step's deviation


class TwoRooms(DotWorld):
    """One moving dot, a wall along a column and a door in it; ``conf/dataset/two_rooms.yaml`` holds the values.

    A layout is (column of the wall, row of the door's middle), px. The wall is the line at this column, without the
    door. A move is the straight path to the location that moving dots would reach. Where the path meets the wall, the
    dot stops half a ``wall_width`` before the wall; a dot that is nearer than that stays where it is. Starts are
    uniform in both rooms, outside of the drawn wall. Actions are those of moving dots, but for a share ``guided`` of
    the sequences, whose directions point from the start to the door. Sources: for the world PLDM (arXiv 2502.14819) and
    eb_jepa (arXiv 2602.03604); for the motion docs/science.md.
    """

    def __init__(
        self,
        *,
        image_size: int,
        wall: str,
        wall_column: float,
        door_row: float,
        door_size: float,
        wall_width: float,
        wall_brightness: float,
        guided: float,
        **shared: Any,
    ) -> None:
        """Args:
            image_size: H = W, px.
            wall: "fixed": ``wall_column`` and ``door_row`` in every sequence; "per_sequence": both drawn per sequence.
            wall_column: column of the fixed wall, px.
            door_row: row of the middle of the fixed wall's door, px.
            door_size: length of the door, px.
            wall_width: width of the drawn wall, px.
            wall_brightness: in units of a dot's peak, 1 / (2π dot_std²).
            guided: share of the sequences whose actions lead to the door.
            shared: the arguments of :class:`DotWorld`.

        Raises:
            ConfigError: a value is out of range.
        """
        self.image_size = check_count("dataset.image_size", image_size, minimum=16, maximum=256)
        super().__init__(**shared)
        if self.num_dots != 1:
            raise ConfigError(f"dataset.num_dots={self.num_dots}: two rooms have one dot; set dataset.num_dots=1")
        low, high = self.area.low, self.area.high
        self.wall = check_choice("dataset.wall", wall, WALLS)
        self.door_size = check_number("dataset.door_size", door_size, minimum=0.1, maximum=self.area.width / 2)
        self.wall_width = check_number("dataset.wall_width", wall_width, minimum=0.1, maximum=self.area.width / 4)
        self.wall_brightness = check_number("dataset.wall_brightness", wall_brightness, minimum=0, maximum=1000)
        self.guided = check_number("dataset.guided", guided, minimum=0, maximum=1)
        quarter, half_door = self.area.width / 4, self.door_size / 2
        self.columns = (low + quarter, high - quarter)  # px, the range of drawn columns: the middle half of the area
        self.rows = (low + half_door, high - half_door)  # px, the range of drawn rows: the door lies in the area
        self.wall_column = check_number("dataset.wall_column", wall_column, minimum=low, maximum=high)
        self.door_row = check_number("dataset.door_row", door_row, minimum=self.rows[0], maximum=self.rows[1])

    coordinates_alike = False

    @property
    def quantities(self) -> tuple[str, ...]:
        """``wall``: the column of the wall; ``door``: the row of the door's middle; normalised as locations are."""
        return ("wall", "door")

    # --- the layout --------------------------------------------------------------------------------------------------

    def layouts(self, draws: DotDraws) -> Tensor:
        """[B, 2]: column of the wall and row of the door, px."""
        return self._layouts(draws.motion)

    def layouts_from(self, uniforms: Tensor) -> Tensor:
        columns, rows = uniforms.unbind(-1)
        if self.wall == "fixed":
            return self._fixed(columns)
        return torch.stack((_between(columns, *self.columns), _between(rows, *self.rows)), dim=-1)

    def _layouts(self, motion: Tensor) -> Tensor:
        """[B, 2], px, from the last rows of ``motion`` [..., B, 1]."""
        return self.layouts_from(motion[-LAYOUT_ROWS:, :, 0].mT)

    def _fixed(self, like: Tensor) -> Tensor:
        """The fixed layout [..., 2], px, for each number of ``like`` [...]."""
        return torch.stack((torch.full_like(like, self.wall_column), torch.full_like(like, self.door_row)), dim=-1)

    def measured(self, layouts: Tensor | None) -> dict[str, Tensor]:
        assert layouts is not None
        values = self.area.normalize(layouts) if self.normalize else layouts
        wall, door = values.unbind(-1)
        return {"wall": wall.expand(self.num_steps, -1), "door": door.expand(self.num_steps, -1)}

    def unnormalize_quantity(self, name: str, values: Tensor) -> Tensor:
        """Px."""
        return self.unnormalize_locations(values)

    def surroundings(self, layouts: Tensor) -> Tensor:
        """The wall: the share of each pixel that it covers, times its brightness."""
        brightness = self.wall_brightness / (2 * math.pi * self.dot_std**2)
        columns, rows = layouts.unbind(-1)
        wall = covered(columns, self.wall_width, self.image_size)
        closed = 1 - covered(rows, self.door_size, self.image_size)
        return (brightness * closed).unsqueeze(-1).mul(wall.unsqueeze(-2)).unsqueeze(-3)

    # --- the law -----------------------------------------------------------------------------------------------------

    @property
    def action_std(self) -> float:
        return ACTION_STD

    @property
    def action_limit(self) -> float:
        return MAX_STEP_PX

    @property
    def num_uniforms(self) -> int:
        """Those of moving dots (mean direction, T-1 directions, T-1 lengths), one for ``guided``, two for a layout."""
        return 1 + 2 * (self.num_steps - 1) + 1 + LAYOUT_ROWS

    def sample_actions(self, uniforms: Tensor) -> Tensor:
        """The actions of moving dots, which know of no door."""
        return sample_actions(uniforms[0], *uniforms[1 : -1 - LAYOUT_ROWS].chunk(2))

    def trajectories(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        layouts = self._layouts(uniforms).unsqueeze(1)  # [B, 1, 2], with an axis for the dot
        start = self.place(uniforms[:START_ROWS].movedim(0, -1), layouts)
        actions = self.sample_actions(uniforms[START_ROWS:])
        is_guided = uniforms[-1 - LAYOUT_ROWS] < self.guided  # [B, 1]
        actions = torch.where(is_guided.unsqueeze(-1), towards(layouts - start, actions), actions)
        return self.walk(start, actions, layouts), actions

    def place(self, uniforms: Tensor, layouts: Tensor | None) -> Tensor:
        assert layouts is not None
        across = self.area.low + uniforms[..., 0] * (self.area.width - self.wall_width)
        across = torch.where(across < layouts[..., 0] - self.wall_width / 2, across, across + self.wall_width)
        return torch.stack((across, self.area.locate(uniforms)[..., 1]), dim=-1)

    def parted(self, locations: Tensor, goals: Tensor, layouts: Tensor | None) -> Tensor:
        assert layouts is not None
        return (locations[..., 0] < layouts[..., 0]) != (goals[..., 0] < layouts[..., 0])

    def distance(self, states: Tensor, goals: Tensor) -> Tensor:
        """Px. To the other room: the way through the door, at least a quarter of the door's size from its edges.

        It is the shortest such way: its point in the door is the nearest one to the straight line.
        """
        here, layouts = states[..., :2], states[..., 2:]
        column, row = layouts.unbind(-1)
        across = goals[..., 0] - here[..., 0]
        divisor = torch.where(across == 0, torch.ones_like(across), across)
        crossing = here[..., 1] + (goals[..., 1] - here[..., 1]) * (column - here[..., 0]) / divisor
        margin = self.door_size / 4
        door = torch.stack((column, crossing.clamp(row - margin, row + margin)), dim=-1)
        around = _length(door - here) + _length(goals - door)
        return torch.where(self.parted(here, goals, layouts), around, _length(goals - here))

    def start(self, locations: Tensor, layouts: Tensor | None = None) -> Tensor:
        """States [..., 4]: location, column of the wall, row of the door; px. layouts: needed unless the wall is fixed.

        Raises:
            ValueError: the wall is drawn per sequence, and ``layouts`` is None.
        """
        if layouts is None:
            if self.wall != "fixed":
                raise ValueError("the wall is drawn per sequence: start needs the layouts of the sequences")
            layouts = self._fixed(locations[..., 0])
        return torch.cat((locations, layouts.expand_as(locations)), dim=-1)

    def location_of(self, states: Tensor) -> Tensor:
        return states[..., :2]

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        here, layouts = states[..., :2], states[..., 2:]
        there = (here + actions).clamp(self.area.low, self.area.high)
        there = stopped(here, there, layouts, door_size=self.door_size, gap=self.wall_width / 2)
        return torch.cat((there, layouts.expand_as(there)), dim=-1)


def stopped(here: Tensor, there: Tensor, layouts: Tensor, *, door_size: float, gap: float) -> Tensor:
    """Where the straight path from ``here`` to ``there`` [..., 2] ends, px: at ``there``, or before the wall.

    The wall is closed: a path that only touches the line outside of the door is stopped too. A path along the line is
    stopped where it would leave the door.

    Args:
        layouts: [..., 2], column of the wall and row of the door's middle, px.
        door_size: px.
        gap: the distance at which a dot stops before the wall, px.
    """
    move = there - here
    across, along = move.unbind(-1)
    distance = layouts[..., 0] - here[..., 0]  # to the wall, px, signed
    is_still = across == 0
    divisor = torch.where(is_still, torch.ones_like(across), across)
    share = torch.where(is_still, torch.ones_like(across), distance / divisor)  # of the path, where it meets the line
    meets = (distance * (distance - across) <= 0) & ((distance == 0) | ~is_still)
    row = here[..., 1] + share * along
    blocked = meets & ((row - layouts[..., 1]).abs() > door_size / 2)
    allowed = (share - gap / divisor.abs()).clamp(min=0)
    allowed = torch.where(is_still, torch.zeros_like(allowed), allowed)
    return torch.where(blocked.unsqueeze(-1), here + allowed.unsqueeze(-1) * move, there)


def towards(directions: Tensor, actions: Tensor) -> Tensor:
    """``actions`` [T-1, ..., 2] turned around ``directions`` [..., 2], with their lengths.

    The angle to ``directions`` is GUIDED_ANGLE times the angle of the action to the x axis, from -π to π.
    """
    angles = torch.atan2(actions[..., 1], actions[..., 0]) * GUIDED_ANGLE
    angles = angles + torch.atan2(directions[..., 1], directions[..., 0])
    lengths = _length(actions)
    return torch.stack((lengths * angles.cos(), lengths * angles.sin()), dim=-1)


def covered(middles: Tensor, width: float, image_size: int) -> Tensor:
    """The share [..., image_size] of each pixel that an interval of ``width`` around ``middles`` [...] covers; px."""
    pixels = torch.arange(image_size, device=middles.device, dtype=middles.dtype)
    distances = (pixels - middles.unsqueeze(-1)).abs()
    full = min(width, 1.0)
    return ((width + 1) / 2 - distances).clamp(min=0, max=full)


def _between(uniforms: Tensor, low: float, high: float) -> Tensor:
    return low + uniforms * (high - low)


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1).sqrt()
