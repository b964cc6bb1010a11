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

from jepa.errors import ConfigError
from jepa.files import atomic_path, to_plain, write_json_atomic, write_text_atomic
from jepa.metrics import METRICS_FILE, FilesSink, Sink, read_records
from jepa.metrics_display import ProgressDisplay, summary_lines
from jepa.results import reference
from jepa.results.reference import verdict

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


def start(sink: Sink, folder: Path, step: int = 0, total_steps: int = 40) -> None:
    sink.start(folder=folder, record={}, step=step, total_steps=total_steps, steps_per_epoch=10)


def train_record(step: int, total: float = 0.5) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "kind": "train", "time_s": 1.0, "loss/total": total}


def probe_record(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "kind": "probe", "time_s": 1.0, "prediction_rmse_px": 2.0}


def test_records_are_on_disk_as_they_come(tmp_path: Path) -> None:
    sink = FilesSink()
    start(sink, tmp_path)
    for number, record in enumerate((train_record(10), train_record(20, math.nan), probe_record(20)), start=1):
        sink.record(record)
        assert len((tmp_path / METRICS_FILE).read_text().splitlines()) == number
    sink.finish({"status": "finished"})
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    assert (
        lines
        == [train_record(10), {**train_record(20), "loss/total": None}, probe_record(20)]
        == read_records(tmp_path)
    )


def whole_run(folder: Path, *, first: int = 0) -> bytes:
    """Records every 10 of 40 steps and a probe every 20, from ``first`` on; what the file then holds."""
    sink = FilesSink()
    start(sink, folder, step=first)
    for step in range(first + 10, 50, 10):
        sink.record(train_record(step, 1 / step))
        if step % 20 == 0:
            sink.record(probe_record(step))
    sink.finish({"status": "finished"})
    return (folder / METRICS_FILE).read_bytes()


@pytest.mark.parametrize("resumed_at", [10, 20, 30, 40])
@pytest.mark.parametrize("killed", ["between lines", "within a line", "within a character"])
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path: Path, resumed_at: int, killed: str) -> None:
    (tmp_path / "whole").mkdir()
    expected = whole_run(tmp_path / "whole")
    tail = {"between lines": b"", "within a line": b'{"step": 4', "within a character": '{"step": 4, "µ'.encode()[:-1]}
    (tmp_path / METRICS_FILE).write_bytes(expected + tail[killed])
    if resumed_at == 40:  # the last probe is made again after the last checkpoint
        sink = FilesSink()
        start(sink, tmp_path, step=40)
        sink.record(probe_record(40))
        sink.finish({})
        assert (tmp_path / METRICS_FILE).read_bytes() == expected
    else:
        assert whole_run(tmp_path, first=resumed_at) == expected


def test_a_fresh_start_begins_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 5}\n[1]\nnothing\n')
    assert read_records(tmp_path) == [{"step": 5}]
    sink = FilesSink()
    start(sink, tmp_path)
    sink.finish({})
    assert read_records(tmp_path) == [] == read_records(tmp_path / "elsewhere")


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


def test_the_table_ranks_a_run_among_the_reference_lines() -> None:
    lines = summary_lines(RESULT)
    assert [" ".join(line.split()) for line in lines] == [
        "RMSE of the location, px",
        "always the centre 9.39",
        "actions alone 7.79",
        "start alone 5.57",
        "> prediction probe 2.21",
        "start and actions, linear 1.82",
        "start plus summed actions, clipped once 1.16",
        "> encoder probe 0.31",
        "trained for 1:15",
        "verdict: tracks",
    ]
    assert len({len(line) for line in lines[1:-2]}) == 1
    dots = {**RESULT["metrics"], "prediction_rmse_px_per_dot": [9.0, 5.0, None], "prediction_rmse_px": math.nan}
    marked = [line.split("  ")[0] for line in summary_lines({"metrics": dots}) if line.startswith(">")]
    assert marked == ["> prediction probe, action dot", "> prediction probe, random dot", "> encoder probe"]


# --- reference lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rmse_px", "words"),
    [
        (None, "ignores the dot"),
        (math.nan, "ignores the dot"),
        (math.inf, "ignores the dot"),
        (reference.CENTRE, "ignores the dot"),
        (reference.ACTIONS_ONLY, "ignores the dot"),
        (7.4, "knows only the start"),
        (reference.START_ONLY, "knows only the start"),
        (3.7, "knows only the start"),
        (3.69, "tracks"),
        (reference.START_AND_ACTIONS_LINEAR, "tracks"),
        (0.0, "tracks"),
    ],
)
def test_verdict(rmse_px: float | None, words: str) -> None:
    assert verdict(rmse_px) == words


def test_reference_lines_follow_from_the_environment() -> None:
    """SPEC §1 simulated in numpy; every line within 1 % (sampling error of 8000 sequences, and two decimals)."""
    rng = np.random.default_rng(0)
    count, steps, low, high = 8000, 17, 2.6, 24.4
    direction = rng.uniform(0, 2 * np.pi, (1, count)) + rng.vonmises(0, 0.2, (steps - 1, count))
    actions = rng.uniform(0, 4, direction.shape)[..., None] * np.stack([np.cos(direction), np.sin(direction)], -1)
    path = [rng.uniform(low, high, (count, 2))]
    for action in actions:
        path.append(np.clip(path[-1] + action, low, high))
    locations = np.stack(path)  # [T, N, 2]
    start_location = locations[0]
    ones, moves = np.ones((count, 1)), actions.transpose(1, 0, 2).reshape(count, -1)

    def rmse(guesses: np.ndarray) -> float:
        return float(np.sqrt(((guesses - locations) ** 2).sum(-1).mean()))

    def linear(*known: np.ndarray) -> float:
        features = np.concatenate([ones, *known], 1)
        return rmse(np.stack([features @ np.linalg.lstsq(features, here, rcond=None)[0] for here in locations]))

    sums = np.concatenate([np.zeros((1, count, 2)), actions.cumsum(0)])
    simulated = {
        "CENTRE": rmse(np.full_like(locations, 13.5)),
        "ACTIONS_ONLY": linear(moves),
        "START_ONLY": linear(start_location),
        "START_AND_ACTIONS_LINEAR": linear(start_location, moves),
        "START_AND_CLIPPED_SUM": rmse(np.clip(start_location + sums, low, high)),
        "STATIONARY_CENTRE": rmse(locations - start_location + 13.5),
    }
    assert simulated == pytest.approx({name: getattr(reference, name) for name in simulated}, rel=0.01)


def test_reference_needs_nothing_heavy() -> None:
    code = "import sys, jepa.results.reference; print({'torch', 'numpy', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
