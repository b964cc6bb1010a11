"""Figures: what is drawn and labelled. How they look was judged by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from environment_samples import reference_lines
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from results_samples import job_name, write_grid, write_run

from jepa.results.axes import varying_axes
from jepa.results.collect import collect
from jepa.results.drawing import axis_label, scale_y
from jepa.results.figures import metric_figure
from jepa.results.figures_curves import curves_figure
from jepa.results.figures_search import importance_figure, parallel_figure, slice_figure, trials_figure
from jepa.results.importance import importances
from jepa.results.records import ResultsError, Run
from jepa.results.reference import PUBLISHED, levels
from jepa.results.searches import searches_in
from jepa.results.tables import Table, best_rows, build_table, mixed_axes, telling_axes

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
    found = collect([str(tmp_path)])
    assert dashed(trials_figure(searches_in(found, found.runs), metric=METRIC).axes[0]) == []


def test_old_results_of_another_setting_have_no_lines(tmp_path: Path) -> None:
    for noise in (0.0, 1.0):
        write_run(tmp_path, ["dataset.num_steps=5", f"dataset.static_noise={noise}"])
    figure = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=[], panel=None, metric=METRIC)
    assert dashed(figure.axes[0]) == []
    found = collect([str(tmp_path)])
    assert dashed(trials_figure(searches_in(found, found.runs), metric=METRIC).axes[0]) == []


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
    with pytest.raises(ResultsError, match="model also varies"):
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
    figure = trials_figure(searches_in(collect([str(tmp_path)]), runs), metric=METRIC)
    (axis,) = figure.axes
    assert sorted(labels(figure)) == ["best so far", "failed", "finished", "pruned"]
    scatters = {str(dots.get_label()): dots for dots in axis.collections if isinstance(dots, PathCollection)}
    assert len(scatters["finished"].get_offsets()) == 10
    assert [point[0] for point in scatters["failed"].get_offsets()] == [5]
    assert [point[0] for point in scatters["pruned"].get_offsets()] == [7]
    best = next(line for line in axis.get_lines() if line.get_label() == "best so far").get_ydata()
    finished = [run.value(METRIC) for run in runs if run.status == "finished"]
    assert best[-1] == min(finished) and all(after <= before for before, after in zip(best, best[1:], strict=False))
    failed = [run for run in runs if run.status == "failed"]
    with pytest.raises(ResultsError, match="no finished run"):
        trials_figure(searches_in(collect([str(tmp_path)]), failed), metric=METRIC)


def test_the_best_success_is_the_largest(tmp_path: Path) -> None:
    success = "planning_success_other"
    for rate, value in ((0.1, 0.25), (0.2, 0.75), (0.3, 0.5)):
        told = {"metrics": {METRIC: 1.0, success: value}, "started": f"2026-01-01T00:00:0{int(10 * rate)}"}
        write_run(tmp_path, [f"optimizer.base_lr={rate}"], **told)
    found = collect([str(tmp_path)])
    (search,) = searches_in(found, found.runs)
    best = search.best(success)
    assert best is not None and best.value(success) == 0.75
    (axis,) = trials_figure([search], metric=success).axes
    line = next(line for line in axis.get_lines() if line.get_label() == "best so far")
    assert [float(y) for y in line.get_ydata()] == [0.25, 0.75, 0.75, 0.75]
    parallel = parallel_figure([search], metric=success).axes[0]
    assert next(line for line in parallel.get_lines() if line.get_label() == "best").get_ydata()[-1] == 1.0
    drawn = [dots for axis in slice_figure([search], metric=success).axes for dots in axis.collections]
    assert [dots.get_offsets()[0][1] for dots in drawn if dots.get_label() == "best"] == [0.75]
    table = best_rows(build_table(found.runs, ["model", "optimizer.base_lr"], per_run=False), ["model"], success)
    assert [table.cell(row, "optimizer.base_lr") for row in table.rows] == [0.2]


def test_a_pruned_trial_is_never_the_best(tmp_path: Path) -> None:
    write_run(tmp_path, ["optimizer.base_lr=0.5"], metrics={METRIC: 5.0})
    write_run(tmp_path, ["optimizer.base_lr=0.7"], status="pruned", metrics={METRIC: 1.0})
    found = collect([str(tmp_path)])
    (search,) = searches_in(found, found.runs)
    best = search.best(METRIC)
    assert best is not None and best.value(METRIC) == 5.0
    for draw in (trials_figure, slice_figure, parallel_figure):
        figure = draw([search], metric=METRIC)
        numbers = [
            float(y)
            for axis in figure.axes
            for dots in axis.collections
            if isinstance(dots, PathCollection) and dots.get_label() != "pruned"
            for _, y in dots.get_offsets()
        ]
        assert 1.0 not in numbers
    (axis,) = parallel_figure([search], metric=METRIC).axes
    lengths = {str(line.get_label()): len(line.get_xdata()) for line in axis.get_lines()}
    assert lengths["pruned"] == 1 and lengths["best"] == 2  # its line does not reach the metric


def two_searches(root: Path) -> list[Run]:
    """Of two models at different noise, each with keys of its own; and a grid beside them."""
    for name, model, noise, key in (("a", "vicreg", 0.5, "model.sim_coeff"), ("b", "simclr", 1.5, "model.temperature")):
        jobs = [
            [
                f"model={model}",
                f"dataset.static_noise={noise}",
                f"optimizer.base_lr={10 ** (k / 3 - 1)}",
                f"{key}={k * 5 % 8 + 1}",
            ]
            for k in range(8)
        ]
        for job in jobs:
            write_run(root / name, job)
        plan = {"axes": {"optimizer.base_lr": [], key: []}, "jobs": {job_name(job): {"overrides": job} for job in jobs}}
        (root / name / "sweep.json").write_text(json.dumps(plan))
    write_grid(root / "grid", noises=2, seeds=2)
    return list(collect([str(root)]).runs)


def test_several_searches_are_never_pooled(tmp_path: Path) -> None:
    runs = two_searches(tmp_path)
    searches = searches_in(collect([str(tmp_path)]), runs)
    assert [search.title for search in searches] == ["model=vicreg, static_noise=0.5", "model=simclr, static_noise=1.5"]
    assert [set(search.axes) for search in searches] == [
        {"optimizer.base_lr", "model.sim_coeff"}, {"optimizer.base_lr", "model.temperature"},
    ]  # fmt: skip
    trials = trials_figure(searches, metric=METRIC)
    assert [axis.get_title().partition(":")[0] for axis in trials.axes] == [search.title for search in searches]
    shares = [(search, importances(search.runs, search.axes, METRIC)[0]) for search in searches]
    bars = importance_figure(shares, metric=METRIC, method="fANOVA")
    assert [{tick.get_text() for tick in axis.get_yticklabels()} for axis in bars.axes] == [
        {"sim_coeff", "base_lr"}, {"temperature", "base_lr"},
    ]  # fmt: skip
    slices = slice_figure(searches, metric=METRIC)
    shown = [axis.get_xlabel() for axis in slices.axes if axis.get_xlabel()]
    assert sorted(shown) == ["base_lr", "base_lr", "sim_coeff", "temperature"]
    assert len(parallel_figure(searches, metric=METRIC).axes) == 2
    only = slice_figure(searches, metric=METRIC, keys=["optimizer.base_lr"])
    assert [axis.get_xlabel() for axis in only.axes if axis.get_xlabel()] == ["base_lr", "base_lr"]


def test_importance_finds_what_matters(tmp_path: Path) -> None:
    runs = search_in(tmp_path)
    shares, method, count = importances(runs, varying_axes(runs), METRIC)
    assert count == 10 and method in ("fANOVA", "PED-ANOVA")
    assert list(shares)[0] == "optimizer.base_lr" and shares["optimizer.base_lr"] > 0.6
    assert sum(shares.values()) == pytest.approx(1)
    assert shares == importances(runs, varying_axes(runs), METRIC)[0]
    (search,) = searches_in(collect([str(tmp_path)]), runs)
    figure = importance_figure([(search, shares)], metric=METRIC, method=method)
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


# --- learning curves, seeds, legends --------------------------------------------------------------------------------


def write_curves(root: Path, *, epochs: int = 4) -> None:
    """Two models, three seeds; a loss at each epoch, the error at every other one."""
    for model in ("vicreg", "rssm"):
        for seed in range(3):
            folder = write_run(root, [f"model={model}", f"seed={seed}"])
            lines = []
            for epoch in range(1, epochs + 1):
                place = {"step": 10 * epoch, "epoch": float(epoch)}
                lines.append({**place, "kind": "train", "loss/total": 8.0 / epoch + seed})
                if epoch % 2 == 0:
                    lines.append({**place, "kind": "probe", METRIC: 9.0 - epoch + 0.1 * seed})
            torn = '{"step": 50, "epo'
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


def test_learning_curves_are_means_over_seeds(tmp_path: Path) -> None:
    write_curves(tmp_path)
    figure = curves_figure(table_in(tmp_path), x="epoch", by=["model"], panel=None, metric="total", objective=METRIC)
    (axis,) = figure.axes
    assert labels(figure) == ["rssm", "vicreg"] and axis.get_xlabel() == "epoch" and axis.get_ylabel() == "loss/total"
    for line in axis.get_lines():
        assert list(line.get_xdata()) == [1, 2, 3, 4] and list(line.get_ydata()) == [9.0, 5.0, 8 / 3 + 1, 3.0]
    band = axis.collections[0].get_paths()[0].get_extents()
    assert band.y1 == pytest.approx(9.0 + 4.302652729749 / 3**0.5) and band.y0 < 3.0
    usual = curves_figure(table_in(tmp_path), x="step", by=[], panel="model", metric=None, objective=METRIC)
    assert [list(axis.get_lines()[0].get_xdata()) for axis in usual.axes] == [[20, 40], [20, 40]]
    assert usual.axes[0].get_ylabel() == "prediction RMSE [px]"
    assert [len(dashed(axis)) for axis in usual.axes] == [5, 5]  # an error has its lines, a loss has none
    assert dashed(figure.axes[0]) == []


def test_errors_by_frame_have_reference_curves(tmp_path: Path) -> None:
    own = reference_lines(num_dots=1, num_steps=17, padding=2.6)
    for model in ("vicreg", "rssm"):
        for seed in range(2):
            write_run(tmp_path, [f"model={model}", f"seed={seed}"], reference=own)
    table = table_in(tmp_path)
    figure = curves_figure(table, x="frame", by=["model"], panel=None, metric=None, objective="objective")
    (axis,) = figure.axes
    assert axis.get_xlabel() == "frame" and axis.get_ylabel() == "prediction RMSE [px]"
    means = [table.cell(row, f"{METRIC}_per_step.16").mean for row in table.rows]
    solid = [line.get_data() for line in axis.get_lines() if line.get_ls() == "-"]
    assert [list(x) for x, _ in solid] == [list(range(17))] * 2 and [y[16] for _, y in solid] == means
    expected = {(line["name"], tuple(line["per_step_px"])) for line in own["prediction"]["lines"]}
    assert {tuple(y) for _, y in dashed(axis)} == {values for _, values in expected}
    assert {text.get_text() for text in axis.texts} == {name for name, _ in expected}

    write_run(tmp_path, ["model=simclr", "dataset.num_steps=5"], reference=reference_lines(
        num_dots=1, num_steps=5, padding=5.0
    ))  # fmt: skip
    both = ["model", "dataset.num_steps"]
    mixed = curves_figure(table_in(tmp_path), x="frame", by=both, panel=None, metric="rmse", objective=METRIC)
    assert dashed(mixed.axes[0]) == [] and "no reference lines" in mixed.legends[0].get_title().get_text()
    panels = curves_figure(table_in(tmp_path), x="frame", by=both[1:], panel="model", metric=METRIC, objective=METRIC)
    assert [len(dashed(axis)) for axis in panels.axes] == [5, 5, 5]
    with pytest.raises(ResultsError, match="total: not recorded by frame.* .recorded: prediction_rmse_px."):
        curves_figure(table_in(tmp_path), x="frame", by=both, panel=None, metric="total", objective=METRIC)


def test_an_axis_that_follows_from_another_needs_no_name(tmp_path: Path) -> None:
    """A sweep with a learning rate for each model: the model tells all."""
    for model, rate in (("vicreg", 2.0), ("simclr", 8.0)):
        for noise in (0.0, 1.0):
            write_run(tmp_path, [f"model={model}", f"optimizer.base_lr={rate}", f"dataset.static_noise={noise}"])
    table = table_in(tmp_path)
    assert table.axes == ("model", "optimizer.base_lr", "dataset.static_noise")
    figure = metric_figure(table, x="dataset.static_noise", by=["model"], panel=None, metric=METRIC)
    assert labels(figure) == ["simclr", "vicreg"]
    assert telling_axes(table, ["model", "optimizer.base_lr"], ["dataset.static_noise"]) == ["model"]
    assert mixed_axes(table, ["dataset.static_noise"]) == ["model", "optimizer.base_lr"]


def test_learning_curves_that_cannot_be_drawn(tmp_path: Path) -> None:
    write_curves(tmp_path, epochs=3)
    table = table_in(tmp_path)
    for metric, by, message in (
        ("total", [], "model also varies"),
        ("rmse", ["model"], "recorded once, at the end"),
        ("nothing", ["model"], "not recorded on the way.*recorded: loss/total, prediction_rmse_px"),
    ):
        with pytest.raises(ResultsError, match=message):
            curves_figure(table, x="epoch", by=by, panel=None, metric=metric, objective=METRIC)
    fallen_back = curves_figure(table, x="epoch", by=["model"], panel=None, metric=None, objective=METRIC)
    assert fallen_back.axes[0].get_ylabel() == "loss/total"


def test_a_line_for_each_seed(tmp_path: Path) -> None:
    write_grid(tmp_path, models=("vicreg", "rssm"))
    runs = list(collect([str(tmp_path)]).runs)
    table = build_table(runs, [*varying_axes(runs), "seed"], per_run=False)
    figure = metric_figure(table, x="dataset.static_noise", by=["model", "seed"], panel=None, metric=METRIC)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 4]
    assert len(lines) == 6 and labels(figure) == ["rssm", "vicreg"]
    assert len({line.get_color() for line in lines}) == 2  # seeds of one model share its colour


@pytest.mark.parametrize("count", [2, 5, 9, 20])
def test_a_legend_stays_inside_its_figure(tmp_path: Path, count: int) -> None:
    for k in range(count):
        for noise in (0.0, 1.0):
            write_run(
                tmp_path,
                [
                    f"dataset.static_noise={noise}",
                    f"optimizer.base_lr={0.123456 * (k + 1)}",
                    f"model.sim_coeff={k + 0.5}",
                ],
            )
    by = ["optimizer.base_lr", "model.sim_coeff"]
    title = "model=vicreg and static_noise>=0 and optimizer.base_lr<100 and model.sim_coeff>=0 and trainer.epochs>1"
    figure = metric_figure(table_in(tmp_path), x="dataset.static_noise", by=by, panel=None, metric=METRIC, title=title)
    figure.savefig(tmp_path / "x.png")
    (legend,) = figure.legends
    box, frame = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert len(labels(figure)) == count
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 + 1
    assert box.y0 >= frame.y1 - 5 and frame.height > 0.45 * figure.bbox.height


@pytest.mark.parametrize(
    ("metric", "scale", "low"),
    [("planning_success", "linear", -0.03), ("encoder_finite_accuracy", "linear", -0.03), ("loss/total", "log", None)],
)
def test_a_share_is_drawn_from_0_to_1(metric: str, scale: str, low: float | None) -> None:
    axis = Figure().subplots()
    axis.plot([1, 2], [0.01, 1.0])
    scale_y(axis, [0.01, 1.0], metric)
    assert axis.get_yscale() == scale and (low is None or axis.get_ylim() == (low, 1.03))
