"""Figures: what is drawn and labelled. How they look was judged by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from results_samples import job_name, write_grid, write_run

from jepa.data.reference import reference_lines
from jepa.results.axes import varying_axes
from jepa.results.collect import collect
from jepa.results.figures import axis_label, metric_figure
from jepa.results.figures_search import importance_figure, trials_figure
from jepa.results.importance import importances
from jepa.results.records import ResultsError, Run
from jepa.results.reference import PUBLISHED, levels
from jepa.results.tables import Table, build_table

METRIC = "prediction_rmse_px"
REFERENCE_LINES = levels(PUBLISHED, METRIC)  # of results that have none of their own


def table_in(root: Path) -> Table:
    runs = list(collect([str(root)]).runs)
    return build_table(runs, varying_axes(runs), per_run=False)


def search_in(root: Path) -> list[Run]:
    """Twelve trials in which only the learning rate matters; the sixth failed, the eighth was pruned."""
    jobs = [[f"optimizer.base_lr={10 ** (trial / 4 - 1)}", f"model.sim_coeff={trial * 7 % 12}"] for trial in range(12)]
    for trial, job in enumerate(jobs):
        changes = {5: {"status": "failed", "metrics": {}}, 7: {"status": "pruned"}}.get(trial, {})
        write_run(root, job, **changes)
    plan = {
        "axes": {"optimizer.base_lr": [], "model.sim_coeff": []},
        "jobs": {job_name(job): {"overrides": job} for job in jobs},
    }
    (root / "sweep.json").write_text(json.dumps(plan))
    return list(collect([str(root)]).runs)


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_one_line_a_model_with_a_band_and_the_reference_lines(tmp_path: Path) -> None:
    write_grid(tmp_path)
    table = table_in(tmp_path)
    figure = metric_figure(table, x="dataset.static_noise", by=["model"], panel=None, metric=METRIC)
    (axis,) = figure.axes
    lines = {str(line.get_label()): line for line in axis.get_lines() if not str(line.get_label()).startswith("_")}
    assert list(lines) == labels(figure) == ["rssm", "simclr", "vicreg"]
    row = next(row for row in table.rows if row.point == ("vicreg", 1.0))
    summary = table.cell(row, METRIC)
    xs, ys = lines["vicreg"].get_data()
    assert list(xs) == [0.0, 0.5, 1.0, 1.5] and ys[2] == summary.mean
    band = axis.collections[2].get_paths()[0].get_extents()
    assert band.y1 >= summary.mean + summary.half_width
    written = " ".join(text.get_text() for text in axis.texts)
    for label, value in REFERENCE_LINES:
        assert f"{label} {value:.2f}" in written
        assert any(list(line.get_ydata()) == [value, value] for line in axis.get_lines())
    assert axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > REFERENCE_LINES[0][1]
    assert axis.get_ylabel() == "prediction RMSE [px]" and axis.get_xlabel() == "static_noise"


def dashed(axis: Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of the reference lines of a panel, highest first."""
    return [(list(x), list(y)) for x, y in (line.get_data() for line in axis.get_lines() if line.get_ls() == "--")]


def test_the_encoder_probe_has_its_own_line(tmp_path: Path) -> None:
    write_grid(tmp_path)
    table = table_in(tmp_path)
    figure = metric_figure(table, x="dataset.static_noise", by=["model"], panel=None, metric="encoder_rmse_px")
    assert [y for _, y in dashed(figure.axes[0])] == [[8.9, 8.9]]


def test_lines_come_from_the_runs_results(tmp_path: Path) -> None:
    own = reference_lines(num_dots=1, num_steps=5, padding=2.6)
    for noise in (0.0, 1.0):
        write_run(tmp_path, ["dataset.num_steps=5", f"dataset.static_noise={noise}"], reference=own)
    figure = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=[], panel=None, metric=METRIC)
    assert [y[0] for _, y in dashed(figure.axes[0])] == [line["rmse_px"] for line in own["prediction"]["lines"]]
    step = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=[], panel=None, metric=f"{METRIC}_per_step.0")
    assert [y[0] for _, y in dashed(step.axes[0])][-1] == 0


def test_lines_that_move_along_the_axis_are_curves(tmp_path: Path) -> None:
    several = {steps: reference_lines(num_dots=1, num_steps=steps, padding=2.6) for steps in (3, 5, 9)}
    for steps, own in several.items():
        write_run(tmp_path, [f"dataset.num_steps={steps}"], reference=own)
    figure = metric_figure(table_in(tmp_path), x="dataset.num_steps", by=[], panel=None, metric=METRIC)
    centre = [own["prediction"]["lines"][0]["rmse_px"] for own in several.values()]
    assert ([3, 5, 9], centre) in dashed(figure.axes[0]) and len(dashed(figure.axes[0])) == 5
    assert "no reference lines" not in figure.get_suptitle()


def test_each_panel_has_the_lines_of_its_runs(tmp_path: Path) -> None:
    several = {steps: reference_lines(num_dots=1, num_steps=steps, padding=2.6) for steps in (3, 9)}
    for steps, own in several.items():
        for noise in (0.0, 1.0):
            write_run(tmp_path, [f"dataset.num_steps={steps}", f"dataset.static_noise={noise}"], reference=own)
    figure = metric_figure(
        table_in(tmp_path), x="dataset.static_noise", by=[], panel="dataset.num_steps", metric=METRIC
    )
    for axis, own in zip(figure.axes, several.values(), strict=True):
        assert [y[0] for _, y in dashed(axis)] == [line["rmse_px"] for line in own["prediction"]["lines"]]
        assert len(axis.texts) == 5


def test_runs_of_several_environments_share_no_lines(tmp_path: Path) -> None:
    for steps in (3, 9):
        own = reference_lines(num_dots=1, num_steps=steps, padding=2.6)
        for noise in (0.0, 1.0):
            write_run(tmp_path, [f"dataset.num_steps={steps}", f"dataset.static_noise={noise}"], reference=own)
    figure = metric_figure(
        table_in(tmp_path), x="dataset.static_noise", by=["dataset.num_steps"], panel=None, metric=METRIC
    )
    assert dashed(figure.axes[0]) == []
    assert "no reference lines: the runs differ in their environment" in figure.legends[0].get_title().get_text()


def test_old_results_of_another_setting_have_no_lines(tmp_path: Path) -> None:
    for noise in (0.0, 1.0):
        write_run(tmp_path, ["dataset.num_steps=5", f"dataset.static_noise={noise}"])
    figure = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=[], panel=None, metric=METRIC)
    assert dashed(figure.axes[0]) == []
    assert dashed(trials_figure(collect([str(tmp_path)]).runs, metric=METRIC, title="").axes[0]) == []


def test_no_reference_lines_for_other_metrics(tmp_path: Path) -> None:
    write_grid(tmp_path)
    figure = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=["model"], panel=None, metric="loss/total")
    assert not figure.axes[0].texts


def test_panels_and_words_on_the_axis(tmp_path: Path) -> None:
    write_grid(tmp_path)
    figure = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=[], panel="model", metric=METRIC)
    assert [axis.get_title() for axis in figure.axes] == ["model = rssm", "model = simclr", "model = vicreg"]
    figure = metric_figure(table_in(tmp_path), x="model", by=["dataset.static_noise"], panel=None, metric=METRIC)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["rssm", "simclr", "vicreg"]
    assert labels(figure) == ["0", "0.5", "1", "1.5"]


def test_a_learning_rate_gets_a_logarithmic_axis(tmp_path: Path) -> None:
    for rate in (0.01, 0.1, 1.0, 10.0):
        write_run(tmp_path, [f"optimizer.base_lr={rate}"])
    figure = metric_figure(table_in(tmp_path), x="optimizer.base_lr", by=[], panel=None, metric=METRIC)
    assert figure.axes[0].get_xscale() == "log"
    assert not figure.legends


def test_another_axis_that_varies_is_not_averaged_away(tmp_path: Path) -> None:
    write_grid(tmp_path)
    with pytest.raises(ResultsError, match="model also vary"):
        metric_figure(table_in(tmp_path), x="dataset.static_noise", by=[], panel=None, metric=METRIC)
    with pytest.raises(ResultsError, match="no finished run has it"):
        metric_figure(table_in(tmp_path), x="dataset.static_noise", by=["model"], panel=None, metric="loss/x")


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_figures_are_written(tmp_path: Path, ending: str) -> None:
    write_grid(tmp_path, noises=2, seeds=2)
    figure = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=["model"], panel=None, metric=METRIC)
    path = tmp_path / f"figure.{ending}"
    figure.savefig(path)
    assert path.read_bytes()[:4] == {"png": b"\x89PNG", "pdf": b"%PDF"}[ending]


def test_trials_and_the_best_so_far(tmp_path: Path) -> None:
    runs = search_in(tmp_path)
    figure = trials_figure(runs, metric=METRIC, title="search")
    (axis,) = figure.axes
    assert labels(figure) == ["finished", "pruned (last value)", "best so far", "failed"]
    scatters = {str(dots.get_label()): dots for dots in axis.collections if isinstance(dots, PathCollection)}
    assert len(scatters["finished"].get_offsets()) == 10
    assert [point[0] for point in scatters["failed"].get_offsets()] == [5]
    assert [point[0] for point in scatters["pruned (last value)"].get_offsets()] == [7]
    best = next(line for line in axis.get_lines() if line.get_label() == "best so far").get_ydata()
    finished = [run.value(METRIC) for run in runs if run.status == "finished"]
    assert best[-1] == min(finished) and all(after <= before for before, after in zip(best, best[1:], strict=False))
    with pytest.raises(ResultsError, match="no finished run"):
        trials_figure([run for run in runs if run.status == "failed"], metric=METRIC, title="")


def test_importance_finds_what_matters(tmp_path: Path) -> None:
    runs = search_in(tmp_path)
    shares, method, count = importances(runs, varying_axes(runs), METRIC)
    assert count == 10 and method in ("fANOVA", "PED-ANOVA")
    assert list(shares)[0] == "optimizer.base_lr" and shares["optimizer.base_lr"] > 0.6
    assert sum(shares.values()) == pytest.approx(1)
    assert shares == importances(runs, varying_axes(runs), METRIC)[0]
    figure = importance_figure(shares, metric=METRIC, title="search")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["sim_coeff", "base_lr"]


def test_importance_needs_trials_and_something_that_varies(tmp_path: Path) -> None:
    runs = search_in(tmp_path)
    with pytest.raises(ResultsError, match="2 finished runs; at least 4"):
        importances([run for run in runs if run.status == "finished"][:2], ["optimizer.base_lr"], METRIC)
    with pytest.raises(ResultsError, match="nothing varies"):
        importances(runs, ["dataset.noise"], METRIC)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("prediction_rmse_px", "prediction RMSE [px]"),
        ("train_seconds", "train time [s]"),
        ("loss/total", "loss/total"),
        ("sequences_per_second", "sequences per second"),
    ],
)
def test_labels(metric: str, words: str) -> None:
    assert axis_label(metric) == words
