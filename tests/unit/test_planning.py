"""Planning: the frozen list, frames of episodes, costs, solvers against slow references, and the numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import pytest
import torch
from environment_samples import moving_dots
from method_samples import BURN_IN, SHAPES, D, T, joint_embedding, vicreg_terms
from torch import Tensor

from jepa.config.search_path import group_options
from jepa.data.area import Area
from jepa.data.draws import PURPOSES
from jepa.errors import ConfigError
from jepa.planning import report
from jepa.planning.costs import Goal, Latent, Probe
from jepa.planning.episodes import Played, Player, _rest
from jepa.planning.frozen import FrozenModel
from jepa.planning.goals import DISTANCES, RADII_PX, goal_list
from jepa.planning.solvers.base import Solver
from jepa.planning.solvers.icem import coloured_noise
from jepa.planning.solvers.inverse import FittedInverse, InverseModel, features
from jepa.planning.solvers.oracle import Oracle
from jepa.planning.solvers.random_actions import RandomActions
from jepa.planning.view import View
from jepa.planning.world import World
from jepa.prepare import make_planner

AREA = Area(2.6, 28)
CPU = torch.device("cpu")
EXPECTED = [  # start x, start y, goal x, goal y
    [21.001, 14.209, 18.224, 11.82],
    [3.281, 19.915, 14.037, 12.806],
    [20.642, 17.613, 9.147, 10.744],
    [21.4, 6.58, 14.895, 7.907],
    [12.858, 24.213, 6.564, 15.63],
    [14.006, 4.336, 21.277, 21.971],
]
SEARCHES = ("cem", "icem", "mppi", "gradient", "oracle")


# --- the list ------------------------------------------------------------------------------------------------------


def test_the_list_is_frozen() -> None:
    """Version 1 of the list. If these numbers change, VERSION must change too."""
    pairs = goal_list(AREA, seed=0, num_episodes=6)
    expected = torch.tensor(EXPECTED)
    assert torch.equal(pairs.kinds, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert torch.allclose(torch.cat((pairs.starts, pairs.goals), dim=1), expected, atol=1e-3)


def test_no_goal_is_solved_at_the_start_and_each_third_has_its_distance() -> None:
    pairs = goal_list(AREA, seed=3, num_episodes=300)
    distances = (pairs.goals - pairs.starts).norm(dim=1) / AREA.width
    limits = {0: (0.15, 0.35), 1: (0.35, 0.6), 2: (0.6, 2**0.5)}
    assert float(distances.min()) * AREA.width > max(RADII_PX)
    for kind, (low, high) in limits.items():
        own = distances[pairs.kinds == kind]
        assert len(own) == 100 and float(own.min()) >= low - 1e-6 and float(own.max()) <= high + 1e-6
    for places in (pairs.starts, pairs.goals):
        assert float(places.min()) >= AREA.low and float(places.max()) <= AREA.high
    assert not torch.equal(pairs.starts, goal_list(AREA, seed=4, num_episodes=300).starts)


def test_a_world_too_small_for_goals_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"10\.0 px wide; at least 12\.7 px"):
        goal_list(Area(8.5, 28), seed=0, num_episodes=3)


# --- frames and steps ----------------------------------------------------------------------------------------------


def world(num_episodes: int = 9, num_steps: int = 6, goal_dot: int | None = None, **changes: object) -> World:
    environment = moving_dots(**changes)
    pairs = goal_list(environment.area, seed=0, num_episodes=num_episodes)
    return World(environment, None, pairs, num_steps=num_steps, seed=0, device=CPU, goal_dot=goal_dot)


def test_frames_show_the_dot_at_its_place_with_the_overlay_of_the_episode() -> None:
    noisy, clean = world(static_noise=0.5), world()
    peak = 1 / (2 * math.pi * 1.3**2)
    states = noisy.begin()
    overlays = [noisy.observe(states, step) - clean.observe(states, step) for step in (0, 3)]
    assert torch.allclose(overlays[0], overlays[1], atol=1e-7)
    assert float(overlays[0].min()) >= 0 and 0.49 * peak < float(overlays[0].max()) <= 0.5 * peak + 1e-6
    same, other = (noisy.goal_frame(name) - clean.goal_frame(name) for name in ("same", "other"))
    assert torch.allclose(same, overlays[0], atol=1e-6)
    assert float((other - same).abs().mean()) > 0.1 * peak
    x, y = noisy.goals[0].tolist()
    slow = [[peak * math.exp(-((c - x) ** 2 + (r - y) ** 2) / (2 * 1.3**2)) for c in range(28)] for r in range(28)]
    assert torch.allclose(clean.goal_frame("same")[0, 0], torch.tensor(slow), atol=1e-6)


def test_changing_noise_is_new_in_every_frame() -> None:
    noisy = world(noise=1.0)
    states = noisy.begin()
    assert float((noisy.observe(states, 0) - noisy.observe(states, 1)).abs().mean()) > 0.01


def test_steps_obey_the_longest_action_and_the_border() -> None:
    played = world()
    there = torch.tensor([[3.0, 3.0]])
    assert torch.allclose(played.step(there, torch.tensor([[30.0, 40.0]])), torch.tensor([[5.4, 6.2]]))
    assert torch.allclose(played.step(there, torch.tensor([[-3.0, 0.0]])), torch.tensor([[2.6, 3.0]]))


def test_the_stationary_dot_rests_at_the_goal() -> None:
    played = world(num_dots=3, channels=3, goal_dot=2)
    frames = played.observe(played.begin(), 2)  # [B, C, H, W], a channel for each dot
    brightest = frames[:, 2].flatten(1).argmax(1)
    found = torch.stack((brightest % 28, brightest // 28), dim=1)
    assert float((found - played.goals).abs().max()) <= 0.5
    assert torch.allclose(played.goal_frame("same")[:, 0], played.observe(played.begin(), 0)[:, 0], atol=1e-6)
    assert torch.allclose(played.goal_frame("same")[:, 1], played.observe(played.begin(), 0)[:, 1], atol=1e-6)


def test_the_purpose_is_one_that_neither_trains_nor_probes() -> None:
    assert "planning" in PURPOSES


# --- solvers -------------------------------------------------------------------------------------------------------


def point_view(num_episodes: int = 5, horizon: int = 4, seed: int = 0) -> tuple[View, Tensor]:
    """Reach a target from the origin in the plane; the cost is the mean squared distance over the steps."""
    targets = 5 * torch.randn(num_episodes, 2, generator=torch.Generator().manual_seed(7))

    def cost(actions: Tensor) -> Tensor:
        return (actions.cumsum(0) - targets[:, None]).square().sum(-1).mean(0)

    view = View(
        horizon=horizon,
        steps_left=horizon,
        num_episodes=num_episodes,
        action_size=2,
        limit=4.0,
        generator=torch.Generator().manual_seed(seed),
        device=CPU,
        embeddings=None,
        goal_embeddings=None,
        imagined=cost,
        true=cost,
    )
    return view, targets


def solver_of(name: str, *overrides: str) -> Solver:
    return make_planner([f"plan={name}", *overrides])[0].solver


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_reaches_a_point(name: str) -> None:
    solver = solver_of(name)
    view, targets = point_view()
    plan = solver.solve(view, None)
    assert plan.shape == (4, 5, 2) and float(plan.norm(dim=-1).max()) <= 4 + 1e-4
    first = (plan.sum(0) - targets).norm(dim=-1)
    again = solver.solve(point_view()[0], None)
    assert torch.equal(plan, again)
    better = solver.solve(view, plan)  # goes on from the plan
    assert float((better.sum(0) - targets).norm(dim=-1).mean()) < 0.8
    assert float(first.mean()) < 2.0


def test_the_names_are_complete() -> None:
    assert set(group_options("plan")) == {*SEARCHES, "inverse", "random"}


def test_cem_does_what_a_slow_reference_does() -> None:
    solver = solver_of("cem", "plan.solver.num_samples=12", "plan.solver.num_elites=3", "plan.solver.num_iterations=2")
    view, targets = point_view(num_episodes=2, horizon=3, seed=5)
    source = torch.Generator().manual_seed(5)
    means, stds = [[[0.0, 0.0]] * 3] * 2, [[[2.0, 2.0]] * 3] * 2
    for _ in range(2):
        noise = torch.randn(3, 2, 12, 2, generator=source).tolist()
        for episode in range(2):
            candidates = []
            for sample in range(12):
                actions = []
                for step in range(3):
                    mean, std, drawn = means[episode][step], stds[episode][step], noise[step][episode][sample]
                    x, y = (m + s * n for m, s, n in zip(mean, std, drawn, strict=True))
                    scale = min(1.0, 4.0 / math.hypot(x, y))
                    actions.append((x * scale, y * scale))
                candidates.append(actions)
            elites = sorted(candidates, key=lambda one: _slow_cost(one, targets[episode].tolist()))[:3]
            columns = [[[elite[step][axis] for elite in elites] for axis in (0, 1)] for step in range(3)]
            averages = [[sum(values) / 3 for values in step] for step in columns]
            means = [*means[:episode], averages, *means[episode + 1 :]]
            spread = [
                [
                    math.sqrt(sum((value - average) ** 2 for value in values) / 2)
                    for values, average in zip(step, own, strict=True)
                ]
                for step, own in zip(columns, averages, strict=True)
            ]
            stds = [*stds[:episode], spread, *stds[episode + 1 :]]
    assert torch.allclose(solver.solve(view, None), torch.tensor(means).transpose(0, 1), atol=1e-4)


def _slow_cost(actions: list[tuple[float, float]], target: list[float]) -> float:
    x = y = total = 0.0
    for step in actions:
        x, y = x + step[0], y + step[1]
        total += (x - target[0]) ** 2 + (y - target[1]) ** 2
    return total / len(actions)


def test_mppi_weights_by_the_cost_in_units_of_its_spread() -> None:
    solver = solver_of("mppi", "plan.solver.num_samples=6", "plan.solver.num_iterations=1", "plan.solver.temperature=2")
    view, _ = point_view(num_episodes=1, horizon=2, seed=3)
    noise = torch.randn(2, 1, 6, 2, generator=torch.Generator().manual_seed(3))
    candidates = view.shorten(0.4 * 4 * noise)
    costs = view.imagined(candidates)[0]
    weights = [math.exp(-float(cost) / (2 * float(costs.std()))) for cost in costs]
    slow = sum(weight * candidates[:, 0, row] for row, weight in enumerate(weights)) / sum(weights)
    assert torch.allclose(solver.solve(view, None)[:, 0], slow, atol=1e-5)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_cost_that_is_the_same_for_all_actions_gives_a_plan(name: str) -> None:
    def flat(actions: Tensor) -> Tensor:
        return 0.75 + 0 * actions.sum((0, 3))  # a collapsed model predicts the same, whatever the actions

    view, _ = point_view()
    plan = solver_of(name).solve(dataclasses.replace(view, imagined=flat, true=flat), None)
    assert bool(plan.isfinite().all()) and float(plan.norm(dim=-1).max()) <= 4 + 1e-4


def test_coloured_noise_has_variance_one_and_the_slope_asked_for() -> None:
    view, _ = point_view(num_episodes=50, horizon=16)
    noise = coloured_noise(view, 200, 2.0)
    assert abs(float(noise.var()) - 1) < 0.02
    power = torch.fft.rfft(noise, dim=0).abs().square().mean(dim=(1, 2, 3))
    assert abs(float(power[2] / power[4]) - 4) < 0.2  # 1 / f^2
    assert float((noise[1:] * noise[:-1]).mean()) > 0.6
    white = torch.randn(4, 5, 3, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(coloured_noise(point_view(seed=1)[0], 3, 0.0), white)


def test_random_actions_are_uniform_in_direction_and_length() -> None:
    view, _ = point_view(num_episodes=4000, horizon=2)
    plan = RandomActions().solve(view, None)
    assert abs(float(plan.norm(dim=-1).mean()) - 2) < 0.05 and float(plan.norm(dim=-1).max()) <= 4
    assert float(plan.mean(dim=(0, 1)).abs().max()) < 0.1


def test_the_rest_of_a_plan_is_cut_or_padded() -> None:
    plan = torch.arange(6.0).view(3, 1, 2)
    assert _rest(plan, 1, 3).flatten().tolist() == [2, 3, 4, 5, 0, 0]
    assert _rest(plan, 1, 1).flatten().tolist() == [2, 3]


# --- the model -----------------------------------------------------------------------------------------------------


def frozen(method: torch.nn.Module, *, maps: dict[str, object] | None = None, **changes: object) -> FrozenModel:
    environment = moving_dots(**{"num_steps": T, "num_dots": SHAPES.num_dots, **changes})
    return FrozenModel(
        method.requires_grad_(False),
        environment=environment,
        normalizer=None,
        maps=None if maps is None else {"location": maps},
        seed=0,
        device=CPU,
        autocast=contextlib.nullcontext,
    )


@pytest.mark.parametrize("networks", [{}, {"predictor": BURN_IN}])
def test_predictions_are_those_of_a_rollout(networks: dict[str, object]) -> None:
    method = joint_embedding(vicreg_terms(sim=1.0), networks=networks).eval()
    model = frozen(method)
    context = model.context_frames
    frames, actions = torch.rand(context, 3, 1, 28, 28), 2 * torch.randn(T - 1, 3, 2)
    expected = method.rollout(frames, actions / model.environment.action_std).predictions[context - 1 :]
    candidates = torch.stack((torch.zeros_like(actions), actions), dim=2)[context - 1 :]
    found = model.predict(model.encode(frames), actions[: context - 1], candidates, None)
    assert torch.allclose(found[:, :, 1], expected, atol=1e-6)
    assert not torch.allclose(found[:, :, 0], expected, atol=1e-3)
    assert model.evaluations == (T - 1) * 3 * 2


def test_costs_are_those_of_slow_loops() -> None:
    map_of = {"kind": "linear", "weight": torch.randn(D, 2 * SHAPES.num_dots, dtype=torch.float64)}
    model = frozen(joint_embedding(vicreg_terms(sim=1.0)).eval(), maps={"prediction": map_of, "encoder": map_of})
    predicted, goal = torch.randn(3, 2, 4, D), Goal(torch.randn(2, D), 20 * torch.rand(2, 2))
    latent = [
        [
            sum(float((predicted[step, b, n] - goal.embeddings[b]).pow(2).mean()) for step in range(3)) / 3
            for n in range(4)
        ]
        for b in range(2)
    ]
    assert torch.allclose(Latent(at="sum")(model, predicted, goal), torch.tensor(latent), atol=1e-5)
    px = model.environment.unnormalize_locations((predicted.double() @ map_of["weight"]).float())
    goals = model.environment.unnormalize_locations((goal.embeddings.double() @ map_of["weight"]).float())
    told = [[float((px[2, b, n, :2] - goal.locations[b]).pow(2).sum()) for n in range(4)] for b in range(2)]
    seen = [[float((px[2, b, n, :2] - goals[b, 4:]).pow(2).sum()) for n in range(4)] for b in range(2)]
    assert torch.allclose(Probe(at="last", goal="told")(model, predicted, goal), torch.tensor(told), rtol=1e-4)
    found = Probe(at="last", goal="seen", goal_dot=2)(model, predicted, goal)
    assert torch.allclose(found, torch.tensor(seen), rtol=1e-4)


class _Locations(torch.nn.Module):
    """An encoder that knows: the embedding is the location of the brightest pixel, and a constant."""

    context_frames = 1

    def rollout(self, states: Tensor, actions: Tensor, noise: Tensor | None) -> object:
        from jepa.types import Rollout

        weights = states.clamp(min=0).flatten(2) / states.clamp(min=0).flatten(2).sum(-1, keepdim=True)
        rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
        x, y = (weights * columns.flatten()).sum(-1), (weights * rows.flatten()).sum(-1)
        return Rollout(torch.stack((x, y), dim=-1), actions)

    def draw_rollout_noise(self, *_: object) -> None:
        return None


def test_the_inverse_model_shares_the_way_out_among_the_steps_left() -> None:
    model = frozen(_Locations(), num_dots=1, normalize=False, num_steps=9, batch_size=64)
    fitted = InverseModel(num_sequences=2000, ridge=1e-9).prepared(model)
    assert isinstance(fitted, FittedInverse)
    view, _ = point_view(num_episodes=2, horizon=4)
    here, goal = torch.tensor([[14.0, 14.0], [10.0, 12.0]]), torch.tensor([[18.0, 12.0], [14.0, 16.0]])
    plan = fitted.solve(View(**{**vars(view), "embeddings": here, "goal_embeddings": goal}), None)
    assert plan.shape == (4, 2, 2) and torch.equal(plan[0], plan[3])
    assert float((plan[0] - (goal - here) / 4).abs().max()) < 0.35  # borders and the mean direction bend it a little
    assert features(torch.ones(3), torch.zeros(3), torch.tensor(4)).tolist() == [1] * 3 + [0] * 3 + [1] + [
        *[0.25] * 3, *[0] * 3, 0.25
    ]


# --- episodes and numbers ------------------------------------------------------------------------------------------


def test_the_oracle_reaches_every_goal_and_counts_its_steps() -> None:
    episodes = world(num_episodes=60, num_steps=16)
    model = frozen(_Locations(), num_dots=1, num_steps=17)
    solver = solver_of("oracle")
    assert isinstance(solver, Oracle)
    player = Player(episodes, model, solver, Latent(at="sum"), horizon=8, replan_every=4)
    played = player.play("same", num_shown=2)
    assert bool((played.distances[-1] < 1.4).double().mean() >= 0.99)
    assert played.evaluations == 60 * solver.num_samples * solver.num_iterations * (8 + 8 + 8 + 4)
    moves = (played.locations[1:] - played.locations[:-1]).norm(dim=-1)
    assert float(moves.max()) <= 4 + 1e-4
    assert played.frames is not None and played.frames.shape == (17, 2, 1, 28, 28)
    assert torch.equal(player.play("same").locations, played.locations)


def test_numbers_by_hand() -> None:
    """Four episodes on the x axis, towards 0: (start, after one step, at the end)."""
    paths = [[3.0, 1.0, 1.0], [9.0, 1.0, 5.0], [20.0, 8.0, 1.5], [3.0, 2.5, 2.0]]
    locations = torch.zeros(3, 4, 2)
    locations[..., 0] = torch.tensor(paths).T
    played = Played(locations, torch.zeros(4, 2), evaluations=40, seconds=2.0, cpu_seconds=3.0, predictor_seconds=1.0)
    found = report.numbers(played, torch.tensor([0, 1, 2, 0]))
    assert found["all"]["success_1.9px_end"] == 0.5 and found["all"]["success_1.9px_ever"] == 0.75
    assert found["all"]["success_1.4px_end"] == 0.25 and found["all"]["success_1.4px_ever"] == 0.5
    assert found["all"]["distance_px"] == pytest.approx((1 + 5 + 1.5 + 2) / 4)
    assert [found[name]["success_1.9px_end"] for name in DISTANCES] == [0.5, 0.0, 1.0]
    assert found["model_steps_per_episode"] == 10 and found["predictor_share"] == 0.5
    metrics = report.metrics({"same": found, "other": found})
    assert set(metrics) == set(report.METRIC_NAMES)
    assert metrics["planning_success"] == metrics["planning_failure_other"] == 0.5


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["plan=cem", "plan.list_version=2"], r"plan\.list_version=2: .* makes goal list 1"),
        (["plan=cem", "plan.solver.num_elites=100"], r"plan\.solver\.num_elites=100: must be below num_samples=100"),
        (["plan=cem", "plan.cost.at=first"], r"plan\.cost\.at='first': must be one of last, sum"),
        (["plan=cem", "plan/task=stationary"], r"plan/cost=probe"),
        (["plan=inverse", "plan/task=stationary", "plan/cost=probe"], r"goal_dot=2: InverseModel minimises no cost"),
        (["plan=cem", "plan.num_episodes=0"], r"plan\.num_episodes=0: must be at least 1"),
        (["plan=cem", "plan.cost=probe"], r"plan\.cost='probe': is chosen with a slash: plan/cost=probe"),
    ],
)
def test_bad_settings_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_planner(overrides)


def test_a_run_that_cannot_be_planned_with_is_refused() -> None:
    from functools import partial

    from jepa.models.predictors import IdentityPredictor

    method = joint_embedding(vicreg_terms(sim=1.0), networks={"predictor": partial(IdentityPredictor)})
    cem, inverse = (make_planner([f"plan={name}"])[0] for name in ("cem", "inverse"))
    with pytest.raises(ConfigError, match=r"CEM needs a model that predicts what actions do, and RUN has none"):
        cem.check(moving_dots(), method, "RUN")
    inverse.check(moving_dots(), method, "RUN")
    sees_changes = joint_embedding(vicreg_terms(sim=1.0))
    sees_changes.input = "difference"
    with pytest.raises(ConfigError, match=r"differences of frames .* take model\.input=stacked"):
        inverse.check(moving_dots(), sees_changes, "RUN")
    stationary = make_planner(["plan=cem", "plan/task=stationary", "plan/cost=probe"])[0]
    with pytest.raises(ConfigError, match=r"plan\.goal_dot=2: must be null, because the world has one dot"):
        stationary.check(moving_dots(), method, "RUN")


def test_a_horizon_beyond_the_trained_one_is_named() -> None:
    planner = make_planner(["plan=cem", "plan.horizon=24", "plan.num_steps=30"])[0]
    assert planner.warnings(moving_dots()) == [
        "plan.horizon=24: the model was trained to predict 16 steps (dataset.num_steps=17)"
    ]
    assert planner.warnings(moving_dots(num_steps=25)) == []
    shorter = make_planner(["plan=cem", "plan.horizon=24"])[0]  # 16 actions an episode: no plan is longer
    assert shorter.warnings(moving_dots()) == []


# --- a goal that is constant ---------------------------------------------------------------------------------------


class _ThreeDots(torch.nn.Module):
    """An embedding of all three locations that predicts exactly; ``keeps`` 0: the stationary dot is forgotten."""

    context_frames = 1
    predicts_actions_effects = True

    def __init__(self, keeps: float) -> None:
        super().__init__()
        self.keeps = torch.tensor([1.0, 1, 1, 1, keeps, keeps])

    def rollout(self, states: Tensor, actions: Tensor, noise: Tensor | None) -> object:
        from jepa.types import Rollout

        weights = states / states.sum(dim=(-1, -2), keepdim=True)  # [T, B, 3, H, W]
        x, y = ((weights.sum(axis) * torch.arange(28.0)).sum(-1) for axis in (-2, -1))
        return Rollout(torch.stack((x, y), dim=-1).flatten(-2) * self.keeps, actions)

    def predict(self, encodings: Tensor, actions: Tensor, noise: Tensor | None) -> Tensor:
        moved = torch.nn.functional.pad(actions.cumsum(0), (0, 4))
        return encodings[0] + moved

    def draw_rollout_noise(self, *_: object) -> None:
        return None


def test_a_resting_goal_is_found_by_a_model_that_holds_it_alone() -> None:
    identity = {"kind": "linear", "weight": torch.eye(6, dtype=torch.float64)}
    solver, cost = solver_of("cem"), Probe(at="sum", goal="seen", goal_dot=2)
    episodes = world(num_episodes=12, num_steps=10, goal_dot=2, num_dots=3, channels=3, normalize=False)
    shares = []
    for keeps in (1.0, 0.0):
        maps = {"prediction": identity, "encoder": identity}
        model = frozen(_ThreeDots(keeps), maps=maps, num_dots=3, channels=3, normalize=False, num_steps=11)
        played = Player(episodes, model, solver, cost, horizon=10, replan_every=5).play("same")
        shares.append(float((played.distances[-1] < 1.9).double().mean()))
    assert shares[0] == 1.0 and shares[1] < 0.3
