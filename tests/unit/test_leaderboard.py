"""The leaderboard: rows, means, order, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from results_samples import write_run

from jepa.results.cli import main
from jepa.results.leaderboard import notes, records, standings, table
from jepa.results.records import ResultsError, Run
from jepa.results.render import table_lines


def run(model: str, condition: str, seed: int, error: float, **more: Any) -> Run:
    config = {"probe.judge_stream": "test", "model.sim_coeff": 1.0, "optimizer.base_lr": 4.0, "scale": "small"}
    config |= {"benchmark": f"v1/{condition}", **more.pop("config", {})}
    metrics = {"prediction_rmse_px": error, **more.pop("metrics", {})}
    fields = {"seed": seed, "train_seconds": 30.0, **more.pop("fields", {})}
    folder, status = f"x/{model}-{condition}-{seed}", more.pop("status", "finished")
    return Run(folder, status, config, {"model": model, "benchmark": condition}, metrics, (), fields)


def board() -> list[Run]:
    runs = [run("idm", "clean", 1, 1.0), run("idm", "clean", 2, 2.0), run("idm", "fixed_125", 1, 3.0)]
    runs += [run("vicreg", "clean", 1, 0.5), run("vicreg", "fixed_125", 1, 9.5, fields={"verdict": "ignores the dot"})]
    return runs


def test_a_row_is_a_method_and_the_smallest_mean_comes_first() -> None:
    header, body = table(standings(board()))
    assert header[:4] == ["method", "mean", "clean", "fixed_125"]
    assert [row[:2] for row in body] == [["idm", "2.25"], ["vicreg", "5.00"]]  # (1.5 + 3) / 2 and (0.5 + 9.5) / 2
    assert body[0][2] == "1.50 ± 6.35"  # t(1) = 12.706 times 0.7071 / sqrt(2)
    assert [row[4] for row in body] == ["–", "ignores the dot"]


def test_an_incomplete_row_has_no_mean_and_comes_last() -> None:
    header, body = table(standings([*board(), run("smwm", "clean", 1, 0.1)]))
    assert [row[0] for row in body] == ["idm", "vicreg", "smwm"]
    assert body[2][1:4] == ["–", "0.100", "–"]


def test_trials_of_the_search_and_unfinished_runs_are_left_out() -> None:
    trial = run("idm", "fixed_125", 0, 0.01, config={"probe.judge_stream": "validation"})
    failed = run("idm", "fixed_125", 2, 0.01, status="failed")
    assert table(standings([*board(), trial, failed])) == table(standings(board()))


def test_two_settings_of_a_method_are_two_rows() -> None:
    other = run("idm", "clean", 1, 7.0, config={"optimizer.base_lr": 16.0})
    names = [row.method for row in standings([*board(), other])]
    assert sorted(names[:2]) == ["idm (base_lr=4)", "vicreg"]
    assert names[-1] == "idm (base_lr=16)"


def test_another_option_of_a_group_stands_for_its_keys() -> None:
    rows = []
    for option, width in (("menet5", 2), ("flat", None), ("flat", 3)):
        config = {"model.encoder._target_": option, "model.encoder.width_factor": width}
        row = run("idm", "clean", 1, 1.0, config=config)
        row.choices["model/encoder"] = option
        rows.append(row)
    assert {row.method for row in standings(rows[:2])} == {"idm (encoder=menet5)", "idm (encoder=flat)"}
    same = {row.method for row in standings(rows[1:])}
    assert same == {"idm (width_factor=None)", "idm (width_factor=3)"}  # one option: its keys tell the rows apart


@pytest.mark.parametrize(
    "change", [{"probe._target_": "jepa.probes.Adam"}, {"init_from": "x.pt"}, {"dataset.dot_std": 3}]
)
def test_a_run_that_was_judged_otherwise_does_not_replace_one_of_the_benchmark(change: dict[str, Any]) -> None:
    usual = {"probe._target_": "jepa.probes.LeastSquares", "init_from": None, "dataset.dot_std": 1.3}
    asked = [usual, usual | {"probe.targets.finite._target_": "Label", "probe.num_samples": 2}, usual | change]
    fields = {"started": "2026-02-01"}
    runs = [run("idm", "clean", 1, 1.0, config=asked[0]), run("idm", "fixed_125", 1, 3.0, config=asked[1])]
    first, other = standings([*runs, run("idm", "clean", 1, 0.1, config=asked[2], fields=fields)])
    assert first.mean_error == 2.0 and other.mean_error is None
    assert other.method == f"idm ({next(iter(change)).rpartition('.')[2]}={next(iter(change.values()))})"


def test_the_latest_run_of_a_seed_counts() -> None:
    older = run("idm", "fixed_125", 1, 99.0, fields={"started": "2026-01-01"})
    newer = run("idm", "fixed_125", 1, 3.0, fields={"started": "2026-02-01"})
    first = standings([newer, older, run("idm", "clean", 1, 1.0)])[0]
    assert first.mean_error == 2.0


def test_rows_for_files_have_full_precision() -> None:
    first = records(standings(board()))[0]
    assert (first["clean"], first["clean_n"], first["fixed_125_ci95"]) == (1.5, 2, None)
    assert first["clean_ci95"] == pytest.approx(6.3531, abs=1e-4)
    assert "1 to 2 seeds" in notes(standings(board()))[0]


def test_the_table_in_markdown() -> None:
    assert table_lines(["a", "bb"], [["1", "2"]], markdown=True) == ["| a | bb |", "|---|----|", "| 1 | 2  |"]


def test_without_a_run_of_the_benchmark() -> None:
    with pytest.raises(ResultsError, match="sweep=benchmark"):
        standings([run("idm", "clean", 1, 1.0, config={"benchmark": None})])


def test_the_command_prints_and_writes_the_leaderboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("vicreg", "idm"):
        for seed in (1, 2):
            words = [f"model={model}", f"seed={seed}", 'benchmark="v1/fixed_125"', "dataset.static_noise=1.25"]
            write_run(tmp_path, words, metrics={"prediction_rmse_px": 1.0 + seed, "train_seconds": 30.0})
    assert main([str(tmp_path), "--leaderboard"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [row] = [line.split() for line in lines if line.startswith("idm")]
    assert row[:5] == ["idm", "2.50", "2.50", "±", "6.35"] and row[-1] == "30"
    assert any(line.startswith("benchmark v1, scale none") for line in lines)
    assert main([str(tmp_path), "--leaderboard", "--markdown", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("| method")


def test_the_command_says_that_there_is_nothing_to_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, ["model=idm"])
    assert main([str(tmp_path), "--leaderboard", "--csv", "-"]) == 2
    assert "no finished run is of the benchmark" in capsys.readouterr().err
