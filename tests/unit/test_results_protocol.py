"""The report of a protocol: best and median of the trials, the winner's final runs, and the marks, by hand."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from results_samples import write_run

from jepa.results.cli import main
from jepa.results.collect import collect
from jepa.results.intervals import summarize
from jepa.results.protocol import protocol_table
from jepa.results.searches import searches_in
from jepa.results.tables import Table

METRIC = "prediction_rmse_px"
TRIALS = {0.0: [(2.0, 3.0), (1.0, 2.0), (0.5, 2.5), (4.0, 6.0)], 1.25: [(1e-5, 7.0), (1.0, 8.5), (2.0, 9.0)]}
FINALS = {0.0: [2.2, 2.6, 2.4], 1.25: [8.0, 8.8]}


def write_trial(root: Path, noise: float, rate: float, rmse: float, *, stream: str, seed: int, moved: float) -> None:
    told = [f"dataset.static_noise={noise}", f"optimizer.base_lr={rate}", f"seed={seed}"]
    metrics = {METRIC: rmse, "weights_moved": moved}
    write_run(root, [*told, f'probe.judge_stream="{stream}"'], metrics=metrics, objective=rmse)


def write_cells(root: Path) -> list[str]:
    folders = []
    for noise, trials in TRIALS.items():
        folder = root / f"protocol-{noise}"
        for rate, rmse in trials:
            write_trial(folder, noise, rate, rmse, stream="validation", seed=0, moved=0.001 if rate < 0.01 else 0.4)
        best_rate = min(trials, key=lambda trial: trial[1])[0]
        for seed, rmse in enumerate(FINALS[noise], 1):
            moved = 0.001 if best_rate < 0.01 else 0.4
            write_trial(folder, noise, best_rate, rmse, stream="test", seed=seed, moved=moved)
        write_trial(folder, noise, 3.0, 1.0, stream="test", seed=9, moved=0.4)  # of an earlier winner: not counted
        (folder / "sweep.json").write_text(json.dumps({"axes": {"optimizer.base_lr": []}, "jobs": {}}))
        folders.append(str(folder))
    return folders


def table_of(folders: list[str]) -> Table:
    found = collect(folders)
    table = protocol_table(found, found.runs, METRIC)
    assert table is not None
    return table


def cells_of(table: Table, column: str) -> list[Any]:
    return [table.cell(row, column) for row in table.rows]


def test_a_row_holds_best_median_and_the_winners_test_error(tmp_path: Path) -> None:
    table = table_of(write_cells(tmp_path))
    assert cells_of(table, "dataset.static_noise") == [0.0, 1.25]
    assert cells_of(table, "trials") == ["4", "3"]
    assert cells_of(table, "validation_best") == [2.0, 7.0]
    assert cells_of(table, "validation_median") == [statistics.median([3.0, 2.0, 2.5, 6.0]), 8.5]
    assert cells_of(table, METRIC) == [summarize(FINALS[0.0]), summarize(FINALS[1.25])]
    assert [text.split(" (")[0] for text in cells_of(table, "winner")] == ["base_lr=1", "base_lr=1e-05"]


def test_a_winner_that_hardly_trained_far_below_its_neighbours_is_marked(tmp_path: Path) -> None:
    """The neighbours' better half has the rates 1.0 and 0.5; the other cell's has 1e-5 and 1.0."""
    assert cells_of(table_of(write_cells(tmp_path)), "remark") == [None, "hardly trained, low learning rate"]


def test_a_cell_alone_has_no_neighbours_and_results_without_weights_moved_are_read(tmp_path: Path) -> None:
    folder = write_cells(tmp_path)[1]
    for path in Path(folder).glob("*/result.json"):
        result = json.loads(path.read_text())
        result["metrics"].pop("weights_moved")
        path.write_text(json.dumps(result))
    assert cells_of(table_of([folder]), "remark") == [None]


def test_the_command_prints_the_cells_and_an_archive_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = write_cells(tmp_path)
    assert main(folders) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("base_lr=1e-05" in line and "hardly trained, low learning rate" in line for line in lines)
    assert main([*folders, "--archive", str(tmp_path / "archive")]) == 0
    capsys.readouterr()
    table = table_of([str(tmp_path / "archive")])
    assert cells_of(table, METRIC) == [summarize(FINALS[0.0]), summarize(FINALS[1.25])]
    assert cells_of(table, "remark") == [None, "hardly trained, low learning rate"]


def test_cells_without_final_runs_or_finished_trials_are_shown(tmp_path: Path) -> None:
    write_trial(tmp_path, 0.5, 1.0, 3.0, stream="validation", seed=0, moved=0.4)
    (tmp_path / "sweep.json").write_text(json.dumps({"axes": {"optimizer.base_lr": []}, "jobs": {}}))
    table = table_of([str(tmp_path)])
    assert cells_of(table, "validation_best") == [3.0] and cells_of(table, METRIC) == [None]


def test_axes_of_another_sweep_join_no_cells(tmp_path: Path) -> None:
    folders = write_cells(tmp_path)
    grid = tmp_path / "grid"
    write_run(grid, ["dataset.static_noise=0.5"])
    (grid / "sweep.json").write_text(json.dumps({"axes": {"dataset.static_noise": []}, "jobs": {}}))
    table = table_of([*folders, str(grid)])
    assert cells_of(table, "dataset.static_noise") == [0.0, 1.25]
    assert cells_of(table, "trials") == ["4", "3"]


def test_other_runs_have_no_such_report(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"])
    found = collect([str(tmp_path)])
    assert protocol_table(found, found.runs, METRIC) is None


def test_a_grid_that_is_judged_on_the_validation_stream_is_a_grid(tmp_path: Path) -> None:
    for rate in (1.0, 2.0):
        write_trial(tmp_path, 0.5, rate, 3.0, stream="validation", seed=0, moved=0.4)
    (tmp_path / "sweep.json").write_text(json.dumps({"axes": {"optimizer.base_lr": ["1.0", "2.0"]}, "jobs": {}}))
    found = collect([str(tmp_path)])
    assert protocol_table(found, found.runs, METRIC) is None


def test_runs_beside_the_cells_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trials of cells, their final runs, two of earlier winners, and a grid of two other methods."""
    folders = write_cells(tmp_path)
    for model in ("idm", "rssm"):
        write_run(tmp_path / "grid", [f"model={model}"])
    assert main([str(tmp_path)]) == 0
    assert "not shown: 4 runs are neither a trial nor a final run of a winner" in capsys.readouterr().out
    assert main([folders[0], "--csv", "-"]) == 0
    assert "not shown: 1 run is neither" in capsys.readouterr().err
    assert main([str(tmp_path / "grid")]) == 0
    assert "not shown" not in capsys.readouterr().out


def test_the_searches_of_an_archive_are_not_pooled(tmp_path: Path) -> None:
    folders = write_cells(tmp_path)
    assert main([*folders, "--archive", str(tmp_path / "archive")]) == 0
    for asked in (folders, [str(tmp_path / "archive")]):
        found = collect(asked)
        searches = sorted(searches_in(found, found.runs), key=lambda search: search.title)
        assert [search.title for search in searches] == ["static_noise=0", "static_noise=1.25"]
        assert [search.axes for search in searches] == [("optimizer.base_lr",)] * 2
        best = [search.best(METRIC) for search in searches]
        assert [run and run.value(METRIC) for run in best] == [2.0, 7.0]


def test_a_path_that_names_no_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, ["seed=0"])
    assert main([str(tmp_path), "--csv", "/"]) == 2
    assert capsys.readouterr().err.startswith("error: /: cannot be written")
