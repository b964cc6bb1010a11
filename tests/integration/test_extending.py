"""docs/extending.md, word by word: its files in a package outside this one, run together, alone and packed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import REPOSITORY, lay_out

from jepa.packing.trainer import PackTrainer
from jepa.plan import command_line as plan_command
from jepa.results.cli import main as results_command
from jepa.run import command_line
from jepa.store import checkpoint
from jepa.training.trainer import Trainer

PAGE = REPOSITORY / "docs" / "extending.md"
TINY = [
    "dataset.size=48",
    "dataset.batch_size=8",
    "dataset.num_steps=4",
    "trainer.epochs=2",
    "trainer.log_every_steps=3",
    "probe.fit_sequences=80",
    "probe.judge_sequences=40",
    "model.predictor.num_layers=1",
    "progress=none",
    "plots=false",
]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The page's files, written where it says; the arguments that let a command use them."""
    lay_out(PAGE, tmp_path)
    (tmp_path / "myconf" / "sweep").mkdir()
    (tmp_path / "myconf" / "sweep" / "mine.yaml").write_text(
        "overrides: {model: smooth, model/encoder: flat, probe/targets: radius,"
        " dataset: bowl, dataset/texture: stripes}\n"
        "axes:\n  model.terms.smooth.coeff: [0.5, 1.5]\n  dataset.distractors.even.coeff: [0.0, 2.0]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    return ["--config-dir", str(tmp_path / "myconf"), "extensions=[mypkg]", *TINY]


def result(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_parts_of_ones_own_run_together(mine: list[str], tmp_path: Path) -> None:
    run = [*mine, "model=smooth", "model/encoder=flat", "probe/targets=radius", "dataset=bowl"]
    run += ["dataset/texture=stripes", "logger=[csv,best]"]
    assert command_line([*run, f"folder={tmp_path / 'run'}"]) == 0
    found = result(tmp_path / "run")
    assert found["status"] == "finished" and found["metrics"]["loss/smooth"] > 0
    assert found["config"]["dataset"]["distractors"]["even"]["coeff"] == 1.0
    lines = {line["name"]: line["per_step_px"] for line in found["reference"]["prediction"]["lines"]}
    spread = lines["always the centre"][0] ** 2  # of the start; then 0.9 times as far from the centre, and 2 px² more
    assert lines["always the centre"][1] ** 2 == pytest.approx(0.81 * spread + 2, rel=0.02)
    assert found["versions"]["mypkg"] == "unknown"
    best = (tmp_path / "run" / "best.txt").read_text()
    assert best == f"None: prediction_rmse_px {found['metrics']['prediction_rmse_px']}\n"
    assert (tmp_path / "run" / "probe.csv").is_file()
    assert "encoder.fc.weight" in checkpoint.load(tmp_path / "run" / checkpoint.LAST)["model"]


@pytest.mark.parametrize("model", ["simclr", "rssm"])
def test_the_term_is_given_to_other_methods(mine: list[str], tmp_path: Path, model: str) -> None:
    small = ["model.encoder.width_factor=1", "model.encoder.embedding_size=16"]
    small += ["model.decoder.width_factor=1"] if model == "rssm" else []
    arguments = [word for word in mine if "num_layers" not in word or model != "rssm"]
    for name, coeff in (("without", "0"), ("with", "2")):
        term = f"+model.terms.smooth={{_target_:mypkg.parts.Smooth,coeff:{coeff}}}"
        assert command_line([*arguments, f"model={model}", *small, term, f"folder={tmp_path / name}"]) == 0
    assert command_line([*arguments, f"model={model}", *small, f"folder={tmp_path / 'plain'}"]) == 0
    plain, without, extended = (
        checkpoint.load(tmp_path / name / checkpoint.LAST)["model"] for name in ("plain", "without", "with")
    )
    assert all(torch.equal(value, without[name]) for name, value in plain.items())
    assert any(not torch.equal(value, extended[name]) for name, value in plain.items())
    assert "loss/smooth" in result(tmp_path / "with")["metrics"]


def test_a_sweep_file_of_ones_own_alone_and_packed(mine: list[str], tmp_path: Path) -> None:
    sweep = [*mine, "+sweep=mine", "logger=best"]
    assert command_line([*sweep, f"hydra.sweep.dir={tmp_path / 'alone'}"]) == 0
    assert command_line([*sweep, f"hydra.sweep.dir={tmp_path / 'packed'}", "hydra/launcher=packed"]) == 0
    alone, packed = (
        {path.parent.name: result(path.parent) for path in sorted((tmp_path / name).glob("*/result.json"))}
        for name in ("alone", "packed")
    )
    assert len(alone) == 4 and set(alone) == set(packed)
    for key, single in alone.items():
        assert single["status"] == packed[key]["status"] == "finished"
        for metric in ("prediction_rmse_px", "encoder_radius_rmse", "loss/total", "loss/smooth"):
            assert packed[key]["metrics"][metric] == pytest.approx(single["metrics"][metric], rel=1e-3), metric
    for key, single in alone.items():
        for name, job in (("alone", single), ("packed", packed[key])):
            words = (tmp_path / name / key / "best.txt").read_text().split()
            assert float(words[-1]) == job["metrics"]["prediction_rmse_px"] and f"{key[:6]}:" in words
    assert max(job["pack"]["size"] for job in packed.values()) > 1
    assert command_line([*sweep, f"hydra.sweep.dir={tmp_path / 'alone'}"]) == 0  # finished jobs are skipped


EVERY_KIND = """\
overrides:
  dataset: bowl
  dataset/texture: stripes
  model/encoder: flat
  model/predictor: linear
  optimizer: sign
  probe/targets: radius
axes:
  model: [smooth, averaged]
  seed: [0, 1]
  dataset.distractors.even.coeff: [1.0]
"""


@pytest.mark.parametrize("launcher", ["basic", "packed"])
def test_parts_of_every_kind_in_one_sweep_that_is_interrupted(
    mine: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    (tmp_path / "myconf" / "sweep" / "every_kind.yaml").write_text(EVERY_KIND)
    arguments = [word for word in mine if "num_layers" not in word]
    sweep = [*arguments, "+sweep=every_kind", "logger=best", f"hydra/launcher={launcher}"]
    assert command_line([*sweep, f"hydra.sweep.dir={tmp_path / 'whole'}"]) == 0
    with monkeypatch.context() as patch:
        interrupt_once(patch, tmp_path / "interrupted")
        command_line([*sweep, f"hydra.sweep.dir={tmp_path / 'parts'}"])
    assert (tmp_path / "interrupted").is_file()
    assert command_line([*sweep, f"hydra.sweep.dir={tmp_path / 'parts'}"]) == 0
    whole, parts = (
        {path.parent.name: result(path.parent) for path in sorted((tmp_path / name).glob("*/result.json"))}
        for name in ("whole", "parts")
    )
    assert len(whole) == 4 and set(whole) == set(parts)
    assert any("resumed" in job for job in parts.values()) and not any("resumed" in job for job in whole.values())
    for key, undisturbed in whole.items():
        clock = {"train_seconds", "sequences_per_second"}
        ours, theirs = (
            {name: value for name, value in job["metrics"].items() if name not in clock}
            for job in (parts[key], undisturbed)
        )
        assert ours == theirs and undisturbed["status"] == "finished"
        assert {"encoder_radius_rmse", "prediction_rmse_px", "loss/total"} <= set(ours)
        assert (tmp_path / "parts" / key / "best.txt").is_file()
    states = {
        choice: checkpoint.load(tmp_path / "whole" / key / checkpoint.LAST)
        for key, job in whole.items()
        for choice in [job["choices"]["model"]]
    }
    assert "predictor.step.weight" in states["smooth"]["model"] and states["smooth"]["optimizer"] == {}
    averaged = states["averaged"]["model"]
    assert not torch.equal(averaged["target.network.fc.weight"], averaged["encoder.fc.weight"])


def interrupt_once(monkeypatch: pytest.MonkeyPatch, mark: Path) -> None:
    """Send a SIGINT to the first process that comes to step 4; ``mark`` is the file that says so."""
    for trainer in (Trainer, PackTrainer):
        original = trainer.advance

        def advance(self: Trainer | PackTrainer, original: Callable[..., None] = original) -> None:
            original(self)
            if self.step == 4 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(trainer, "advance", advance)


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ("a loss term", ["\nsmooth  "]),
        ("an encoder", ["\nidm (encoder=flat)  ", "\nidm (encoder=menet5)  "]),
        ("a distractor", ["mine", "v1", "even", "fixed_125"]),
        ("a probe target", ["encoder_radius_rmse"]),
    ],
)
def test_a_part_of_ones_own_shows_in_the_benchmark(
    mine: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, shown: list[str]
) -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    _, command, text = next(line for line in lines if line.startswith(f"| {part} |")).split(" | ")
    words = command.strip("`").split()
    small = ["sweep.n_trials=1", "sweep.final.axes.seed=[1]", "precision=fp32"]
    if not any(word.startswith("sweep.final") for word in words):
        small.append("sweep.final.axes.benchmark=[fixed_125]")
    assert command_line([*mine, "+sweep=benchmark", *words, *small]) == 0
    # the baseline without the part: a leaderboard names an option only where rows differ in it
    if part == "an encoder":
        assert command_line([*mine, "+sweep=benchmark", words[0], *small, "sweep.name=plain"]) == 0
    capsys.readouterr()
    columns = [word for word in re.findall(r"`(--[^`]*)`", text) if word != "--leaderboard"]
    assert results_command(["outputs", *(columns[0].split() if columns else ["--leaderboard"])]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in shown), table


def test_a_probe_of_ones_own_fits_what_least_squares_does(mine: list[str], tmp_path: Path) -> None:
    run = [*mine, "model.encoder.width_factor=1", "model.encoder.embedding_size=8", "probe/targets=start"]
    for name in ("least_squares", "in_memory"):
        assert command_line([*run, f"probe={name}", f"folder={tmp_path / name}"]) == 0
    ours, theirs = (result(tmp_path / name)["metrics"] for name in ("in_memory", "least_squares"))
    for metric in ("prediction_rmse_px", "encoder_rmse_px", "prediction_start_rmse_px", "prediction_start_r2"):
        assert ours[metric] == pytest.approx(theirs[metric], rel=1e-6), metric


def test_a_planner_of_ones_own_in_a_run_and_with_a_finished_one(
    mine: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model=smooth", "model/encoder=flat"]
    short = ["plan.num_episodes=12", "plan.num_steps=3"]
    folder, own = tmp_path / "run", mine[:3]
    assert command_line([*mine, *small, *short, "plan=shooting", f"folder={folder}"]) == 0
    planned = result(folder)["planning"]
    assert planned["overlays"]["same"]["model_steps_per_episode"] == 300 * (3 + 2 + 1)
    assert plan_command([str(folder), *own, *short, "planner=shooting,random"]) == 0
    again = json.loads((folder / "planning.json").read_text(encoding="utf-8"))
    assert again["planners"]["shooting"]["overlays"]["same"]["all"] == planned["overlays"]["same"]["all"]
    capsys.readouterr()
    assert plan_command([str(folder), *own, "planner=shoting"]) == 2
    assert "planner='shoting'" in (said := capsys.readouterr().err) and "did you mean 'shooting'?" in said
    assert plan_command([str(folder), "--config-dir", "nowhere"]) == 2
    assert "config_dir=nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "_target_='mypkg.parts.Smooth': must name a class of the package jepa; extensions=[mypkg] allows it"),
        (["extensions=[mypgk]"], "extensions=mypgk: no such package; did you mean 'mypkg'?"),
        (["extensions=[my-pkg]"], "extensions='my-pkg': must be names of packages"),
    ],
)
def test_code_that_was_not_allowed_is_refused(
    mine: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    arguments = [word for word in mine if not word.startswith("extensions")]
    code = command_line([*arguments, *words, "model=smooth", f"folder={tmp_path / 'run'}"])
    assert code == 2 and said in capsys.readouterr().err and not (tmp_path / "run").exists()
