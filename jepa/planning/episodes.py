"""Plays a batch of episodes: look, plan, act in the true environment, look again."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from jepa.planning.costs import Cost, Goal
from jepa.planning.frozen import FrozenModel
from jepa.planning.solvers.base import Solver
from jepa.planning.view import View
from jepa.planning.world import World
from jepa.seeding import generator


@dataclass(frozen=True)
class Played:
    """What happened in B episodes of N steps under one overlay of the goal frame."""

    locations: Tensor  # [N+1, B, 2], px, of the action dot
    goals: Tensor  # [B, 2], px
    evaluations: int  # steps predicted by the model (for the oracle: by the environment), over all episodes
    seconds: float
    cpu_seconds: float  # of this process, over all threads
    predictor_seconds: float
    frames: Tensor | None = None  # [N+1, n, C, H, W], what the agent saw in the first n episodes
    goal_frames: Tensor | None = None  # [n, C, H, W]
    imagined: Tensor | None = None  # [H+1, n, 2], px: the first plan as the prediction probe reads it

    @property
    def distances(self) -> Tensor:
        """Distance to the goal at every step, px, [N+1, B]."""
        distances: Tensor = torch.linalg.vector_norm(self.locations - self.goals, dim=-1)
        return distances


class Player:
    """Plays the episodes of one world with one solver."""

    def __init__(
        self, world: World, model: FrozenModel, solver: Solver, cost: Cost, *, horizon: int, replan_every: int
    ) -> None:
        """Args:
        world: the episodes.
        model: the trained model.
        solver: prepared for ``model``.
        cost: what the solver minimises, if it uses the model.
        horizon: the most actions of a plan; fewer at the end of the episode.
        replan_every: actions that are carried out before the next plan.
        """
        self.world, self.model, self.solver, self.cost = world, model, solver, cost
        self.horizon, self.replan_every = horizon, replan_every
        self._true_evaluations = 0

    def play(self, overlay: str, *, num_shown: int = 0) -> Played:
        """Play all episodes. overlay: of the goal frame, one of ``OVERLAYS``.

        num_shown: number of episodes whose frames are kept.
        """
        started, cpu_started = time.perf_counter(), time.process_time()
        world, model = self.world, self.model
        self._true_evaluations = 0
        evaluations, predictor_seconds = 0, model.seconds
        source = generator(model.seed, f"planning/{overlay}/solver", world.device)
        noise = generator(model.seed, f"planning/{overlay}/model", world.device)
        shown_noise = generator(model.seed, f"planning/{overlay}/shown", world.device)
        goal = self._goal(overlay)
        states = world.begin()
        frame = world.observe(states, 0)
        # Before the episode, the dot rests at the start: earlier frames of the context are copies of frame 0.
        seen = [frame] * model.context_frames
        past = [torch.zeros(len(world.starts), 2, device=world.device)] * (model.context_frames - 1)
        locations, kept, imagined = [world.location_of(states)], [frame[:num_shown]], None
        plan, used = None, 0
        for step in range(world.num_steps):
            if plan is None or used >= min(self.replan_every, len(plan)):
                view = self._view(states, seen, past, goal, step, source, noise)
                before = model.evaluations
                plan = self.solver.solve(view, _rest(plan, used, view.horizon))
                evaluations += model.evaluations - before  # pictures need predictions, too
                if step == 0 and num_shown:
                    imagined = self._imagined(seen, past, plan, shown_noise, num_shown)
                used = 0
            action = plan[used]
            states, used = world.step(states, action), used + 1
            frame = world.observe(states, step + 1)
            seen, past = [*seen, frame][-model.context_frames :], [*past, action][1 - model.context_frames :]
            past = past if model.context_frames > 1 else []
            locations.append(world.location_of(states))
            kept.append(frame[:num_shown])
        return Played(
            locations=torch.stack(locations),
            goals=world.goals,
            evaluations=evaluations + self._true_evaluations,
            seconds=time.perf_counter() - started,
            cpu_seconds=time.process_time() - cpu_started,
            predictor_seconds=model.seconds - predictor_seconds,
            frames=torch.stack(kept) if num_shown else None,
            goal_frames=world.goal_frame(overlay)[:num_shown] if num_shown else None,
            imagined=imagined,
        )

    def _goal(self, overlay: str) -> Goal | None:
        if not self.solver.uses_encoder:
            return None
        return Goal(self.model.encode_still(self.world.goal_frame(overlay)), self.world.goals)

    def _view(
        self,
        states: Tensor,
        seen: list[Tensor],
        past: list[Tensor],
        goal: Goal | None,
        step: int,
        source: torch.Generator,
        noise: torch.Generator,
    ) -> View:
        world, model = self.world, self.model
        context = None if goal is None else model.encode(torch.stack(seen))  # [S, B, D]
        before = _stacked(past, world.starts)
        horizon = min(self.horizon, world.num_steps - step)
        latent_noise = model.latent_noise(len(before) + horizon, len(world.starts), noise)
        return View(
            horizon=horizon,
            steps_left=world.num_steps - step,
            num_episodes=len(world.starts),
            action_size=world.environment.shapes.action_size,
            limit=world.environment.action_limit,
            generator=source,
            device=world.device,
            embeddings=None if context is None else context[-1],
            goal_embeddings=None if goal is None else goal.embeddings,
            imagined=functools.partial(self._imagined_costs, goal, context, before, latent_noise),
            true=functools.partial(self._true_costs, states),
        )

    def _imagined_costs(
        self, goal: Goal | None, context: Tensor | None, before: Tensor, latent_noise: Tensor | None, actions: Tensor
    ) -> Tensor:
        """The costs [B, N] of actions [H, B, N, A], px, by the predictions of the model.

        Args:
            goal: the goals of all episodes. None, like ``context``, for a solver that does not use the encoder; such a
                solver must not ask for these costs.
            context: [S, B, D], embeddings of the latest frames.
            before: [S-1, B, A], px, the actions between these frames.
            latent_noise: [S-1+H or more, B, ...]; None: the model needs none.
        """
        assert context is not None and goal is not None
        costs = []
        size = self.model.episodes_at_once(actions.shape[2])
        for first in range(0, actions.shape[1], size):
            part = slice(first, first + size)
            own = None if latent_noise is None else latent_noise[:, part]
            predicted = self.model.predict(context[:, part], before[:, part], actions[:, part], own)
            costs.append(self.cost(self.model, predicted, Goal(*(known[part] for known in goal))))
        return torch.cat(costs)

    def _true_costs(self, states: Tensor, actions: Tensor) -> Tensor:
        """The costs [B, N] of actions [H, B, N, A], px, in the true environment from ``states`` [B, S] on."""
        self._true_evaluations += actions.shape[0] * actions.shape[1] * actions.shape[2]
        moved = states.unsqueeze(1).expand(-1, actions.shape[2], -1)
        distances = []
        for action in actions:
            moved = self.world.step(moved, action)
            distances.append(self.world.distance(moved, self.world.goals.unsqueeze(1)).square())
        return torch.stack(distances).mean(0)

    @torch.no_grad()
    def _imagined(
        self, seen: list[Tensor], past: list[Tensor], plan: Tensor, noise: torch.Generator, num_shown: int
    ) -> Tensor | None:
        """The path that the model predicts for the first plan, [H+1, n, 2], px."""
        if not (self.solver.uses_predictor and self.model.can_read):
            return None
        context = self.model.encode(torch.stack(seen)[:, :num_shown])
        before = _stacked(past, self.world.starts)[:, :num_shown]
        latent_noise = self.model.latent_noise(len(before) + len(plan), num_shown, noise)
        predicted = self.model.predict(context, before, plan[:, :num_shown].unsqueeze(2), latent_noise).squeeze(2)
        return self.model.read(torch.cat((context[-1:], predicted)))[..., 0, :]


def _stacked(past: list[Tensor], like: Tensor) -> Tensor:
    """Actions [S-1, B, 2]; also for S = 1."""
    return torch.stack(past) if past else like.new_zeros(0, *like.shape)


def _rest(plan: Tensor | None, used: int, horizon: int) -> Tensor | None:
    """What is left of ``plan`` after ``used`` actions, cut or padded with zeros to ``horizon``."""
    if plan is None:
        return None
    left = plan[used : used + horizon]
    return torch.cat((left, left.new_zeros(horizon - len(left), *plan.shape[1:])))
