"""Runs that are probed for the location, the start and the background's identity: alone, packed and resumed."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import jepa
from jepa.run import command_line
from jepa.training.trainer import Trainer

THREE = [
    "dataset=backgrounds",
    "dataset.distractors.background.num_backgrounds=3",
    "probe/targets=[start,background]",
    "dataset.size=48",
    "dataset.batch_size=8",
    "dataset.num_steps=5",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "trainer.epochs=2",
    "trainer.warmup_epochs=1",
    "trainer.log_every_steps=4",
    "trainer.probe_every_epochs=1",
    "probe.fit_sequences=400",
    "probe.judge_sequences=200",
    "progress=none",
    "plots=false",
]
MEASURED = ("rmse_px", "start_rmse_px", "start_r2", "background_accuracy", "background_chance")
NUMBERS = [f"{probe}_{name}" for name in MEASURED for probe in ("prediction", "encoder")]
CLOCK = {"time_s", "sequences_per_second", "train_seconds"}


def science(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "result.json").read_text(encoding="utf-8"))["metrics"]
    return {name: value for name, value in metrics.items() if name not in CLOCK}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> jepa.api.Run:
    return jepa.train([*THREE, f"folder={tmp_path_factory.mktemp('three') / 'run'}"])


def test_a_run_is_probed_for_three_things(run: jepa.api.Run) -> None:
    metrics = science(run.folder)
    assert set(NUMBERS) <= set(metrics) and all(math.isfinite(metrics[name]) for name in NUMBERS)
    by_step = ("prediction_background_accuracy_per_step", "encoder_start_rmse_px_per_step")
    assert [len(metrics[name]) for name in by_step] == [5, 5]
    assert metrics["encoder_start_rmse_px"] == metrics["encoder_rmse_px"]
    assert 1 / 3 < metrics["encoder_background_chance"] < 0.5
    assert metrics["encoder_background_accuracy"] > 0.95  # one fixed overlay of three is easily told
    records = run.metrics[run.metrics.kind == "probe"]
    assert len(records) == 2 and records[NUMBERS].notna().all(axis=None)


def test_the_location_is_the_same_as_without_the_others(run: jepa.api.Run, tmp_path: Path) -> None:
    words = [word for word in THREE if not word.startswith("probe/targets")]
    alone = science(jepa.train([*words, f"folder={tmp_path / 'alone'}"]).folder)
    assert {name: science(run.folder)[name] for name in alone} == alone


def test_maps_of_every_target_can_be_loaded(run: jepa.api.Run) -> None:
    batch = run.environment.batch(64)
    z = run.encode(batch.states)
    backgrounds, start = run.probe("background").encoder(z), run.probe("start").encoder(z[:1])
    assert backgrounds.shape == (5, 64) and backgrounds.dtype == torch.int64
    right = (backgrounds[0] == batch.targets["background"][0]).double().mean()
    assert float(right) == pytest.approx(science(run.folder)["encoder_background_accuracy"], abs=0.05)
    error = (start - run.environment.to_px(batch.locations[:1])).square().sum(-1).mean().sqrt()
    assert float(error) == pytest.approx(science(run.folder)["encoder_start_rmse_px"], rel=0.15)
    with pytest.raises(jepa.errors.ConfigError, match=r"target='strat': .*location, start, background.*'start'"):
        run.probe("strat")


def test_a_resumed_run_has_the_same_numbers(
    run: jepa.api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[[Trainer], None] = Trainer.advance

    def advance(self: Trainer) -> None:
        original(self)
        if self.step == 7:
            monkeypatch.setattr(Trainer, "advance", original)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "advance", advance)
    words = [*THREE, f"folder={tmp_path / 'run'}"]
    assert command_line(words) == 130 and not (tmp_path / "run" / "result.json").exists()
    assert command_line(words) == 0
    assert science(tmp_path / "run") == science(run.folder)


@pytest.mark.parametrize("probe", ["least_squares", "adam"])
def test_packed_runs_have_the_numbers_they_have_alone(probe: str, tmp_path: Path) -> None:
    sweep = [*THREE, f"probe={probe}", "seed=0,1", "dataset.static_noise=0.25", "--multirun"]
    sweep += ["probe.epochs=2"] if probe == "adam" else []
    for name, launcher in (("alone", "basic"), ("packed", "packed")):
        words = [*sweep, f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path / name}"]
        words += ["hydra.launcher.executor=vmap"] if launcher == "packed" else []
        assert command_line(words) == 0
    folders = sorted(path.parent for path in (tmp_path / "alone").glob("*/result.json"))
    assert len(folders) == 2
    for folder in folders:
        ours, theirs = science(tmp_path / "packed" / folder.name), science(folder)
        assert ours.keys() == theirs.keys()
        for name in NUMBERS:
            tolerance = {"abs": 0.01} if "accuracy" in name else {"rel": 1e-3}
            assert ours[name] == pytest.approx(theirs[name], **tolerance), name
    assert json.loads((tmp_path / "packed" / folders[0].name / "result.json").read_text())["pack"]["size"] == 2


def test_the_objective_may_be_the_error_of_another_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*THREE, "objective=prediction_start_rmse_px", f"folder={tmp_path / 'run'}"]
    assert command_line(words) == 0
    found = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert found["objective"] == found["metrics"]["prediction_start_rmse_px"]
    assert command_line([*words, "objective=prediction_strat_rmse_px"]) == 2
    assert "did you mean 'prediction_start_rmse_px'?" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["probe.targets=start", "+probe.targets.start=start"])
def test_an_option_is_not_a_value(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line([word, f"folder={tmp_path / 'run'}"]) == 2
    assert "='start': is chosen with a slash: probe/targets=start" in capsys.readouterr().err


def test_a_label_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = "+probe.targets.bakground={_target_: jepa.probes.targets.label.Label}"
    assert command_line([*THREE, label, f"folder={tmp_path / 'run'}"]) == 2
    assert "probe.targets.bakground: no label of this name" in (said := capsys.readouterr().err)
    assert "did you mean 'background'?" in said and not (tmp_path / "run").exists()
