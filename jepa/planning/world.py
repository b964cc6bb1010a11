"""The true environment of the episodes: frames with the environment's own distractors, and steps."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.dots import DotDraws, DotWorld
from jepa.data.environment import Environment
from jepa.data.normalization import Normalizer, identity_normalizer
from jepa.errors import ConfigError
from jepa.planning.goals import VERSION, GoalList
from jepa.seeding import derive_seed

OVERLAYS = ("same", "other")  # of the goal frame: the overlay of the episode, or another one


def dot_world(environment: Environment) -> DotWorld:
    """``environment``, if one can plan in it.

    Raises:
        ConfigError: it has no dots that actions move.
    """
    if not isinstance(environment, DotWorld):
        raise ConfigError(f"plan: needs a world of dots, and dataset is a {type(environment).__name__}")
    return environment


class World:
    """A batch of B episodes. The action dot obeys the planner; all other dots move as in the data.

    The overlays and the motion of the other dots depend on the seed of the goal list alone, so that all runs face the
    same episodes. Overlays are drawn as for judging probes: images of a texture are test images.
    """

    def __init__(
        self,
        environment: DotWorld,
        normalizer: Normalizer | None,
        pairs: GoalList,
        *,
        num_steps: int,
        seed: int,
        device: torch.device,
        goal_dot: int | None = None,
    ) -> None:
        """Draw the episodes.

        Args:
            environment: the environment of the run.
            normalizer: of the run's frames.
            pairs: starts and goals.
            num_steps: actions in an episode.
            seed: of the goal list.
            device: on which frames are made.
            goal_dot: index of a dot that rests at the goal; None: the goal is a place without a mark.
        """
        self.environment = environment.lasting(num_steps + 1)
        self.device = device
        self.num_steps = num_steps
        self.starts, self.goals = pairs.starts.to(device), pairs.goals.to(device)
        self._normalizer = normalizer or identity_normalizer(self.starts)
        self._coefficients = environment.coefficients(device)
        self._draws = {overlay: self._drawn(overlay, seed) for overlay in OVERLAYS}
        self._layouts = None if pairs.layouts is None else pairs.layouts.to(device)
        locations, _ = self.environment.trajectories(self._draws["same"].motion)
        self._others = locations[:, :, 1:].clone()  # [T, B, K-1, 2]
        self._goal_dot = goal_dot
        if goal_dot is not None:
            self._others[:, :, goal_dot - 1] = self.goals

    def _drawn(self, overlay: str, seed: int) -> DotDraws:
        streams = self.environment.streams(derive_seed(seed, f"planning/{VERSION}/{overlay}"), "planning", self.device)
        images = self.environment.images(judging=True, device=self.device)
        return self.environment.draw(streams, images, len(self.starts))

    def begin(self) -> Tensor:
        """The states [B, S] at the start of the episodes."""
        return self.environment.start(self.starts, self._layouts)

    def observe(self, states: Tensor, step: int) -> Tensor:
        """What the agent sees at ``step``, normalised, [B, C, H, W]. states: [B, S]."""
        return self._frame(self.environment.location_of(states), step, "same", self._others[step])

    def goal_frame(self, overlay: str) -> Tensor:
        """The goal, normalised, [B, C, H, W]: the action dot at the goal, all other dots as at the start.

        If a dot rests at the goal, the action dot is at the start, so that only the resting dot shows the goal.

        overlay: "same": the overlay that the episode has at its last frame; "other": that of another sequence.
        """
        shown = self.goals if self._goal_dot is None else self.starts
        return self._frame(shown, self.num_steps, overlay, self._others[0])

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """The states [..., S] after ``actions`` [..., A], px, which are shortened to what the environment does."""
        return self.environment.step(states, self.environment.shorten(actions))

    def distance(self, states: Tensor, goals: Tensor) -> Tensor:
        """The length [...], px, of the way from ``states`` [..., S] to ``goals`` [..., 2], around walls."""
        return self.environment.distance(states, goals)

    def location_of(self, states: Tensor) -> Tensor:
        """The locations [..., 2] of the action dot, px."""
        return self.environment.location_of(states)

    def _frame(self, locations: Tensor, step: int, overlay: str, others: Tensor) -> Tensor:
        dots = torch.cat((locations.unsqueeze(1), others), dim=1)  # [B, K, 2]
        repeated = dots.expand(self.num_steps + 1, *dots.shape)  # an overlay is defined for whole sequences
        overlays = self._draws[overlay].overlays
        frames = self.environment.frames(
            repeated, self._layouts, overlays, self._coefficients, self._normalizer, alone=True
        )
        return frames[step]
