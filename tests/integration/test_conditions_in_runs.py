"""Runs that are probed under other noise: alone, packed, and against a run that was trained under that noise."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_environments_in_runs import TINY
from test_training import science

from jepa.results.cli import main
from jepa.run import command_line
from jepa.store import checkpoint

EVAL = ["+dataset/condition@dataset.eval.clean=clean", "dataset.eval.strong.static_noise=2"]


def run(folder: Path, *words: str) -> dict[str, float]:
    assert command_line([*TINY, *words, f"folder={folder}"]) == 0
    return science(folder)


def test_conditions_add_numbers_and_change_none(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", "dataset.static_noise=1")
    judged = run(tmp_path / "judged", "dataset.static_noise=1", *EVAL, "dataset.eval.same.static_noise=1.0")
    assert {name: judged[name] for name in alone} == alone
    assert judged.keys() - alone.keys() == {
        f"{probe}_rmse_px_{form}_{name}"
        for probe in ("prediction", "encoder")
        for form in ("on", "kept_on")
        for name in ("clean", "strong", "same")
    }
    for probe in ("prediction_rmse_px", "encoder_rmse_px"):
        assert judged[f"{probe}_on_same"] == judged[f"{probe}_kept_on_same"] == alone[probe]
        assert judged[f"{probe}_on_clean"] != judged[f"{probe}_kept_on_clean"] != alone[probe]


def test_what_is_judged_is_the_network_on_frames_of_the_other_noise(tmp_path: Path) -> None:
    """The same weights, judged by a run of their own without normalisation, give the refitted number."""
    raw = ["dataset.normalize=false", "model=random"]
    judged = run(tmp_path / "judged", *raw, "dataset.static_noise=1", *EVAL)
    weights = tmp_path / "judged" / checkpoint.LAST
    for name, noise in (("clean", 0), ("strong", 2)):
        alone = run(tmp_path / name, *raw, f"dataset.static_noise={noise}", f"init_from={weights}")
        for probe in ("prediction_rmse_px", "encoder_rmse_px"):
            assert judged[f"{probe}_on_{name}"] == pytest.approx(alone[probe], rel=1e-6)


def test_packed_runs_get_what_they_get_alone_and_a_search_may_minimise_it(tmp_path: Path) -> None:
    words = [*TINY, *EVAL, "objective=prediction_rmse_px_kept_on_clean", "dataset.noise=0.5"]
    sweep = ["--multirun", "dataset.static_noise=0.5,1", "hydra/launcher=packed", f"hydra.sweep.dir={tmp_path}/p"]
    assert command_line([*words, *sweep]) == 0
    rows = [science(path.parent) for path in (tmp_path / "p").glob("*/result.json")]
    for strength in (0.5, 1):
        expected = run(tmp_path / f"alone{strength}", *EVAL, "dataset.noise=0.5", f"dataset.static_noise={strength}")
        found = min(rows, key=lambda row: abs(row["prediction_rmse_px"] - expected["prediction_rmse_px"]))
        for metric in expected:
            assert found[metric] == pytest.approx(expected[metric], rel=1e-3, abs=1e-6), metric


def test_a_sweep_over_conditions_is_drawn_as_a_crossing_matrix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "+sweep=transfer", "+dataset/condition@dataset=clean,tag_4", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert command_line(words) == 0
    picture = tmp_path / "transfer.png"
    assert main([f"{tmp_path}/sweep", "--plot", "transfer", "--out", str(picture)]) == 0
    assert picture.stat().st_size > 10_000
    run(tmp_path / "alone")
    assert main([f"{tmp_path}/alone", "--plot", "transfer", "--out", str(picture)]) == 2
    assert "no finished run has prediction_rmse_px under other noise" in capsys.readouterr().err
