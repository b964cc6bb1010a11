"""The crossing matrix: the numbers in its cells, and their order."""

from __future__ import annotations

from pathlib import Path

from results_samples import compose, result_of, write_run

from jepa.results.axes import varying_axes
from jepa.results.collect import collect
from jepa.results.figures_transfer import transfer_figure
from jepa.results.tables import build_table


def test_a_cell_is_the_mean_over_seeds_of_one_training_under_one_condition(tmp_path: Path) -> None:
    for noise in (0.0, 1.0):
        for seed in (0, 1):
            point = ["model=vicreg", f"dataset.noise={noise}", f"seed={seed}"]
            own = {"prediction_rmse_px": 1 + noise, "prediction_rmse_px_on_dark": 3 + noise + seed}
            kept = {"prediction_rmse_px_kept_on_dark": 6 + noise + seed}
            write_run(tmp_path, point, metrics={**result_of(compose(point), point)["metrics"], **own, **kept})
    runs = collect([str(tmp_path)]).runs
    table = build_table(runs, varying_axes(runs), per_run=False)
    figure = transfer_figure(table, runs, metric="prediction_rmse_px")
    panels = [[text.get_text() for text in axis.texts] for axis in figure.axes[:2]]
    assert panels == [["1.00", "3.50", "2.00", "4.50"], ["1.00", "6.50", "2.00", "7.50"]]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["as in training", "dark"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0", "1"]
