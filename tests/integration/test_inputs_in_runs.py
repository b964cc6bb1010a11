"""Runs on differences of frames: what their results say, alone, packed and resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import jepa
from jepa.results.run_summary import summary_lines
from jepa.run import command_line

SMALL = [
    *("dataset.size=48", "dataset.batch_size=8", "dataset.num_steps=5", "dataset.static_noise=1"),
    *("model.encoder.width_factor=1", "model.encoder.embedding_size=8"),
    *("trainer.epochs=2", "trainer.warmup_epochs=1", "probe.fit_sequences=100", "probe.judge_sequences=50"),
    "progress=none",
]


@pytest.mark.parametrize("words", [["model.input=difference"], ["model=supervised", "model.input=stacked"]])
def test_the_result_says_what_was_judged(words: list[str], tmp_path: Path) -> None:
    run = jepa.train([*SMALL, *words, f"folder={tmp_path / 'run'}"])
    result = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))
    metrics = result["metrics"]
    assert metrics["judged_from_frame"] == 1 and math.isfinite(metrics["prediction_rmse_px"])
    for probe in ("prediction", "encoder"):
        steps = metrics[f"{probe}_rmse_px_per_step"]
        assert len(steps) == 5 and steps[0] is None and all(isinstance(step, float) for step in steps[1:])
    assert "shown 2 frames" in json.dumps(result)  # no verdict: the reference lines hold for one frame
    assert {path.name for path in (run.folder / "plots").iterdir()} >= {"samples.png", "rmse_per_step.png"}
    said = summary_lines(result)
    assert "prediction, frames 1 to 4" in said and "encoder, frame 1" in said


def test_packed_runs_are_the_runs_alone(tmp_path: Path) -> None:
    words = [*SMALL, "model.input=stacked", "plots=false", "+model/term@model.terms.d=difference_decoder"]
    folder = tmp_path / "sweep"
    packed = ["--multirun", *words, "seed=1,2", "hydra/launcher=packed", f"hydra.sweep.dir={folder}"]
    assert command_line(packed) == 0
    alone = jepa.train([*words, "seed=2", f"folder={tmp_path / 'alone'}"])
    assert alone.result is not None
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/result.json")]
    [together] = [result for result in results if result["config"]["seed"] == 2]
    for name in ("prediction_rmse_px", "encoder_rmse_px", "loss/total", "loss/d", "judged_from_frame"):
        assert together["metrics"][name] == pytest.approx(alone.result["metrics"][name], rel=1e-3), name


def test_a_run_on_frames_keeps_its_hash() -> None:
    from jepa.config.compose import compose, config_hash

    for model in ("vicreg", "simclr", "idm", "supervised", "random", "identity"):
        plain, said = compose([f"model={model}"]), compose([f"model={model}", "model.input=frames"])
        without = compose([f"model={model}", "~model.input"])
        assert config_hash(plain) == config_hash(said) == config_hash(without)
        assert config_hash(compose([f"model={model}", "model.input=difference"])) != config_hash(plain)
