"""Figure 3 and table 1 of the study from folders of made-up runs: which number stands where, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from environment_samples import reference_lines
from results_samples import compose, result_of, rmse_of, write_run

from jepa.results.cli import main
from jepa.results.collect import collect
from jepa.results.figures_study import noise_figure
from jepa.results.records import ResultsError, Run
from jepa.results.study import PANELS, cells, dots_rows, noise_of, scale_words

METRIC = "prediction_rmse_px"


def write(root: Path, *overrides: str, dataset: str = "single", scale: str | None = None, **changes: Any) -> None:
    """A finished run with the choice ``dataset`` and a scale."""
    path = write_run(root / (scale or "none"), list(overrides), **changes) / "result.json"
    result = json.loads(path.read_text())
    result["config"]["choices"]["dataset"] = result["choices"]["dataset"] = dataset
    if scale:
        result["choices"]["scale"] = result["config"]["scale"] = scale
    path.write_text(json.dumps(result))


def write_figure(root: Path, scale: str = "small") -> None:
    for model in ("vicreg", "idm"):
        for strength in (0.5, 1.25):
            for seed in (0, 1, 2):
                noise = f"dataset.static_noise={strength}"
                write(root, f"model={model}", noise, f"seed={seed}", dataset="single_fixed_uniform", scale=scale)
    write(root, "model=vicreg", dataset="single_changing_uniform", scale=scale)  # strength 0


def panel(figure: Any, name: str) -> Any:
    return next(axis for axis in figure.axes if axis.get_title() == f"{name} noise")


def test_each_run_is_drawn_in_its_panel_at_its_strength(tmp_path: Path) -> None:
    write_figure(tmp_path)
    found = cells(collect([str(tmp_path)]).runs, METRIC)
    figure = noise_figure(found, metric=METRIC, heading="scale: small")
    assert [axis.get_title() for axis in figure.axes] == [f"{name} noise" for name in PANELS]
    lines = {line.get_label(): line for line in panel(figure, "fixed uniform").get_lines()}
    xs, ys = lines["idm"].get_data()
    wanted = [
        sum(rmse_of(compose(["model=idm", f"dataset.static_noise={x}", f"seed={seed}"])) for seed in range(3)) / 3
        for x in (0.5, 1.25)
    ]
    assert list(xs) == [0.5, 1.25] and list(ys) == pytest.approx(wanted)
    assert list(panel(figure, "changing uniform").get_lines()[0].get_xdata()) == [0.0]
    for name in ("changing structured", "fixed structured"):
        assert [text.get_text() for text in panel(figure, name).texts] == ["no finished runs"]
        assert not panel(figure, name).get_lines()
    title = figure.legends[0].get_title().get_text()
    assert "scale: small" in title and "n = 1 to 3 seeds" in title


def test_panels_have_the_reference_lines_of_their_own_runs(tmp_path: Path) -> None:
    own = reference_lines(num_dots=1, num_steps=5, padding=2.6)
    write(tmp_path, "dataset.static_noise=1.0", "dataset.num_steps=5", reference=own, dataset="single_fixed_uniform")
    write(tmp_path, "dataset.noise=1.0", dataset="single_changing_uniform")
    figure = noise_figure(cells(collect([str(tmp_path)]).runs, METRIC), metric=METRIC, heading="")
    heights = [line.get_ydata()[0] for line in panel(figure, "fixed uniform").get_lines() if line.get_ls() == "--"]
    assert sorted(heights) == sorted(line["rmse_px"] for line in own["prediction"]["lines"])
    published = [line.get_ydata()[0] for line in panel(figure, "changing uniform").get_lines() if line.get_ls() == "--"]
    assert 9.39 in published


def test_scales_are_drawn_apart_and_named(tmp_path: Path) -> None:
    write_figure(tmp_path, "small")
    write(tmp_path, "model=idm", "dataset.static_noise=0.5", "trainer.epochs=7", scale="smoke")
    runs = collect([str(tmp_path)]).runs
    figure = noise_figure(cells(runs, METRIC), metric=METRIC, heading=scale_words(runs))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["vicreg (small)", "idm (small)", "idm (smoke)"]
    assert scale_words(runs) == "scales: small (13 runs), smoke (1 runs)"
    assert scale_words([]) == ""


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path: Path) -> None:
    write(tmp_path, "model=idm", "dataset.static_noise=0.5", "seed=0")
    write(tmp_path, "model=idm", "dataset.static_noise=0.5", "seed=1", "optimizer.base_lr=3.0")
    with pytest.raises(ResultsError, match=r"idm at fixed uniform noise of 0\.5 differ in optimizer\.base_lr"):
        cells(collect([str(tmp_path)]).runs, METRIC)


def test_runs_that_belong_to_no_panel_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "dataset.static_noise=0.5", "dataset.noise=0.5")  # two kinds at once
    write(tmp_path, "dataset.num_dots=3", "dataset.noise=0.5")
    write(tmp_path, "seed=3")  # clean, of no kind
    runs = collect([str(tmp_path)]).runs
    assert [noise_of(run) for run in runs] == [None] * 3
    with pytest.raises(ResultsError, match="no finished run"):
        noise_figure(cells(runs, METRIC), metric=METRIC, heading="")


@pytest.mark.parametrize(
    ("changes", "panel_of"),
    [
        ({}, "fixed uniform"),
        ({"dataset.texture._target_": "jepa.data.textures.photos.Photos"}, "fixed structured"),
        ({"dataset.texture._target_": "jepa.data.textures.smooth.Smooth"}, None),
        ({"dataset._target_": "jepa.data.two_rooms.TwoRooms"}, None),
        ({"dataset.distractors.tag.coeff": 1.0}, None),
        ({"dataset.static_noise_speed": 2.0}, None),
    ],
)
def test_other_worlds_and_noises_are_not_drawn_as_those_of_the_study(
    changes: dict[str, Any], panel_of: str | None
) -> None:
    usual = {"num_dots": 1, "noise": 0.0, "static_noise": 1.0, "static_noise_speed": 0.0}
    usual = {f"dataset.{key}": value for key, value in usual.items()}
    run = Run("x", "finished", {**usual, **changes}, {"dataset": "single"})
    assert noise_of(run) == (None if panel_of is None else (panel_of, 1.0))


def test_the_command_draws_an_unfinished_study_and_writes_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_figure(tmp_path / "figure3")
    write(tmp_path / "figure3", "model=idm", "dataset.static_noise=2.0", scale="small", status="failed", metrics={})
    assert main([str(tmp_path / "figure3"), "--figure", "figure3"]) == 0
    assert (tmp_path / "figure3" / "figure3.png").stat().st_size > 10_000
    with open(tmp_path / "figure3" / "figure3.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["noise"], row["strength"], row["method"], row["n"]) for row in rows] == [
        ("changing uniform", "0.0", "vicreg", "1"),
        ("fixed uniform", "0.0", "vicreg", "1"),  # clean data are in every panel
        ("fixed uniform", "0.5", "vicreg", "3"),
        ("fixed uniform", "1.25", "vicreg", "3"),
        ("fixed uniform", "0.5", "idm", "3"),
        ("fixed uniform", "1.25", "idm", "3"),
    ]
    assert {row["scale"] for row in rows} == {"small"}
    assert "figure3.png" in capsys.readouterr().out


# --- table 1 --------------------------------------------------------------------------------------------------------


def write_table(root: Path) -> None:
    for model, error in (("vicreg", 7.0), ("idm", 1.4)):
        for seed in (0, 1):
            words = [f"model={model}", "dataset.num_dots=3", "dataset.channels=3", f"seed={seed}"]
            dots = [error + seed, 7.0, 2.8]
            metrics = {**result_of(compose(words), words)["metrics"], "prediction_rmse_px_per_dot": dots}
            own = reference_lines(num_dots=3, num_steps=17, padding=2.6)
            write(root, *words, dataset="multiple", scale="small", metrics=metrics, reference=own)


def test_table_1_divides_by_28_and_stands_beside_the_published_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path)
    vicreg, idm = dots_rows(collect([str(tmp_path)]).runs)
    assert (vicreg.method, idm.method) == ("vicreg", "idm")
    action, _, stationary = vicreg.ours
    assert action is not None and stationary is not None
    assert action.mean == pytest.approx(7.5 / 28) and stationary.mean == pytest.approx(0.1) and action.n == 2
    assert vicreg.published == (0.277, 0.273, 0.066)
    assert main([str(tmp_path), "--table", "table1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [row] = [line.split() for line in lines if line.startswith("idm")]
    assert row[:5] == ["idm", "2", "0.068", "±", "0.227"] and row[5] == "0.035"
    assert any(line.startswith("always the centre") for line in lines) and "scale: small" in lines
    assert main([str(tmp_path), "--table", "table1", "--markdown", "-"]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith("| method") and set(text[1]) == {"|", "-"} and "scale: small." in text[-1]
    assert main([str(tmp_path), "--table", "table1", "--csv", "-"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert float(rows[1]["action"]) == pytest.approx(1.9 / 28) and rows[1]["random_published"] == ""


def test_requests_that_cannot_be_met_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "model=idm")
    for words, said in (
        (["--table", "table1"], "no finished run has three dots"),
        (["--figure", "figure3"], "no finished run has one dot"),
        (["--figure", "figure3", "--table", "table1"], "choose one"),
        (["--figure", "figure3", "--out", "x.txt"], "must end in"),
    ):
        assert main([str(tmp_path), *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_a_table_of_runs_names_their_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_figure(tmp_path)
    assert main([str(tmp_path)]) == 0
    assert "scale: small" in capsys.readouterr().out


def test_any_table_is_written_in_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "model=idm", metrics={"prediction_rmse_px": 1.25})
    write(tmp_path, "model=vicreg", metrics={"prediction_rmse_px": 9.5})
    assert main([str(tmp_path), "--markdown", "-"]) == 0
    header, rule, idm, vicreg = (line.strip("|").split("|") for line in capsys.readouterr().out.splitlines())
    place = [text.strip() for text in header].index("prediction_rmse_px")
    assert {text.strip("-") for text in rule} == {""}
    assert (idm[place].strip(), vicreg[place].strip()) == ("1.25", "9.50")
