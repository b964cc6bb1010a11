"""What a run shows on the screen: losses, rate and time left while it goes on, a short table at its end."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from jepa.errors import check_choice
from jepa.metrics import Sink
from jepa.results.reference import reference_of

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

MODES = ("auto", "live", "lines", "none")
THREE_DOTS = ("action", "random", "stationary")  # in the order of dataset=multiple


class ProgressDisplay(Sink):
    """A live display on a terminal, plain lines elsewhere; never stops a run (a closed pipe silences it)."""

    def __init__(self, *, mode: str, stream: IO[str] | None = None, interval_s: float = 10.0) -> None:
        """mode: "live"; "lines"; "none" (jobs of a sweep); "auto": live where ``stream`` is a terminal, else lines.

        stream: standard output unless given. interval_s: the shortest time between two plain lines of training.
        """
        self._stream = sys.stdout if stream is None else stream
        check_choice("progress", mode, MODES)
        self._mode = ("live" if _is_terminal(self._stream) else "lines") if mode == "auto" else mode
        self._interval_s = interval_s
        self._folder: Path | None = None
        self._live: Live | None = None
        self._first_step = self._total_steps = self._steps_per_epoch = 0
        self._started = self._printed = 0.0
        self._loss_line = self._probe_line = self._rate = ""

    def start(
        self, *, folder: Path, record: Mapping[str, Any], step: int, total_steps: int, steps_per_epoch: int
    ) -> None:
        """Say where the run goes, and begin to measure its rate."""
        self._folder, self._first_step = folder, step
        self._total_steps, self._steps_per_epoch = total_steps, steps_per_epoch
        self._started, self._printed = time.monotonic(), -self._interval_s
        self._print(f"{folder}: {_opening(step, total_steps)}")
        if self._mode == "live":
            self._open_live(step)

    def record(self, record: Mapping[str, Any]) -> None:
        """Show one record: every one live, the others at intervals; probes and the last step always."""
        if self._mode == "none":
            return
        step, is_probe = int(record["step"]), record.get("kind") == "probe"
        if is_probe:
            self._probe_line = _probe_words(record)
        else:
            self._loss_line, self._rate = _loss_words(record), _rate_words(record)
        if self._live is not None:
            live, view = self._live, self._live_view(step)
            self._attempt(lambda: live.update(view, refresh=True))
            return
        now = time.monotonic()
        if is_probe or step >= self._total_steps or now - self._printed >= self._interval_s:
            self._printed = now
            words = [self._probe_line] if is_probe else [self._loss_line, self._rate, self._time_words(step)]
            self._print(f"{self._place(step)}: {', '.join(filter(None, words))}")

    def plot(self, name: str, path: Path) -> None:
        """Nothing to show."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Take the live display down and print how the run ended."""
        if self._live is not None:
            self._attempt(self._live.stop)
            self._live = None
        status = str(result.get("status"))
        measured = status in ("finished", "pruned") and result.get("metrics")
        self._print("\n".join(summary_lines(result) if measured else [status]))
        if self._folder is not None and self._folder.is_dir():
            self._print(f"{self._folder}: {', '.join(_contents(self._folder))}")

    # --- live --------------------------------------------------------------------------------------------------

    def _open_live(self, step: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(self._live_view(step), console=Console(file=self._stream), auto_refresh=False)
        live = self._live
        self._attempt(lambda: live.start(refresh=True))

    def _live_view(self, step: int) -> Table:
        """The bar with place and time left, the losses below it, the last probe below them."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = ProgressBar(total=max(self._total_steps, 1), completed=step, width=30)
        heading = Table.grid(padding=(0, 2))
        heading.add_row(bar, *filter(None, (self._place(step), self._rate, self._time_words(step))))
        view = Table.grid()
        view.add_row(heading)
        for line in filter(None, (self._loss_line, self._probe_line)):
            view.add_row(Text(line, no_wrap=True, overflow="ellipsis"))
        return view

    # --- words -------------------------------------------------------------------------------------------------

    def _place(self, step: int) -> str:
        if self._total_steps == 0:
            return "without training"
        epoch, epochs = step / self._steps_per_epoch, self._total_steps / self._steps_per_epoch
        return f"epoch {epoch:.1f} of {epochs:g}"

    def _time_words(self, step: int) -> str:
        done = step - self._first_step
        if self._total_steps == 0 or done <= 0:
            return ""
        if step >= self._total_steps:
            return "judging"
        left = (time.monotonic() - self._started) * (self._total_steps - step) / done
        return f"{_duration(left)} left"

    def _print(self, text: str) -> None:
        if self._mode != "none":
            self._attempt(lambda: print(text, file=self._stream, flush=True))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError:  # nobody is reading any more: the pipe or the terminal has been closed
            self._mode = "none"


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """The short table at a run's end: each probe's RMSE, marked ">", among its own reference lines, worst first.

    Below it the warnings and the verdict. Several dots have a column each.

    result: as in ``result.json``; of its metrics, those missing or not finite are left out.
    """
    metrics = result["metrics"]
    reference = reference_of(result.get("reference"), result.get("config", {}).get("dataset", {}))
    dots = _dot_names(metrics, reference)
    columns = [f"{name:>{max(8, len(name) + 1)}}" for name in (*dots, "all" if dots else "")]
    lines = [f"{'RMSE of the location, px':<42}{''.join(columns)}".rstrip()]
    frames = len(metrics.get("prediction_rmse_px_per_step") or [])
    covered = {"prediction": f"all {frames} frames" if frames else "all frames", "encoder": "frame 0"}
    own = {"prediction": ["prediction probe", "own head"], "encoder": ["encoder probe"]}
    for probe, labels in own.items():
        rows = [_own_row(label, metrics, len(dots)) for label in labels]
        rows = [row for row in rows if any(map(math.isfinite, row.errors))]
        if not rows:
            continue
        rows += [_line_row(line, len(dots)) for line in (reference[probe]["lines"] if reference else [])]
        lines.append(f"{probe}, {covered[probe]}")
        lines += [row.text([len(column) for column in columns]) for row in sorted(rows, key=_Row.rank)]
    if metrics.get("train_seconds"):
        lines.append(f"trained for {_duration(metrics['train_seconds'])}")
    lines += [f"warning: {text}" for text in result.get("warnings") or []]
    if result.get("verdict"):
        lines.append(f"verdict{' on the action dot' if dots else ''}: {result['verdict']}")
    elif result.get("verdict_reason"):
        lines.append(f"no verdict: {result['verdict_reason']}")
    return lines


class _Row(NamedTuple):
    """A line of the table: errors in px of each dot, where there are several, then of all."""

    mark: str
    label: str
    errors: list[float]

    def rank(self) -> float:
        return -next(error for error in reversed(self.errors) if math.isfinite(error))

    def text(self, widths: Sequence[int]) -> str:
        cells = (f"{error:.2f}" if math.isfinite(error) else "-" for error in self.errors)
        columns = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{self.mark} {self.label:<40}{''.join(columns)}"


def _own_row(label: str, metrics: Mapping[str, Any], num_dots: int) -> _Row:
    name = label.removesuffix(" probe").removeprefix("own ")  # as the metrics call it
    per_dot = (metrics.get(f"{name}_rmse_px_per_dot") or [None] * num_dots)[:num_dots]
    return _Row(">", label, [_finite(value) for value in (*per_dot, metrics.get(f"{name}_rmse_px"))])


def _line_row(line: Mapping[str, Any], num_dots: int) -> _Row:
    per_dot = (line.get("per_dot_px") or [None] * num_dots)[:num_dots]
    return _Row(" ", line["name"], [_finite(value) for value in (*per_dot, line["rmse_px"])])


def _dot_names(metrics: Mapping[str, Any], reference: Mapping[str, Any] | None) -> list[str]:
    """The names of several dots; none for one."""
    count = len(metrics.get("prediction_rmse_px_per_dot") or [])
    known = (reference or {}).get("dots") or (THREE_DOTS if count == 3 else ())
    return [known[dot] if dot < len(known) else f"dot {dot + 1}" for dot in range(count)] if count > 1 else []


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _opening(step: int, total_steps: int) -> str:
    if total_steps == 0:
        return "nothing to train, judging the representation"
    return f"continuing after step {step} of {total_steps}" if step else f"training for {total_steps} steps"


def _loss_words(record: Mapping[str, Any]) -> str:
    """For example "loss 12.3 (prediction 0.52, variance 0.31)"."""
    losses = {name.removeprefix("loss/"): value for name, value in record.items() if name.startswith("loss/")}
    total = losses.pop("total", None)
    terms = ", ".join(f"{name} {_number(value)}" for name, value in losses.items())
    return f"loss {_number(total)}" + (f" ({terms})" if terms else "")


def _rate_words(record: Mapping[str, Any]) -> str:
    rate = record.get("sequences_per_second")
    return f"{rate:.0f} sequences/s" if isinstance(rate, (int, float)) and math.isfinite(rate) else ""


def _probe_words(record: Mapping[str, Any]) -> str:
    names = {"prediction": "prediction_rmse_px", "encoder": "encoder_rmse_px", "own head": "head_rmse_px"}
    words = (f"{label} {_number(record[name])} px" for label, name in names.items() if name in record)
    return f"probe: {', '.join(words)}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "?"


def _duration(seconds: float) -> str:
    """For example 0:42, 12:05 or 3:10:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _contents(folder: Path) -> list[str]:
    return sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir() if entry.name[0] != ".")


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"
