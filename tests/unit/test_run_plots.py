"""The pictures of one run: what is drawn where, and that odd data are drawn rather than refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from environment_samples import reference_lines
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from jepa.results.embedding_plot import embedding_figure
from jepa.results.reference import PUBLISHED
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
REFERENCE = reference_lines(num_dots=1, num_steps=T, padding=2.6)


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    found.append(figure.get_suptitle())
    for axis in figure.axes:
        found += [axis.get_title(), axis.get_xlabel(), axis.get_ylabel(), *(text.get_text() for text in axis.texts)]
    return [text for text in found if text]


def test_all_plots_are_written_as_pictures(tmp_path: Path) -> None:
    paths = draw_all(
        tmp_path / "plots", samples=samples(), metrics=METRICS, records=records(3.0, 0.2), reference=REFERENCE
    )
    assert [path.name for path in paths] == ["samples.png", "losses.png", "rmse_per_step.png"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        picture = imread(path)
        assert picture.shape[0] > 200 and picture.shape[1] > 200 and picture.std() > 0.05


def test_samples_show_frames_locations_and_paths() -> None:
    data = samples(count=2, dots=3, channels=3)
    metrics = {"prediction_rmse_px": 4.125, "prediction_rmse_px_per_dot": [1.0, 6.5, 0.25]}
    figure = samples_figure(data, metrics, dots=["action", "random", "stationary"])
    assert figure is not None
    assert len(figure.axes) == 2 * 7
    first, paths = figure.axes[0], figure.axes[6]
    np.testing.assert_allclose(first.images[0].get_array(), data.frames[0, 0].sum(0), rtol=1e-6)
    for dot in range(3):
        [true] = {line.get_color() for line in first.lines if has(line, data.true_px[0, 0, [dot]])}
        [predicted] = {line.get_color() for line in first.lines if has(line, data.predicted_px[0, 0, [dot]])}
        [path] = {line.get_color() for line in paths.lines if has(line, data.true_px[:, 0, dot])}
        [guesses] = {line.get_color() for line in paths.lines if has(line, data.predicted_px[:, 0, dot])}
        legend = figure.legends[0].get_lines()[dot]
        assert true == predicted == path == guesses == legend.get_color()
    assert len({line.get_color() for line in figure.legends[0].get_lines()[:3]}) == 3
    assert {"true", "predicted", "start", "t = 0", "t = 16", "path, px", "sequence 2"} <= set(texts(figure))
    assert {"action dot", "random dot", "stationary dot"} <= set(texts(figure))
    assert figure.get_suptitle() == (
        "Judged sequences: where the dots are, and where the prediction probe puts them\n"
        "RMSE 4.12 px (action dot 1.00, random dot 6.50, stationary dot 0.25) over all judged sequences"
    )


def has(line: Line2D, points: np.ndarray) -> bool:
    return np.array_equal(line.get_xydata(), points)


def test_one_dot_has_a_colour_for_the_truth_and_one_for_the_guess() -> None:
    data = samples(count=1)
    figure = samples_figure(data, METRICS)
    assert figure is not None
    first = figure.axes[0]
    [true] = {line.get_color() for line in first.lines if has(line, data.true_px[0, 0])}
    [predicted] = {line.get_color() for line in first.lines if has(line, data.predicted_px[0, 0])}
    assert [line.get_color() for line in figure.legends[0].get_lines()][:2] == [true, predicted] and true != predicted
    assert "where the dot is" in figure.get_suptitle() and "RMSE 2.00 px over" in figure.get_suptitle()


def test_losses_have_a_panel_each_and_say_what_they_show() -> None:
    figure = losses_figure(records(30.0, 3.0, 0.25), {"prediction": "× 118.4"})
    assert figure is not None
    total, prediction = figure.axes
    assert [axis.get_title() for axis in figure.axes] == [
        "total (the weighted sum)\nlast 0.25",
        "prediction (× 118.4 in the total)\nlast 0.5",
    ]
    assert total.get_yscale() == "log" and prediction.get_yscale() == "linear"
    assert [axis.get_ylabel() for axis in figure.axes] == ["logarithmic axis", "linear axis"]
    np.testing.assert_allclose(total.lines[0].get_xydata(), [[0.5, 30.0], [1.0, 3.0], [1.5, 0.25]])
    assert "before they are weighted" in figure.get_suptitle()

    broken = losses_figure(records(30.0, None, 0.25), {})
    assert broken is not None
    assert [axis.get_title() for axis in broken.axes] == [
        "total (the weighted sum)\nnot finite at epoch 1",
        "prediction\nlast 0.5",
    ]
    negative = losses_figure(records(30.0, -1.0), {})
    assert negative is not None and negative.axes[0].get_yscale() == "linear"


def drawn(axis: Axes) -> list[list[float]]:
    """The dashed lines of a panel: their heights."""
    return [list(line.get_ydata()) for line in axis.lines if line.get_linestyle() == "--"]


def test_each_probe_has_its_own_reference_lines_by_time_step() -> None:
    figure = rmse_per_step_figure(METRICS, REFERENCE)
    assert figure is not None
    for axis, probe in zip(figure.axes, ("prediction", "encoder"), strict=True):
        lines = REFERENCE[probe]["lines"]
        assert drawn(axis) == [line["per_step_px"] for line in lines]
        assert {text.get_text() for text in axis.texts} == {line["name"] for line in lines}
        [own] = [line for line in axis.lines if line.get_linestyle() == "-"]
        assert list(own.get_ydata()) == list(METRICS[f"{probe}_rmse_px_per_step"])  # type: ignore[call-overload]
    titles = {"prediction probe: 2.00 px over all steps", "encoder probe: 0.50 px at step 0", "RMSE, px"}
    assert titles <= set(texts(figure))


@pytest.mark.parametrize("reference", [None, PUBLISHED])  # the latter has no lines by time step
def test_without_lines_by_time_step_the_errors_are_drawn_alone(reference: dict[str, Any] | None) -> None:
    figure = rmse_per_step_figure({**METRICS, "prediction_rmse_px_per_dot": [1.0, 2.0]}, reference)
    assert figure is not None
    assert [drawn(axis) for axis in figure.axes] == [[], []]
    assert figure.get_suptitle() == "Error of the location by time step, over all dots"


def test_labels_of_reference_lines_do_not_overlap() -> None:
    figure = rmse_per_step_figure(METRICS, reference_lines(num_dots=1, num_steps=5, padding=5.0))
    assert figure is not None
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 5 and all(below.y1 <= above.y0 for below, above in zip(boxes, boxes[1:], strict=False))


def test_gradient_norms_and_the_spectrum_have_a_panel_each() -> None:
    told = [
        {"kind": "train", "epoch": 0.5, "loss/total": 1.0},
        {"kind": "train", "epoch": 1.0, "gradient_norms/action": 0.5, "gradient_norms/slow_part": 0.0},
        {"kind": "train", "epoch": 2.0, "gradient_norms/action": 0.25, "gradient_norms/slow_part": 2.0},
    ]
    figure = embedding_figure(told, {"covariance_spectrum": [0.6, 0.3, 0.0], "rankme": 2.3})
    assert figure is not None
    norms, spectrum = figure.axes
    lines = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in norms.lines}
    assert lines == {"action": [[1.0, 0.5], [2.0, 0.25]], "slow part": [[2.0, 2.0]]}  # a logarithm of 0 is left out
    assert np.asarray(spectrum.lines[0].get_xydata()).tolist() == [[1.0, 0.6], [2.0, 0.3]]
    assert spectrum.get_title().endswith("; RankMe 2.3")
    alone = embedding_figure([], {"covariance_spectrum": [1.0]})
    assert alone is not None and len(alone.axes) == 1


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
    paths = draw_all(tmp_path, samples=data, metrics=metrics, records=records(value), reference=REFERENCE)
    assert len(paths) == 3


def test_plots_need_neither_torch_nor_pyplot() -> None:
    code = "import sys, jepa.results.run_plots; print({'torch', 'matplotlib.pyplot', 'hydra'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_no_setting_of_matplotlib_hinders_a_figure(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    code = (
        "from jepa.results.backend import prepare_matplotlib; prepare_matplotlib();"
        "import matplotlib, os; from jepa.results import run_plots;"
        "print(matplotlib.rcParams['text.usetex'], os.environ['MPLBACKEND'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MPLBACKEND": "module://not_installed.backend", "MATPLOTLIBRC": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "False module://not_installed.backend\n", found.stderr
