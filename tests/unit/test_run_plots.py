"""The pictures of one run: what is drawn where, and that odd data are drawn rather than refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from jepa.results.reference import REFERENCE_LINES
from jepa.results.run_plots import draw_all, losses_figure, rmse_per_step_figure, samples_figure

T, SIZE = 17, 28


def samples(count: int = 3, dots: int = 1, channels: int = 1) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    true = rng.uniform(3, 24, (T, count, dots, 2))
    frames = rng.normal(size=(T, count, channels, SIZE, SIZE)).astype(np.float32)
    return SimpleNamespace(frames=frames, true_px=true, predicted_px=true + rng.normal(size=true.shape))


def records(*totals: float | None) -> list[dict[str, object]]:
    train = [
        {"step": 10 * i, "epoch": i / 2, "kind": "train", "loss/total": total, "loss/prediction": 0.5, "time_s": 1.0}
        for i, total in enumerate(totals, start=1)
    ]
    return [*train, {"step": 20, "epoch": 1.0, "kind": "probe", "prediction_rmse_px": 2.0}]


METRICS = {
    "prediction_rmse_px": 2.0,
    "encoder_rmse_px": 0.5,
    "prediction_rmse_px_per_step": list(np.linspace(0.5, 3, T)),
    "encoder_rmse_px_per_step": [0.5] * T,
}


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axis in figure.axes:
        found += [axis.get_title(), axis.get_xlabel(), axis.get_ylabel(), *(text.get_text() for text in axis.texts)]
    return [text for text in found if text]


def test_all_plots_are_written_as_pictures(tmp_path: Path) -> None:
    paths = draw_all(tmp_path / "plots", samples=samples(), metrics=METRICS, records=records(3.0, 0.2))
    assert [path.name for path in paths] == ["samples.png", "losses.png", "rmse_per_step.png"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        picture = imread(path)
        assert picture.shape[0] > 200 and picture.shape[1] > 200 and picture.std() > 0.05


def test_samples_show_frames_locations_and_paths() -> None:
    data = samples(count=2, dots=3, channels=3)
    figure = samples_figure(data)
    assert figure is not None
    assert len(figure.axes) == 2 * 7
    first, paths = figure.axes[0], figure.axes[6]
    np.testing.assert_allclose(first.images[0].get_array(), data.frames[0, 0].sum(0), rtol=1e-6)
    lines = [line.get_xydata() for line in first.lines]
    assert any(np.array_equal(line, data.true_px[0, 0]) for line in lines)
    assert any(np.array_equal(line, data.predicted_px[0, 0]) for line in lines)
    lines = [line.get_xydata() for line in paths.lines]
    for dot in range(3):
        assert any(np.array_equal(line, data.true_px[:, 0, dot]) for line in lines)
        assert any(np.array_equal(line, data.predicted_px[:, 0, dot]) for line in lines)
    assert {"true", "predicted", "start", "t = 0", "t = 16", "path, px", "sequence 2"} <= set(texts(figure))


def test_losses_have_a_panel_each_and_say_where_they_end() -> None:
    figure = losses_figure(records(30.0, 3.0, 0.25))
    assert figure is not None
    total, prediction = figure.axes
    assert texts(figure) == ["total    last 0.25", "prediction    last 0.5"]
    assert total.get_yscale() == "log" and prediction.get_yscale() == "linear"
    np.testing.assert_allclose(total.lines[0].get_xydata(), [[0.5, 30.0], [1.0, 3.0], [1.5, 0.25]])

    broken = losses_figure(records(30.0, None, 0.25))
    assert broken is not None
    assert texts(broken)[0] == "total    not finite at epoch 1"
    negative = losses_figure(records(30.0, -1.0))
    assert negative is not None and negative.axes[0].get_yscale() == "linear"


def test_every_reference_line_is_drawn_and_named() -> None:
    figure = rmse_per_step_figure(METRICS)
    assert figure is not None
    [axis] = figure.axes
    heights = {float(np.ravel(line.get_ydata())[0]) for line in axis.lines if line.get_linestyle() == "--"}
    assert {value for _, value in REFERENCE_LINES} <= heights
    assert {f"{label}  {value:.2f}" for label, value in REFERENCE_LINES} <= set(texts(figure))
    assert {"prediction probe (2.00 px)", "encoder probe (0.50 px)", "RMSE, px"} <= set(texts(figure))


def test_labels_of_reference_lines_do_not_overlap() -> None:
    figure = rmse_per_step_figure(METRICS)
    assert figure is not None
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in zip(boxes, boxes[1:], strict=False))


def test_nothing_is_drawn_without_data(tmp_path: Path) -> None:
    assert draw_all(tmp_path, samples=samples(count=0), metrics={}, records=[]) == []


@pytest.mark.parametrize("value", [None, float("nan"), 1e9])
def test_a_diverged_run_can_be_drawn(tmp_path: Path, value: float | None) -> None:
    data = samples()
    data.predicted_px[:] = np.nan if value is None else value
    metrics = {
        "prediction_rmse_px": value,
        "prediction_rmse_px_per_step": [value] * T,
        "encoder_rmse_px_per_step": [1.0],
    }
    paths = draw_all(tmp_path, samples=data, metrics=metrics, records=records(value))
    assert len(paths) == 3


def test_plots_need_neither_torch_nor_pyplot() -> None:
    code = "import sys, jepa.results.run_plots; print({'torch', 'matplotlib.pyplot', 'hydra'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
