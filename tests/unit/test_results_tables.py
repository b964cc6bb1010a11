"""Axes, rows, means, their order and how numbers look."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from results_samples import job_name, rmse_of, write_grid, write_run, write_unfinished

from jepa import provenance
from jepa.results.axes import axis_value, varying_axes
from jepa.results.collect import Collection, collect
from jepa.results.intervals import Summary, summarize
from jepa.results.notes import code_line, damage_lines, format_line, summary_line
from jepa.results.query import compile_condition
from jepa.results.records import Names, ResultsError, Run
from jepa.results.render import format_cell, format_number, format_settings, format_summary, plain_lines, print_table
from jepa.results.show import run_lines
from jepa.results.tables import Table, best_rows, build_table, counted, sort_rows, without_constants, without_repeats


def runs_in(root: Path) -> list[Run]:
    return list(collect([str(root)]).runs)


def table_of(runs: list[Run], *, per_run: bool = False) -> Table:
    return build_table(runs, varying_axes(runs), per_run=per_run)


def strip_overrides(runs: list[Run]) -> list[Run]:
    return [Run(run.folder, run.status, run.config, run.choices, run.metrics, (), run.fields) for run in runs]


# --- axes -----------------------------------------------------------------------------------------------------------


def test_axes_are_the_overrides_that_vary(tmp_path: Path) -> None:
    write_grid(tmp_path)
    assert varying_axes(runs_in(tmp_path)) == ["model", "dataset.static_noise"]


def test_axes_without_overrides_are_the_differences_that_do_not_follow_from_the_model(tmp_path: Path) -> None:
    write_grid(tmp_path)
    assert varying_axes(strip_overrides(runs_in(tmp_path))) == ["model", "dataset.static_noise"]


def test_a_difference_that_no_override_names_becomes_an_axis(tmp_path: Path) -> None:
    """Two sweeps over the same axis, each with another base: their runs must not be averaged."""
    write_run(tmp_path / "a", ["dataset.static_noise=0", "trainer.epochs=100"])
    write_run(tmp_path / "a", ["dataset.static_noise=1", "trainer.epochs=100"])
    write_run(tmp_path / "b", ["dataset.static_noise=0", "trainer.epochs=10"])
    runs = [
        Run(run.folder, run.status, run.config, run.choices, run.metrics, run.overrides[:1], run.fields)
        for run in runs_in(tmp_path)
    ]
    assert varying_axes(runs) == ["dataset.static_noise", "trainer.epochs"]


def test_operational_keys_the_seed_and_constants_are_no_axes(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0", 'device="cpu"', "threads=1", "dataset.noise=1"])
    write_run(tmp_path, ["seed=1", 'device="cuda"', "threads=2", "dataset.noise=1.0"])
    assert varying_axes(runs_in(tmp_path)) == []


def test_planned_axes_come_first_and_in_their_order(tmp_path: Path) -> None:
    write_grid(tmp_path)
    found = varying_axes(runs_in(tmp_path), ["dataset.static_noise", "model", "seed"])
    assert found == ["model", "dataset.static_noise"]  # groups lead
    assert varying_axes(runs_in(tmp_path), ["dataset.noise"]) == found  # does not vary


def test_pending_and_broken_runs_do_not_make_axes(tmp_path: Path) -> None:
    write_grid(tmp_path, noises=2, seeds=2)
    runs = [*runs_in(tmp_path), Run("x/y", "pending", overrides=("model=vicreg", "dataset.static_noise=0.5", "seed=9"))]
    assert varying_axes(runs) == ["model", "dataset.static_noise"]
    row = next(row for row in table_of(runs).rows if row.point == ("vicreg", 0.5))
    assert [run.status for run in row.runs] == ["finished", "finished", "pending"]


def test_twins_are_one_axis(tmp_path: Path) -> None:
    runs = [
        Run(f"s/{value}", "finished", {"a.b": value, "copy.of.it": value, "c": 1}, fields={"seed": 0})
        for value in (1, 2)
    ]
    assert varying_axes(runs) == ["a.b"]


# --- rows -----------------------------------------------------------------------------------------------------------


def test_means_and_intervals_over_seeds(tmp_path: Path) -> None:
    from results_samples import compose

    write_grid(tmp_path)
    table = table_of(runs_in(tmp_path))
    assert table.columns == ("n", "prediction_rmse_px", "encoder_rmse_px", "verdict")
    assert [row.point for row in table.rows[:2]] == [("rssm", 0.0), ("rssm", 0.5)]
    expected = summarize(
        [rmse_of(compose(["model=rssm", "dataset.static_noise=0.5", f"seed={seed}"])) for seed in range(3)]
    )
    cell = table.cell(table.rows[1], "prediction_rmse_px")
    assert expected is not None and cell == pytest.approx(expected)


def test_only_finished_runs_count(tmp_path: Path) -> None:
    write_grid(tmp_path, models=("vicreg",), noises=1, seeds=2)
    write_run(tmp_path, ["model=vicreg", "dataset.static_noise=0.0", "seed=2"], status="failed", metrics={})
    write_run(tmp_path, ["model=vicreg", "dataset.static_noise=0.0", "seed=3"], status="pruned")
    write_unfinished(
        tmp_path,
        ["model=vicreg", "dataset.static_noise=0.0", "seed=4"],
        [{"step": 1, "kind": "probe", "prediction_rmse_px": 9.0}],
    )
    table = table_of(runs_in(tmp_path))
    (row,) = table.rows
    assert table.cell(row, "n") == 2
    assert table.cell(row, "prediction_rmse_px").n == 2
    assert table.cell(row, "unfinished") == "1 running, 1 failed, 1 pruned"
    per_run = table_of(runs_in(tmp_path), per_run=True)
    assert 9.0 in [per_run.cell(row, "prediction_rmse_px") for row in per_run.rows]


def test_one_configuration_run_twice_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ["seed=0"], finished="2026-01-01")
    write_run(tmp_path / "b", ["seed=0"], finished="2026-01-02")
    write_run(tmp_path / "c", ["seed=0"], status="failed", metrics={}, finished="2026-01-03")
    kept = without_repeats(runs_in(tmp_path))
    assert [run.fields["sweep"] for run in kept] == ["b"]
    assert table_of(runs_in(tmp_path)).cell(table_of(runs_in(tmp_path)).rows[0], "n") == 1


def test_null_metrics_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"], metrics={"prediction_rmse_px": 2.0, "loss/total": None})
    write_run(tmp_path, ["seed=1"], metrics={"prediction_rmse_px": 4.0, "loss/total": 3.0})
    table = table_of(runs_in(tmp_path)).with_columns(["loss/total"])
    assert table.cell(table.rows[0], "loss/total") == Summary(3.0, None, 1)
    assert table.cell(table.rows[0], "prediction_rmse_px").mean == 3.0


def test_words_of_several_runs(tmp_path: Path) -> None:
    for seed, verdict in enumerate(["tracks", "tracks", "ignores the dot"]):
        write_run(tmp_path, [f"seed={seed}"], verdict=verdict)
    table = table_of(runs_in(tmp_path))
    assert table.cell(table.rows[0], "verdict") == "tracks ×2, ignores the dot"
    write_run(tmp_path, ["seed=3"], verdict=None, verdict_reason="no lines")
    table = table_of(runs_in(tmp_path))
    assert table.cell(table.rows[0], "verdict") == "tracks ×2, ignores the dot, –"


def test_runs_that_hardly_trained_are_marked_and_older_results_are_read(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"])
    assert "training" not in table_of(runs_in(tmp_path)).columns, "results of earlier versions do not say"
    write_run(tmp_path, ["seed=1"], training="trained")
    assert "training" not in table_of(runs_in(tmp_path)).columns, "there is nothing to mark"
    write_run(tmp_path, ["seed=2"], training="hardly trained")
    table = table_of(runs_in(tmp_path))
    assert table.cell(table.rows[0], "training") == "hardly trained, trained, –"


def test_sorting(tmp_path: Path) -> None:
    write_grid(tmp_path, noises=3, seeds=1)
    write_run(tmp_path, ["model=vicreg", "dataset.static_noise=9.0", "seed=0"], status="failed", metrics={})
    table = table_of(runs_in(tmp_path))
    by_metric = [table.cell(row, "prediction_rmse_px") for row in sort_rows(table, ["-prediction_rmse_px"]).rows]
    assert by_metric[-1] is None
    means = [cell.mean for cell in by_metric[:-1]]
    assert means == sorted(means, reverse=True)
    points = [row.point for row in sort_rows(table, ["-dataset.static_noise", "model"]).rows]
    assert points[:3] == [("vicreg", 9.0), ("rssm", 1.0), ("simclr", 1.0)]


def test_best_of_the_other_axes(tmp_path: Path) -> None:
    rates = (0.05, 0.5, 5.0)
    for model in ("vicreg", "simclr"):
        for rate in rates:
            write_run(tmp_path, [f"model={model}", f"optimizer.base_lr={rate}"])
    table = best_rows(table_of(runs_in(tmp_path)), ["model"], "prediction_rmse_px")
    assert table.axes == ("model",) and table.columns[0] == "optimizer.base_lr"
    assert [(row.point, table.cell(row, "optimizer.base_lr")) for row in table.rows] == [
        (("simclr",), 0.5),
        (("vicreg",), 0.5),
    ]
    with pytest.raises(ResultsError, match="--best seed: not an axis; these vary: model, optimizer.base_lr"):
        best_rows(table_of(runs_in(tmp_path)), ["seed"], "prediction_rmse_px")


def test_counted_in_a_fixed_order() -> None:
    assert counted(["failed", "running", "finished", "failed"]) == "1 finished, 1 running, 2 failed"


# --- how it looks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (3, "3"), (9.3912, "9.39"), (0.53249, "0.532"), (12.345, "12.3"), (123.4, "123"),
        (1234.5, "1234"), (0.00012345, "0.000123"), (1.2345e-6, "1.23e-06"), (-2.5, "-2.50"), (1.5e12, "1500000000000"),
        (2.345e9 + 0.5, "2.35e+09"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (Summary(5.5712, 0.1249, 3), "5.57 ± 0.12"),
        (Summary(5.5712, None, 1), "5.57"),
        (Summary(5.5712, 0.0004, 3), "5.57 ± 0.0004"),
        (Summary(1234.5, 20.3, 3), "1234 ± 20"),
        (Summary(2.0, 0.0, 2), "2.00 ± 0"),
    ],
)
def test_summaries(summary: Summary, text: str) -> None:
    assert format_summary(summary) == text


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, "–"), (True, "true"), (0.1234567, "0.123457"), (1e-6, "1e-06"), ("a\nb", "a b"), (1.0, "1")],
)
def test_settings_are_shown_in_full(cell: Any, text: str) -> None:
    assert format_cell(cell, exact=True) == text


def test_plain_lines_align(tmp_path: Path) -> None:
    write_run(tmp_path, ["model=vicreg", "dataset.static_noise=0"], metrics={"prediction_rmse_px": 0.5321})
    write_run(tmp_path, ["model=simclr", "dataset.static_noise=1.25"], metrics={"prediction_rmse_px": 12.345})
    lines = plain_lines(table_of(runs_in(tmp_path)).with_columns(["n", "prediction_rmse_px"]))
    assert lines == [
        "model   static_noise  n  prediction_rmse_px",
        "simclr          1.25  1              12.3",
        "vicreg          0     1               0.532",
    ]


def test_a_terminal_gets_a_fitted_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    write_run(tmp_path / ("long" * 20), ["model=vicreg"])
    stream = Terminal()
    print_table(table_of(runs_in(tmp_path), per_run=True), stream)
    lines = re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert max(map(len, lines)) <= 70
    assert any("…" in line and line.rstrip().endswith(job_name(["model=vicreg"])[-8:]) for line in lines)
    assert any("finished" in line for line in lines)


# --- below the table ------------------------------------------------------------------------------------------------


def test_how_many_of_how_many() -> None:
    runs = tuple(Run(f"s/{place}", "finished") for place in range(4))
    found = Collection(("outputs/s",), runs)
    assert summary_line(found, runs[:1], "1 finished") == "s: 1 of 4 runs: 1 finished"
    assert summary_line(found, runs, "4 finished") == "s: 4 runs: 4 finished"
    assert summary_line(Collection(("s",), runs[:1]), runs[:1], "1 finished") == "s: 1 run: 1 finished"


def test_code_that_made_the_results(tmp_path: Path) -> None:
    current = provenance.code()["fingerprint"]
    here = {"commit": "c" * 40, "dirty": True, "fingerprint": current}
    elsewhere = {"commit": None, "dirty": False, "fingerprint": "0123456789ab"}
    for seed, code in enumerate([here, elsewhere, None, "junk"]):
        write_run(tmp_path, [f"seed={seed}"], code=code)
    write_unfinished(tmp_path, ["seed=9"], [])
    runs = runs_in(tmp_path)
    assert sorted(str(run.value("code")) for run in runs) == ["None", "current", "other", "unknown", "unknown"]
    (line,) = code_line(runs)
    assert line.startswith("1 of 4 results were made by other code than this version's and 2 by unknown code: --where")
    own = next(run for run in runs if run.value("code") == "current")
    assert code_line([own]) == [] and own.value("code_commit") == "c" * 40 + ", with changes"
    assert compile_condition("code=current", Names(runs)).holds(own)
    assert "code              current" in run_lines(own, [])
    assert code_line([run for run in runs if run.value("code") == "unknown"]) == []


def test_runs_of_two_formats_are_told_apart_by_the_format_alone() -> None:
    new = {"model.sim_coeff": 1.0, "model.terms.prediction.coeff": 1.0, "model._target_": "jepa.methods.JointEmbedding"}
    old = {"model.sim_coeff": 1.0, "model._target_": "jepa.objectives.vicreg.VICReg"}
    runs = [
        Run(f"outputs/{name}{seed}", "finished", {**config, "seed": seed}, {"model": "vicreg"}, fields={"format": form})
        for name, config, form in (("old", old, 1), ("new", new, 2))
        for seed in (0, 1)
    ]
    assert varying_axes(runs) == ["format"]
    assert varying_axes(runs[2:]) == varying_axes(runs[:2]) == []
    assert varying_axes([*runs[2:], Run("outputs/pending", "pending")]) == []


def test_runs_of_the_older_format_are_counted(tmp_path: Path) -> None:
    write_grid(tmp_path)
    runs = runs_in(tmp_path)
    assert format_line(runs) == []
    old = Run("outputs/old", "finished", fields={"format": 1})
    (line,) = format_line([*runs, old])
    assert line.startswith(f"1 of {len(runs) + 1} runs have a configuration of the older format")


def test_damage_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"])
    for place in range(7):
        (tmp_path / f"x{place}").mkdir()
        (tmp_path / f"x{place}" / "result.json").write_text("{")
    found = collect([str(tmp_path)])
    lines = damage_lines(found, found.runs)
    assert lines[0].startswith(f"damaged: {tmp_path}/x0: result.json cannot be read") and "remove that file" in lines[0]
    assert len(lines) == 6 and lines[5].startswith("damaged: 2 more")


# --- terminals, and runs that did not finish ------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(table: Table, monkeypatch: pytest.MonkeyPatch, columns: int, keep: tuple[str, ...] = ()) -> list[str]:
    for name, value in {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    print_table(table, stream, keep)
    return re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue()).splitlines()


def mixed(root: Path) -> list[Run]:
    """Searches of two models, with keys of their own, beside a grid."""
    for trial in range(4):
        rate = f"optimizer.base_lr={0.0307024713 * 1.7**trial}"
        write_run(root / "a", ["model=vicreg", rate, f"model.sim_coeff={100.123456 / (trial + 1)}"])
        write_run(root / "b", ["model=simclr", rate, f"model.temperature={0.012345678 * (trial + 1)}"])
    write_grid(root / "c")
    return runs_in(root)


@pytest.mark.parametrize("columns", [60, 80, 100, 140, 300])
def test_a_terminal_never_cuts_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    table = table_of(mixed(tmp_path))
    lines = on_terminal(table, monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if re.search(r"\d…", line)]
    left_out = " ".join(line.strip() for line in lines if line.startswith(("no room for", " " * 2)))
    assert ("model.temperature" in left_out) == (columns == 60)
    assert any("temperature" in line for line in lines[:3]) == (columns > 60)
    assert any("0.0307 " in line for line in lines)
    kept = on_terminal(table, monkeypatch, columns, keep=("model.temperature",))
    assert any("temperature" in line for line in kept[:3])


def test_settings_have_the_digits_that_tell_them_apart() -> None:
    assert format_settings([3.07024e-05, 0.1, 0.579133, 544.729, 20553.0, None, 3]) == [
        "3.07e-05", "0.1", "0.579", "545", "20553", "–", "3",
    ]  # fmt: skip
    assert format_settings([1.4, 1.40034, 0.1729]) == ["1.4", "1.4003", "0.173"]


def test_pruned_trials_are_neither_first_nor_best(tmp_path: Path) -> None:
    good = {"prediction_rmse_px": 2.0}
    write_run(tmp_path, ["optimizer.base_lr=0.5"])
    write_run(tmp_path, ["optimizer.base_lr=0.7"], status="pruned", metrics=good, objective=2.0)
    table = sort_rows(table_of(runs_in(tmp_path), per_run=True), ["prediction_rmse_px"])
    assert [row.runs[0].status for row in table.rows] == ["finished", "pruned"]
    assert "(2.00)" in plain_lines(table)[2] and "(" not in plain_lines(table)[1]
    averaged = table_of(runs_in(tmp_path))
    assert [averaged.cell(row, "verdict") for row in averaged.rows] == ["tracks", None]
    for each in (table, averaged):
        assert [row.runs[0].status for row in best_rows(each, ["optimizer.base_lr"], "prediction_rmse_px").rows] == [
            "finished"
        ]


def test_columns_that_say_the_same_of_every_run(tmp_path: Path) -> None:
    write_run(tmp_path, ["optimizer.base_lr=0.5"])
    write_run(tmp_path, ["optimizer.base_lr=0.7"])
    table = table_of(runs_in(tmp_path))
    assert "n" in table.columns and "n" not in without_constants(table).columns and not table.averaged
    assert "seed" not in without_constants(table_of(runs_in(tmp_path), per_run=True)).columns
    write_run(tmp_path, ["optimizer.base_lr=0.5", "seed=1"])
    assert "n" in without_constants(table_of(runs_in(tmp_path))).columns and table_of(runs_in(tmp_path)).averaged


def test_a_pending_job_stands_on_the_axis_of_a_group_at_a_place() -> None:
    place = "model/term@model.terms.added"
    runs = [
        Run(f"x/{term}", "finished", {"model.terms.added.coeff": 1.0}, {place: term}, {}, (f"+{place}={term}",), {})
        for term in ("info_nce", "sigreg")
    ]
    runs.append(Run("x/c", "pending", overrides=(f"+{place}=straightening",)))
    axes = varying_axes(runs, planned=["model/term"])
    assert axes == [place]
    assert [axis_value(run, place) for run in runs] == ["info_nce", "sigreg", "straightening"]
