"""Files, the screen and the words for a result."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from environment_samples import reference_lines

from jepa.errors import ConfigError
from jepa.files import atomic_path, to_plain, write_json_atomic, write_text_atomic
from jepa.loggers.base import Logger, RunInfo
from jepa.loggers.display import ProgressDisplay
from jepa.loggers.files import FilesLogger
from jepa.results import reference
from jepa.results.reference import common_levels, levels, reference_of, verdict
from jepa.results.run_summary import summary_lines
from jepa.store.layout import METRICS
from jepa.store.metrics import latest_metrics, metrics_tail, read_metrics, recorded_bytes

# --- files ---------------------------------------------------------------------------------------------------------


def test_json_is_plain_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "result.json"
    value = {
        "nan": math.nan,
        "infinite": [-math.inf, np.float32("nan"), torch.tensor(math.inf)],
        "numbers": (1, np.float64(0.5), np.int64(3), torch.tensor([1.5, 2.0]), True, None),
        "path": tmp_path,
        "text": "0.5 px",
    }
    write_json_atomic(path, value)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "nan": None,
        "infinite": [None, None, None],
        "numbers": [1, 0.5, 3, [1.5, 2.0], True, None],
        "path": str(tmp_path),
        "text": "0.5 px",
    }


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_text_atomic(path, "old")
    with pytest.raises(TypeError):
        write_json_atomic(path, {"bad": object()})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".json" and path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_text_atomic(path, "old")
    code = "import os, sys; from pathlib import Path; from jepa.files import atomic_path\n"
    code += "with atomic_path(Path(sys.argv[1])) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(path)])
    assert killed.returncode == -9
    assert path.read_text() == "old"


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "atomic", "µ")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "atomic").read_bytes() == "µ".encode()


def test_to_plain_keeps_keys_as_text() -> None:
    assert to_plain({1: {"a": (1.0,)}}) == {"1": {"a": [1.0]}}


# --- metrics.jsonl -------------------------------------------------------------------------------------------------


def start(logger: Logger, folder: Path, step: int = 0, total_steps: int = 40) -> None:
    logger.start(RunInfo(folder=folder, record={}, step=step, total_steps=total_steps, steps_per_epoch=10))


def train_record(step: int, total: float = 0.5) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "kind": "train", "time_s": 1.0, "loss/total": total}


def probe_record(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "kind": "probe", "time_s": 1.0, "prediction_rmse_px": 2.0}


def test_records_are_on_disk_as_they_come(tmp_path: Path) -> None:
    logger = FilesLogger()
    start(logger, tmp_path)
    for number, record in enumerate((train_record(10), train_record(20, math.nan), probe_record(20)), start=1):
        logger.record(record)
        assert len((tmp_path / METRICS).read_text().splitlines()) == number
    logger.finish({"status": "finished"})
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert (
        lines
        == [train_record(10), {**train_record(20), "loss/total": None}, probe_record(20)]
        == read_metrics(tmp_path)
    )


def whole_run(folder: Path, *, first: int = 0) -> bytes:
    """Records every 10 of 40 steps and a probe every 20, from ``first`` on; what the file then holds."""
    logger = FilesLogger()
    start(logger, folder, step=first)
    for step in range(first + 10, 50, 10):
        logger.record(train_record(step, 1 / step))
        if step % 20 == 0:
            logger.record(probe_record(step))
    logger.finish({"status": "finished"})
    return (folder / METRICS).read_bytes()


@pytest.mark.parametrize("resumed_at", [10, 20, 30, 40])
@pytest.mark.parametrize("killed", ["between lines", "within a line", "within a character"])
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path: Path, resumed_at: int, killed: str) -> None:
    (tmp_path / "whole").mkdir()
    expected = whole_run(tmp_path / "whole")
    tail = {"between lines": b"", "within a line": b'{"step": 4', "within a character": '{"step": 4, "µ'.encode()[:-1]}
    (tmp_path / METRICS).write_bytes(expected + tail[killed])
    if resumed_at == 40:  # the last probe is made again after the last checkpoint
        logger = FilesLogger()
        start(logger, tmp_path, step=40)
        logger.record(probe_record(40))
        logger.finish({})
        assert (tmp_path / METRICS).read_bytes() == expected
    else:
        assert whole_run(tmp_path, first=resumed_at) == expected


def test_a_fresh_start_begins_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 5}\n[1]\nnothing\n')
    assert read_metrics(tmp_path) == [{"step": 5}]
    logger = FilesLogger()
    start(logger, tmp_path)
    logger.finish({})
    assert read_metrics(tmp_path) == [] == read_metrics(tmp_path / "elsewhere")


def test_the_newest_metrics_are_read_from_the_end(tmp_path: Path) -> None:
    probe = {"step": 1, "kind": "probe", "prediction_rmse_px": 4.5}
    many = [{"step": step, "kind": "train", "loss/total": step / 10, "padding": "x" * 200} for step in range(2, 5000)]
    text = "".join(json.dumps(record) + "\n" for record in [probe, *many]) + '{"step": 9999, "loss/tot'
    (tmp_path / METRICS).write_text(text)
    latest = latest_metrics(tmp_path)
    assert latest["loss/total"] == 499.9 and latest["prediction_rmse_px"] == 4.5 and latest["step"] == 4999
    tail = metrics_tail(tmp_path)
    assert not tail.whole and tail.written is not None and tail.records == many[-len(tail.records) :] != []
    assert metrics_tail(tmp_path, len(text)) == ([probe, *many], tail.written, True)
    assert recorded_bytes(tmp_path) == len(text)
    nowhere = tmp_path / "nowhere"
    assert (metrics_tail(nowhere), latest_metrics(nowhere), recorded_bytes(nowhere)) == (([], None, True), {}, 0)


# --- the screen ----------------------------------------------------------------------------------------------------

RESULT: dict[str, Any] = {
    "status": "finished",
    "verdict": "tracks",
    "metrics": {"prediction_rmse_px": 2.214, "encoder_rmse_px": 0.31, "head_rmse_px": None, "train_seconds": 75.2},
}


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def show(stream: io.StringIO, folder: Path, *, mode: str = "auto", interval_s: float = 0.0) -> str:
    display = ProgressDisplay(mode=mode, stream=stream, interval_s=interval_s)
    start(display, folder)
    for step in (10, 20, 30, 40):
        display.record({**train_record(step, 12.345), "loss/prediction": 0.25, "sequences_per_second": 812.4})
    display.record({**probe_record(40), "encoder_rmse_px": 0.31})
    display.plot("samples", folder / "samples.png")
    display.finish(RESULT)
    return stream.getvalue()


def test_without_a_terminal_plain_lines_are_printed(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    (tmp_path / "plots").mkdir()
    lines = show(io.StringIO(), tmp_path).splitlines()
    assert lines[0] == f"{tmp_path}: training for 40 steps"
    assert lines[1] == "epoch 1.0 of 4: loss 12.35 (prediction 0.25), 812 sequences/s, 0:00 left"
    assert lines[4].endswith("812 sequences/s, judging")
    assert lines[5] == "epoch 4.0 of 4: probe: prediction 2 px, encoder 0.31 px"
    assert lines[-1] == f"{tmp_path}: plots/, result.json"
    assert lines[6:-1] == summary_lines(RESULT)


def test_plain_lines_are_rare(tmp_path: Path) -> None:
    lines = show(io.StringIO(), tmp_path, interval_s=1000.0).splitlines()
    assert [line.split(":")[0] for line in lines[1:4]] == ["epoch 1.0 of 4", "epoch 4.0 of 4", "epoch 4.0 of 4"]


def test_on_a_terminal_the_display_is_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    shown = show(Terminal(), tmp_path)
    assert "\x1b[" in shown
    for part in ("epoch 2.0 of 4", "812 sequences/s", "0:00 left", "loss 12.35 (prediction 0.25)", "encoder 0.31 px"):
        assert part in shown
    assert "\n".join(summary_lines(RESULT)) in shown

    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in show(Terminal(), tmp_path)


def test_jobs_of_a_sweep_are_quiet(tmp_path: Path) -> None:
    assert show(Terminal(), tmp_path, mode="none") == ""


def test_modes_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'lines'"):
        ProgressDisplay(mode="line")


class Closed(Terminal):
    """A terminal, or a pipe, that has gone away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("mode", ["lines", "live"])
def test_a_closed_pipe_does_not_stop_a_run(tmp_path: Path, mode: str) -> None:
    assert show(Closed(), tmp_path, mode=mode) == ""


def test_untrained_resumed_and_broken_runs_are_announced(tmp_path: Path) -> None:
    stream = io.StringIO()
    display = ProgressDisplay(mode="lines", stream=stream)
    start(display, tmp_path, step=0, total_steps=0)
    display.record(probe_record(0))
    start(display, tmp_path, step=30)
    display.record({"step": 40, "kind": "train", "loss/total": None, "sequences_per_second": math.nan})
    display.finish({"status": "interrupted"})
    assert [line.removeprefix(f"{tmp_path}: ") for line in stream.getvalue().splitlines()] == [
        "nothing to train, judging the representation",
        "without training: probe: prediction 2 px",
        "continuing after step 30 of 40",
        "epoch 4.0 of 4: loss ?, judging",
        "interrupted",
        "",
    ]


def words(result: dict[str, Any]) -> list[str]:
    return [" ".join(line.split()) for line in summary_lines(result)]


def test_the_table_ranks_each_probe_among_its_own_lines() -> None:
    lines = summary_lines({**RESULT, "reference": reference.PUBLISHED})
    assert [" ".join(line.split()) for line in lines] == [
        "RMSE of the location, px",
        "prediction, all frames",
        "always the centre 9.39",
        "actions alone 7.79",
        "start alone 5.57",
        "> prediction probe 2.21",
        "start and actions, linear 1.82",
        "start plus summed actions, clipped once 1.16",
        "encoder, frame 0",
        "always the centre 8.90",
        "> encoder probe 0.31",
        "trained for 1:15",
        "verdict: tracks",
    ]
    assert len({len(line) for line in lines if line[:2] in ("  ", "> ")}) == 1


def test_other_targets_have_a_line_each() -> None:
    further = {
        "prediction_start_rmse_px": 7.544,
        "encoder_start_rmse_px": 2.5,
        "prediction_start_r2": 0.25,
        "prediction_start_rmse_px_per_step": [7.0, 8.0],
        "encoder_start_angle_rmse": 0.1,
        "encoder_background_accuracy": None,
    }
    targets = {name: {} for name in ("location", "start", "start_angle", "background")}
    metrics = {**RESULT["metrics"], **further}
    lines = words({**RESULT, "metrics": metrics, "config": {"probe": {"targets": targets}}})
    assert lines[-4:-2] == [
        "start: prediction rmse_px 7.54, r2 0.25 · encoder rmse_px 2.50",
        "start_angle: encoder rmse 0.10",
    ]


def test_the_table_has_no_lines_where_the_result_has_none() -> None:
    result = {**RESULT, "verdict": None, "verdict_reason": "none fit", "warnings": ["too few"]}
    assert words(result) == [
        "RMSE of the location, px",
        "prediction, all frames",
        "> prediction probe 2.21",
        "encoder, frame 0",
        "> encoder probe 0.31",
        "trained for 1:15",
        "warning: too few",
        "no verdict: none fit",
    ]
    setting = {"num_dots": 1, "num_steps": 17, "dot_std": 1.3}
    assert "always the centre 9.39" in words({**result, "config": {"dataset": setting}})  # a result of before
    assert "always the centre 9.39" not in words({**result, "config": {"dataset": {**setting, "num_steps": 5}}})


def test_several_dots_have_a_column_each() -> None:
    metrics = {
        "prediction_rmse_px": 6.5,
        "prediction_rmse_px_per_step": [1.0] * 17,
        "prediction_rmse_px_per_dot": [9.0, 5.0, None],
        "head_rmse_px": 2.0,
    }
    lines = reference_lines(num_dots=3, num_steps=17, padding=2.6)
    shown = words({"metrics": metrics, "reference": lines, "verdict": "ignores the dot"})
    assert shown[:4] == [
        "RMSE of the location, px action random stationary all",
        "prediction, all 17 frames",
        "always the centre 9.38 9.38 8.91 9.23",
        "actions alone 7.78 9.38 8.91 8.72",
    ]
    assert "> prediction probe 9.00 5.00 - 6.50" in shown and "> own head - - - 2.00" in shown
    assert shown[-1] == "verdict on the action dot: ignores the dot" and "encoder, frame 0" not in shown
    assert max(map(len, summary_lines({"metrics": metrics, "reference": lines}))) < 80
    hardly = {"metrics": {**metrics, "weights_moved": 0.0123}, "reference": lines, "training": "hardly trained"}
    assert words(hardly)[-1] == "hardly trained: the encoder's weights moved by 0.012 of their norm"


# --- the verdict ---------------------------------------------------------------------------------------------------


def verdict_on(rmse_px: float | None, **setting: Any) -> tuple[str | None, str | None]:
    """The verdict on an error in a setting that is the published one but for ``setting``."""
    lines = reference_lines(**{"num_dots": 1, "num_steps": 17, "padding": 2.6, **setting}) if setting else None
    return verdict({"prediction_rmse_px": rmse_px}, lines or reference.PUBLISHED)


@pytest.mark.parametrize(
    ("rmse_px", "words"),
    [
        (9.39, "ignores the dot"),
        (7.79, "ignores the dot"),  # the actions alone
        (7.49, "ignores the dot"),
        (7.47, "knows only the start"),
        (5.57, "knows only the start"),
        (3.70, "knows only the start"),
        (3.69, "tracks"),
        (0.0, "tracks"),
    ],
)
def test_verdict(rmse_px: float, words: str) -> None:
    assert verdict_on(rmse_px) == (words, None)


def test_the_verdict_is_on_the_first_dot_of_several() -> None:
    metrics = {"prediction_rmse_px": 9.0, "prediction_rmse_px_per_dot": [1.5, 9.0, 9.0]}
    assert verdict(metrics, reference_lines(num_dots=3, num_steps=17, padding=2.6)) == ("tracks", None)


@pytest.mark.parametrize(
    ("rmse_px", "setting", "words"),
    [
        (3.2, {"num_steps": 5}, "knows only the start"),  # what an identity predictor scores
        (1.8, {"num_steps": 5}, "tracks"),
        (6.2, {"num_steps": 5}, "ignores the dot"),
        (2.0, {"padding": 6.0}, "tracks"),
        (6.0, {"padding": 6.0}, "ignores the dot"),
    ],
)
def test_the_verdict_follows_the_setting(rmse_px: float, setting: dict[str, Any], words: str) -> None:
    assert verdict_on(rmse_px, **setting) == (words, None)


@pytest.mark.parametrize(
    ("rmse_px", "setting", "reason"),
    [
        (None, {}, "not a number"),
        (math.nan, {}, "not a number"),
        (math.inf, {}, "not a number"),
        (1.0, {"num_steps": 2}, "dataset.num_steps is too small"),
        (0.3, {"padding": 13.0}, "dataset.dot_std too large"),
        (4.9, {"padding": 6.0}, "the start alone (4.91) as from the actions alone (4.86)"),
    ],
)
def test_no_verdict_where_the_lines_do_not_apply(rmse_px: float | None, setting: dict[str, Any], reason: str) -> None:
    words, why = verdict_on(rmse_px, **setting)
    assert words is None and why is not None and reason in why


def test_a_warning_leaves_only_the_best_verdict() -> None:
    """A probe with too few sequences to fit errs more than its representation."""
    for rmse_px, words in ((9.0, None), (5.0, None), (1.5, "tracks")):
        found = verdict({"prediction_rmse_px": rmse_px}, reference.PUBLISHED, ["too few"])
        assert found == (words, None if words else "the error may be the probe's own: see the warnings")


def test_no_verdict_without_an_error_or_lines() -> None:
    assert verdict({}, reference.PUBLISHED) == (None, "nothing was judged")
    assert verdict({"prediction_rmse_px": 1.0}, None) == (None, "the data set has no reference lines")
    assert verdict({"prediction_rmse_px": 1.0}, {**reference.PUBLISHED, "no_verdict": "so"}) == (None, "so")
    other = {"prediction": {"lines": [{"name": "guess", "rmse_px": 1.0, "per_dot_px": [1.0]}]}}
    assert verdict({"prediction_rmse_px": 1.0}, other)[0] is None


# --- the lines of a result -----------------------------------------------------------------------------------------


def test_old_results_have_lines_only_in_the_published_setting() -> None:
    setting = {"num_dots": 1, "num_steps": 17, "dot_std": 1.3, "noise": 2.0}
    assert reference_of(None, setting) is reference.PUBLISHED
    for change in ({"num_dots": 3}, {"num_steps": 5}, {"dot_std": 1.0}):
        assert reference_of(None, {**setting, **change}) is None
    for target, expected in (("stream.MovingDots", reference.PUBLISHED), ("bouncing.BouncingDots", None)):
        assert reference_of(None, {**setting, "_target_": f"jepa.data.{target}"}) is expected
    own = reference_lines(num_dots=1, num_steps=5, padding=2.6)
    assert reference_of(own, setting) == own == reference_of(json.dumps(own), setting)
    for damaged in ("{", [], {"prediction": 1}, {"prediction": {"lines": [{}]}, "encoder": {"lines": []}}):
        assert reference_of(damaged, {}) is None


def test_a_metric_has_the_lines_of_its_probe_step_and_dot() -> None:
    own = reference_lines(num_dots=3, num_steps=17, padding=2.6)
    assert dict(levels(own, "prediction_rmse_px"))["start alone"] == own["prediction"]["lines"][2]["rmse_px"]
    assert levels(own, "head_rmse_px") == levels(own, "prediction_rmse_px")
    assert levels(own, "encoder_rmse_px") == [("always the centre", 8.9128)]
    assert dict(levels(own, "prediction_rmse_px_per_dot.2"))["start alone"] == 0
    assert dict(levels(own, "prediction_rmse_px_per_step.0"))["start alone"] == 0
    assert levels(own, "prediction_rmse_px_per_step.17") == levels(own, "loss/total") == levels(None, "x") == []
    assert levels(reference.PUBLISHED, "prediction_rmse_px_per_step.3") == []
    heights = [value for _, value in levels(own, "prediction_rmse_px_per_dot.0")]
    assert heights == sorted(heights, reverse=True)


def test_runs_share_lines_but_for_the_error_of_simulating_them() -> None:
    own = reference_lines(num_dots=1, num_steps=17, padding=2.6)
    other = reference_lines(num_dots=1, num_steps=16, padding=2.6)
    assert common_levels([own, reference.PUBLISHED], "prediction_rmse_px") == levels(own, "prediction_rmse_px")
    assert common_levels([own, other], "prediction_rmse_px") is None
    assert common_levels([own, None], "prediction_rmse_px") is None
    assert common_levels([], "prediction_rmse_px") == common_levels([None], "prediction_rmse_px") == []
    assert common_levels([own, other], "encoder_rmse_px") == levels(own, "encoder_rmse_px")


def test_reference_needs_nothing_heavy() -> None:
    code = "import sys, jepa.results.reference; print({'torch', 'numpy', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
