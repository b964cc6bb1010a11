"""The figure of the trade-off between the action dot and the stationary dot, and runs judged by one dot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results_samples import write_run

from jepa.results import cli, figures_pareto
from jepa.results.figures_pareto import front
from jepa.run import command_line
from jepa.store.result import metric_value


def test_the_front_has_the_points_that_none_beats() -> None:
    points = [(1.0, 5.0), (2.0, 5.0), (2.0, 3.0), (4.0, 3.5), (5.0, 1.0), (1.0, 5.0)]
    beaten = {p for p in points for q in points if q != p and q[0] <= p[0] and q[1] <= p[1]}
    assert front(points) == sorted(set(points) - beaten) == [(1.0, 5.0), (2.0, 3.0), (5.0, 1.0)]


def test_each_row_is_a_point_at_its_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, errors in {"vicreg": (7.0, 2.0), "idm": (1.0, 8.0)}.items():
        for seed in (0, 1):
            found = {"prediction_rmse_px": 5.0, "prediction_rmse_px_per_dot": [errors[0] + seed, 8.0, errors[1] - seed]}
            write_run(tmp_path, [f"model={model}", f"seed={seed}"], metrics=found)
    placed = []
    place = figures_pareto._place
    monkeypatch.setattr(figures_pareto, "_place", lambda *row: placed.append(place(*row)) or placed[-1])
    out = tmp_path / "pareto.png"
    assert cli.main([str(tmp_path), "--plot", "pareto", "--out", str(out)]) == 0
    assert {p.label: (p.action.mean, p.stationary.mean) for p in placed} == {"vicreg": (7.5, 1.5), "idm": (1.5, 7.5)}
    assert out.stat().st_size > 5000
    write_run(tmp_path / "one", ["seed=3"])
    capsys.readouterr()
    assert cli.main([str(tmp_path / "one"), "--plot", "pareto", "--out", str(out), "--where", "seed=3"]) == 2
    assert "no finished run has three dots" in capsys.readouterr().err


def test_a_run_can_be_judged_by_one_dot(tmp_path: Path) -> None:
    small = ["dataset.size=32", "dataset.batch_size=8", "dataset.num_steps=3", "model.encoder.width_factor=1"]
    small += ["model.encoder.embedding_size=8", "probe.fit_sequences=100", "probe.judge_sequences=50", "plots=false"]
    judged = ["model=random", "objective=prediction_rmse_px_per_dot.2", "progress=none", f"folder={tmp_path}"]
    assert command_line([*small, *judged, "dataset=multiple"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["objective"] == result["metrics"]["prediction_rmse_px_per_dot"][2]
    assert command_line([*small, *judged, f"folder={tmp_path / 'one'}"]) == 2  # one dot has no third error


def test_a_metric_is_found_by_its_name_or_its_place() -> None:
    metrics = {"a": 1.0, "b": [2.0, 3.0], "c.1": 4.0, "c": [5.0, 6.0]}
    names = ("a", "b.1", "b.2", "c.1", "d", "a.0")
    assert [metric_value(metrics, name) for name in names] == [1.0, 3.0, None, 4.0, None, None]
