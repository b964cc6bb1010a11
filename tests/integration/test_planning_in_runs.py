"""Planning within runs, in a pack, after a resume, and by ``python -m jepa.plan``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_api import TINY

import jepa
from jepa import plan as plan_command
from jepa import run as run_command
from jepa.config.compose import compose
from jepa.packing.pack import PackOptions, run_pack
from jepa.planning.report import METRIC_NAMES
from jepa.prepare import make_plan
from jepa.store.planning import read_planning

FEW = [
    *("plan=cem", "plan.num_episodes=6", "plan.num_steps=5", "plan.replan_every=3"),
    *("plan.solver.num_samples=10", "plan.solver.num_elites=3", "plan.solver.num_iterations=2"),
]
CLOCK = ("seconds", "cpu_seconds", "predictor_share")


def planned_numbers(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "finished", result["error"]
    return without_clock({"metrics": {name: result["metrics"][name] for name in METRIC_NAMES}, **result["planning"]})


def without_clock(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: without_clock(value) for name, value in node.items() if name not in CLOCK}
    return node


@pytest.fixture(scope="module", params=["vicreg", "rssm"])
def planned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that has planned, with noise, so that the overlays of the goal frame differ."""
    folder = tmp_path_factory.mktemp("planning") / request.param
    words = [f"model={request.param}", "dataset.static_noise=0.5", *TINY, *FEW, "plots=true", f"folder={folder}"]
    jepa.train(words)
    return folder


def test_a_run_tells_what_it_planned(planned: Path) -> None:
    found = planned_numbers(planned)
    assert found["episodes"] == 6 and found["horizon"] == 4 and found["list_version"] == 1
    assert found["settings"]["solver"]["num_samples"] == 10 and found["cost"] == "Latent"
    assert found["overlays"]["same"] != found["overlays"]["other"]
    # 10 candidates, 2 iterations, 6 episodes; plans of 4 and then 2 steps; predictions for the picture do not count
    assert found["overlays"]["same"]["model_steps"] == 10 * 2 * 6 * (4 + 2)
    assert found["metrics"]["planning_distance_px"] == found["overlays"]["same"]["all"]["distance_px"]
    with Image.open(planned / "plots" / "planning.gif") as animation:
        assert animation.n_frames == 6
    assert (planned / "plots" / "planning.png").is_file()


def test_the_command_finds_what_the_run_found(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [word for word in FEW if word != "plan=cem"]
    assert plan_command.command_line([str(planned), "planner=cem", *overrides]) == 0
    shown = capsys.readouterr().out
    assert "cem     same" in shown and "(random)" in shown and "of processor time" in shown
    record = without_clock(read_planning(planned)["cem"])
    in_run = planned_numbers(planned)
    in_run.pop("metrics")
    assert record == in_run


def test_several_planners_share_a_table_and_a_file(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_command.command_line([str(planned), "planner=inverse,random", "plan.num_episodes=6"]) == 0
    words = ["planner=oracle", "plan.num_episodes=6", "plan.num_steps=12", "plan.replan_every=6"]
    assert plan_command.command_line([str(planned), *words]) == 0
    assert {"inverse", "oracle", "random"} <= set(read_planning(planned))
    oracle = read_planning(planned)["oracle"]["overlays"]["other"]["all"]
    assert oracle["success_1.4px_end"] == 1.0


def test_a_resumed_run_plans_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it plans: the run judges and plans again, from the last checkpoint."""
    from jepa.training import run_state

    words = ["model=vicreg", "dataset.static_noise=0.5", *TINY, *FEW]
    jepa.train([*words, f"folder={tmp_path / 'whole'}"])
    with monkeypatch.context() as patched:
        patched.setattr(run_state.RunState, "_plan", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            jepa.train([*words, f"folder={tmp_path / 'cut'}"])
    assert not (tmp_path / "cut" / "result.json").exists()
    jepa.train([*words, f"folder={tmp_path / 'cut'}"])
    assert planned_numbers(tmp_path / "cut") == planned_numbers(tmp_path / "whole")


def test_a_packed_run_plans_as_a_run_alone(tmp_path: Path) -> None:
    """Each job of a pack plans with its own model. Weights of a pack differ by rounding, so plans agree in px."""
    words = ["model=vicreg", "dataset.static_noise=0.5", *TINY, *FEW]
    packed = [[*words, f"seed={seed}", f"folder={tmp_path / f'packed{seed}'}"] for seed in (0, 1)]
    options = PackOptions(pack_size=2, executor="loop", common_random_numbers=False)
    run_pack([make_plan(compose(job, with_hydra=True)) for job in packed], options)
    jepa.train([*words, "seed=1", f"folder={tmp_path / 'alone'}"])
    alone, one, other = (planned_numbers(tmp_path / name) for name in ("alone", "packed1", "packed0"))
    key = "planning_distance_px"
    assert one["metrics"][key] == pytest.approx(alone["metrics"][key], abs=1e-3)
    assert abs(other["metrics"][key] - alone["metrics"][key]) > 0.01
    assert one["random"] == alone["random"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=identity", "plan=cem"], "CEM needs a model that predicts what actions do, and model=identity has"),
        (["plan=cen"], "cem"),
        (["plan=cem", "plan.list_version=3"], "plan.list_version=3"),
        (["plan=cem", "objective=planning_success"], "take planning_failure"),
        (["objective=planning_failure"], "objective='planning_failure': must be one of"),
        (["plan=cem", "plan.solver.num_sample=3"], "plan.solver.num_samples"),
    ],
)
def test_a_run_is_refused_before_anything_is_written(
    words: list[str], message: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command.command_line([*words, *TINY]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and message in shown and shown.count("\n") == 1
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["planner=cen"], "planner='cen': must be one of cem"),
        (["nothing/here"], "nothing/here: holds no run"),
        (["dataset.noise=1"], "dataset.noise=1: must be a key of plan"),
        (["plan.num_episode=3"], "did you mean 'plan.num_episodes'?"),
        (["plan.goal_dot=2", "plan/cost=probe"], "the world has one dot"),
        (["planner=mppi", "plan.solver.temprature=1"], "did you mean 'plan.solver.temperature'?"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    words: list[str], message: str, planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_command.command_line([str(planned), *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and message in shown and shown.count("\n") == 1


def test_a_planner_that_is_stopped_costs_no_other_planner(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(planned, folder, ignore=shutil.ignore_patterns("planning.json"))
    before = jepa.api.Run.planned

    def stopped(run: Any, planner: Any, settings: Any) -> Any:
        if type(planner.solver).__name__ == "Oracle":
            raise KeyboardInterrupt
        return before(run, planner, settings)

    monkeypatch.setattr(jepa.api.Run, "planned", stopped)
    with pytest.raises(KeyboardInterrupt):
        plan_command.command_line([str(folder), "planner=random,oracle", "plan.num_episodes=3"])
    assert list(read_planning(folder)) == ["random"]


def test_a_folder_whose_name_has_an_equals_sign_is_a_folder(planned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search-model=vicreg"
    shutil.copytree(planned, folder)
    assert plan_command.command_line([str(folder), "planner=random", "plan.num_episodes=3"]) == 0
    assert read_planning(folder)["random"]["episodes"] == 3


def test_a_damaged_file_is_named_before_planning(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(planned, folder)
    (folder / "planning.json").write_text("{")
    assert plan_command.command_line([str(folder), "planner=random"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {folder / 'planning.json'}: cannot be read")


def test_a_search_may_minimise_the_failures() -> None:
    from jepa.training.check_model import check_model

    plan = make_plan(compose([*TINY, *FEW, "objective=planning_failure"], with_hydra=True))
    check_model(plan)
    assert plan.planner is not None and torch.get_num_threads() > 0


def test_planning_changes_no_hash_of_a_run_without_it() -> None:
    """Runs of earlier versions keep their hash: the key counts only if a planner is chosen."""
    without, with_planner = (make_plan(compose(words, with_hydra=True)) for words in (TINY, [*TINY, "plan=cem"]))
    assert "plan" not in without.scientific and "plan" in with_planner.scientific
