"""Whole runs in other environments than the study's: alone, packed, and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_training import interrupt_after, result, science

import jepa
from jepa.run import command_line

TINY = [
    "model=vicreg",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "dataset.size=40",
    "dataset.batch_size=8",
    "dataset.num_steps=5",
    "trainer.epochs=2",
    "trainer.warmup_epochs=1",
    "probe.fit_sequences=80",
    "probe.judge_sequences=40",
    "progress=none",
    "plots=false",
]
ENVIRONMENTS = {
    "bouncing": ["dataset=bouncing", "dataset.noise=0.5"],
    "two rooms": ["dataset=two_rooms", "dataset.wall=per_sequence", "dataset.noise=0.5", "probe/targets=wall"],
    "backgrounds": ["dataset=backgrounds", "probe/targets=background"],
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_run_alone_packed_and_resumed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*ENVIRONMENTS[name], *TINY]
    assert command_line([*words, f"folder={tmp_path / 'alone'}"]) == 0
    interrupt_after(7, monkeypatch)
    assert command_line([*words, f"folder={tmp_path / 'parts'}"]) != 0
    assert not (tmp_path / "parts" / "result.json").exists()
    assert command_line([*words, f"folder={tmp_path / 'parts'}"]) == 0
    assert science(tmp_path / "parts") == science(tmp_path / "alone")
    packed = [*words, "--multirun", "seed=0,1", "hydra/launcher=packed", f"hydra.sweep.dir={tmp_path / 'packed'}"]
    assert command_line(packed) == 0
    folders = {result(path.parent)["seed"]: path.parent for path in (tmp_path / "packed").glob("*/result.json")}
    assert result(folders[0])["pack"]["size"] == 2
    found, expected = science(folders[0]), science(tmp_path / "alone")
    assert found.keys() == expected.keys()
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, rel=1e-3, abs=1e-6), metric


def test_a_run_has_its_own_environments_lines_and_its_files_load(tmp_path: Path) -> None:
    assert command_line([*ENVIRONMENTS["bouncing"], *TINY, f"folder={tmp_path}"]) == 0
    run = jepa.load(tmp_path)
    assert run.result is not None and "verdict" in run.result
    lines = {line["name"]: line["rmse_px"] for line in run.result["reference"]["prediction"]["lines"]}
    assert run.result["reference"] == run.environment.reference_lines()
    assert lines["start alone"] == pytest.approx(2.4, abs=0.3)  # the moving dots' is 3.0 for five frames
    batch = run.environment.batch(4)
    world, px = run.environment.dataset, run.environment.to_px(batch.locations)
    walked = world.walk(px[0, :, 0], world.unnormalize_actions(batch.actions))
    assert walked.shape == (5, 4, 2) and (walked - px[:, :, 0]).abs().max() < 1e-3
    assert run.encode(batch.states).shape == (5, 4, 16)
    assert jepa.runs(tmp_path)["dataset.friction"].tolist() == [0.2]


def test_a_finite_world_can_be_told_from_a_clean_background(tmp_path: Path) -> None:
    """Three bright backgrounds: an untrained encoder knows which one it sees, and the run says so."""
    words = [*ENVIRONMENTS["backgrounds"], *TINY[1:], "model=random"]
    strong = ["dataset.distractors.background.num_backgrounds=3", "dataset.distractors.background.coeff=5"]
    weak = ["dataset.distractors.background.num_backgrounds=3", "dataset.distractors.background.coeff=0"]
    for folder, strength in (("strong", strong), ("weak", weak)):
        assert command_line([*words, *strength, f"folder={tmp_path / folder}"]) == 0
    accuracy = {name: science(tmp_path / name)["encoder_background_accuracy"] for name in ("strong", "weak")}
    assert accuracy["strong"] > 0.9 and accuracy["weak"] < 0.7
