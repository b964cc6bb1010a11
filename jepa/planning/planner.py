"""Planning as a component of a run: the task, the conventions, the cost and the solver (conf/plan)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jepa.data.environment import Environment
from jepa.errors import ConfigError, check_count
from jepa.methods.base import Method
from jepa.planning import report
from jepa.planning.costs import Cost, Probe, check_dot
from jepa.planning.episodes import Played, Player
from jepa.planning.frozen import FrozenModel
from jepa.planning.goals import RADII_PX, VERSION, goals_in
from jepa.planning.solvers.base import Solver
from jepa.planning.solvers.random_actions import RandomActions
from jepa.planning.world import OVERLAYS, World, dot_world

log = logging.getLogger(__name__)

SHOWN = 6  # episodes whose frames are kept for pictures


@dataclass(frozen=True)
class Planned:
    """The outcome of planning with one run."""

    record: dict[str, Any]  # conventions and numbers, plain
    metrics: dict[str, float]  # the numbers for the metrics of result.json
    played: dict[str, Played]  # by overlay of the goal frame; with the frames of the first episodes


class Planner:
    """Plans with a frozen model: ``conf/plan`` holds and explains the values."""

    def __init__(
        self,
        *,
        list_version: int,
        goal_seed: int,
        num_episodes: int,
        num_steps: int,
        replan_every: int,
        horizon: int | None,
        goal_dot: int | None,
        cost: Cost,
        solver: Solver,
    ) -> None:
        """Check the settings.

        Raises:
            ConfigError: a value is out of range, or the list of goals is of another version.
        """
        if check_count("plan.list_version", list_version) != VERSION:
            raise ConfigError(
                f"plan.list_version={list_version}: this version of the program makes goal list {VERSION}; results on "
                "other lists cannot be compared with it"
            )
        self.goal_seed = check_count("plan.goal_seed", goal_seed, minimum=0, maximum=2**63 - 1)
        self.num_episodes = check_count("plan.num_episodes", num_episodes, maximum=100_000)
        self.num_steps = check_count("plan.num_steps", num_steps, maximum=10_000)
        self.replan_every = check_count("plan.replan_every", replan_every, maximum=10_000)
        self.horizon = None if horizon is None else check_count("plan.horizon", horizon, maximum=10_000)
        self.goal_dot = goal_dot
        self.cost, self.solver = cost, solver
        if goal_dot is not None and not (isinstance(cost, Probe) and cost.goal == "seen"):
            raise ConfigError("plan/cost: with plan.goal_dot the goal is read from a frame; take plan/cost=probe")
        if goal_dot is not None and solver.uses_encoder and not solver.uses_predictor:
            raise ConfigError(
                f"plan.goal_dot={goal_dot}: {type(solver).__name__} minimises no cost, and the goal frame shows the "
                "action dot at its start; take a planner that predicts, such as cem"
            )

    def check(self, environment: Environment, method: Method, called: str) -> None:
        """Refuse a run that this planner cannot plan with. method: may be without weights. called: the run, in words.

        Raises:
            ConfigError: says what is missing.
        """
        world = dot_world(environment)
        if self.goal_dot is not None:
            check_dot("plan.goal_dot", self.goal_dot, world.num_dots)
        goals_in(world, seed=self.goal_seed, num_episodes=self.num_episodes)
        if self.solver.uses_encoder and getattr(method, "input", "frames") == "difference":
            raise ConfigError(
                f"plan: {called} is shown differences of frames (model.input=difference), in which a goal that rests "
                "cannot be seen; take model.input=stacked"
            )
        if self.solver.uses_predictor and not method.predicts_actions_effects:
            name = type(self.solver).__name__
            raise ConfigError(
                f"plan: {name} needs a model that predicts what actions do, and {called} has none "
                f"({type(method).__name__} with {type(getattr(method, 'predictor', None)).__name__}); "
                "planner=inverse needs an encoder alone"
            )

    def warnings(self, environment: Environment) -> list[str]:
        """What may make the result worse than the model is."""
        trained = environment.shapes.num_steps - 1
        if min(self.horizon or trained, self.num_steps) > trained and self.solver.uses_predictor:
            return [
                f"plan.horizon={self.horizon}: the model was trained to predict {trained} steps "
                f"(dataset.num_steps={trained + 1})"
            ]
        return []

    def plan(self, model: FrozenModel, settings: Mapping[str, Any], *, num_shown: int = SHOWN) -> Planned:
        """Play all episodes twice, with the goal frame under the same and under another overlay; then the floor.

        In a world without distractors they are played once, and both overlays get the same numbers.

        settings: the configuration of this planner, which the record repeats.

        Raises:
            ConfigError: the cost needs a location probe, and the run has none.
        """
        if self.solver.uses_predictor and self.cost.reads_locations and not model.can_read:
            raise ConfigError("plan/cost=probe: needs the run's location probe (probe.pt), which is missing")
        environment = model.environment
        pairs = goals_in(environment, seed=self.goal_seed, num_episodes=self.num_episodes)
        world = World(
            environment,
            model.normalizer,
            pairs,
            num_steps=self.num_steps,
            seed=self.goal_seed,
            device=model.device,
            goal_dot=self.goal_dot,
        )
        horizon = self.horizon or environment.shapes.num_steps - 1
        solver = self.solver.prepared(model)
        player = Player(world, model, solver, self.cost, horizon=horizon, replan_every=self.replan_every)
        played: dict[str, Played] = {}
        for overlay in OVERLAYS:
            # Without distractors, both goal frames are equal, and so are the episodes.
            equal = played.get("same") if not environment.drawn else None
            played[overlay] = equal or player.play(overlay, num_shown=min(num_shown, self.num_episodes))
        measured = {overlay: report.numbers(one, pairs.kinds) for overlay, one in played.items()}
        floor = Player(world, model, RandomActions(), self.cost, horizon=horizon, replan_every=self.num_steps)
        record = {
            **self.conventions(horizon),
            "settings": dict(settings),
            "overlays": measured,
            "random": report.numbers(floor.play("same"), pairs.kinds),
            "warnings": self.warnings(environment),
        }
        return Planned(record, report.metrics(measured), played)

    def conventions(self, horizon: int) -> dict[str, Any]:
        """All that moves a number, as the record states it."""
        return {
            "list_version": VERSION,
            "goal_seed": self.goal_seed,
            "episodes": self.num_episodes,
            "steps": self.num_steps,
            "horizon": horizon,
            "replan_every": self.replan_every,
            "solver": type(self.solver).__name__,
            "cost": type(self.cost).__name__ if self.solver.uses_predictor else None,
            "radii_px": list(RADII_PX),
            "success": "planning_success: share of episodes within 1.9 px of the goal after the last step, with the "
            "goal frame under the episode's own overlay; planning_success_other: under another overlay",
        }
