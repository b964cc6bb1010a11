"""The leaderboard's heat map: the numbers in its cells, its colours, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from jepa.results.figures_leaderboard import leaderboard_figure
from jepa.results.leaderboard import standings
from jepa.results.records import ResultsError, Run


def run(model: str, condition: str, error: float, *, version: str = "v1", **fields: Any) -> Run:
    config = {"probe.judge_stream": "test", "scale": "small", "benchmark": f"{version}/{condition}"}
    config |= {"dataset.num_dots": 1, "dataset.num_steps": 5}  # not the setting whose lines are known
    metrics: dict[str, Any] = {"prediction_rmse_px": error}
    return Run(f"x/{model}-{condition}", "finished", config, {"model": model}, metrics, (), {"seed": 1, **fields})


def board() -> list[Run]:
    runs = [run("idm", "clean", 1.0), run("idm", "fixed_125", 3.0), run("smwm", "clean", 0.5)]
    return [*runs, run("vicreg", "clean", 2.0), run("vicreg", "fixed_125", 12.0)]


def test_cells_are_the_leaderboards_and_methods_stand_in_its_order() -> None:
    axis = leaderboard_figure(standings(board())).axes[0]
    cells = [text.get_text() for text in axis.texts]
    assert cells == ["2.00", "1.00", "3.00", "7.00", "2.00", "12.00", "–", "0.50", "–"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["mean", "clean", "fixed_125"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["idm", "vicreg", "smwm"]


def test_colours_end_at_the_error_of_always_the_centre() -> None:
    reference = {"lines": [{"name": "always the centre", "rmse_px": 9.4}, {"name": "start alone", "rmse_px": 5.5}]}
    lines = {"dots": ["action"], "prediction": reference, "encoder": reference}
    with_lines = [run(model, "clean", error, reference=lines) for model, error in (("idm", 1.0), ("vicreg", 20.0))]
    for runs, highest in ((board(), 12.0), (with_lines, 9.4)):  # without lines: the largest error
        [image] = leaderboard_figure(standings(runs)).axes[0].images
        assert image.get_clim()[1] == pytest.approx(highest)


def test_two_versions_are_not_drawn_as_one() -> None:
    with pytest.raises(ResultsError, match=r"several leaderboards \(version mine, scale small; version v1.*--where"):
        leaderboard_figure(standings([*board(), run("idm", "even", 1.0, version="mine")]))
