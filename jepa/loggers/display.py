"""The display of a run on the screen: losses, rate and time left during the run, and a short table at the end."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from jepa.errors import check_choice
from jepa.estimate import PROBE_SHARE, Costs, Running, Workload, clock, running_seconds, select
from jepa.loggers.base import Logger, RunInfo
from jepa.results.run_summary import summary_lines
from jepa.terminal import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

MODES = ("auto", "live", "lines", "none")
DRAW_S = 1.0  # seconds between two drawings of the live display
TICK_S = 0.2  # seconds between two checks of the terminal's size


class ProgressDisplay(Logger):
    """A live display on a terminal, plain lines elsewhere. After an error, such as a closed pipe, it prints nothing.

    A thread redraws the live display, so that its times advance between records. The thread reads the numbers of the
    last record only.
    """

    uses_screen = True

    def __init__(
        self,
        *,
        mode: str,
        stream: IO[str] | None = None,
        interval_s: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """mode: "live"; "lines"; "none" (jobs of a sweep); "auto": live if ``stream`` is a terminal, else lines.

        stream: None: standard output. interval_s: the shortest time between two plain lines of training.
        now: a clock, in seconds.
        """
        check_choice("progress", mode, MODES)
        self._screen = Screen(sys.stdout if stream is None else stream, mode=mode)
        self._interval_s, self._now = interval_s, now
        self._folder: Path | None = None
        self._step = self._total_steps = self._steps_per_epoch = 0
        self._timer = RunTimer(Workload(0.0, 0.0, 1, 0.0, plots=False), 0, 0, 0.0)
        self._printed = 0.0
        self._loss_line = self._probe_line = self._rate = ""
        self._over = threading.Event()
        self._ticker: threading.Thread | None = None

    def start(self, run: RunInfo) -> None:
        """Print the run's folder and start to measure the rate."""
        self._folder, self._step = run.folder, run.step
        self._total_steps, self._steps_per_epoch = run.total_steps, run.steps_per_epoch
        workload = Workload.of(lambda key: select(run.record.get("config") or {}, key))
        self._timer = RunTimer(workload, run.step, run.total_steps, self._now())
        self._printed = self._now() - self._interval_s
        self._screen.lines([f"{run.folder}: {_opening(run.step, run.total_steps)}"])
        if self._screen.live and not self._screen.broken and self._ticker is None:
            self._screen.capture()
            self._draw()
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def record(self, record: Mapping[str, Any]) -> None:
        """Show one record. In lines mode, skip training records within ``interval_s``, except the last step's."""
        if self._screen.broken:
            return
        now, is_probe = self._now(), record.get("kind") == "probe"
        self._step = int(record["step"])
        self._timer.record(record, now)
        if is_probe:
            self._probe_line = _probe_words(record)
        else:
            self._loss_line, self._rate = _loss_words(record), _rate_words(record)
        if self._screen.live:
            self._draw()
        elif is_probe or self._step >= self._total_steps or now - self._printed >= self._interval_s:
            self._printed = now
            words = [self._probe_line] if is_probe else [self._loss_line, self._rate, self._time_words()]
            self._screen.lines([f"{self._place()}: {', '.join(filter(None, words))}"])

    def plot(self, name: str, path: Path) -> None:
        """Do nothing: the display shows no plots."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Stop the live display and print how the run ended."""
        self._over.set()
        if self._ticker is not None:
            self._ticker.join()
        self._screen.close(keep=True)
        status = str(result.get("status"))
        measured = status in ("finished", "pruned") and result.get("metrics")
        lines = summary_lines(result) if measured else [status]
        if self._folder is not None and self._folder.is_dir():
            lines.append(f"{self._folder}: {', '.join(_contents(self._folder))}")
        self._screen.lines(lines)

    # --- live --------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Redraw every second and whenever the size of the terminal has changed."""
        waited = 0.0
        while not self._over.wait(TICK_S) and not self._screen.broken:
            waited += TICK_S
            if waited >= DRAW_S or self._screen.resized():
                waited = 0.0
                self._draw()

    def _draw(self) -> None:
        self._screen.block(self._view(self._screen.size()[0]))

    def _view(self, columns: int) -> RenderableType:
        """The bar with epoch and time left, then the losses, then the last probe. columns: width of the terminal."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        heading = Table.grid(padding=(0, 2))
        words = [self._place(), self._rate if columns >= 70 else "", self._time_words()]
        bar = ProgressBar(total=max(self._total_steps, 1), completed=self._step, width=max(6, min(30, columns - 50)))
        for _ in range(4):
            heading.add_column(no_wrap=True)
        heading.add_row(bar, *map(Text, filter(None, words)))
        return Group(heading, *map(Text, filter(None, (self._loss_line, self._probe_line))))

    # --- words -------------------------------------------------------------------------------------------------

    def _place(self) -> str:
        if self._total_steps == 0:
            return "without training"
        epoch, epochs = self._step / self._steps_per_epoch, self._total_steps / self._steps_per_epoch
        return f"epoch {epoch:.1f} of {epochs:g}"

    def _time_words(self) -> str:
        """The time until the run ends, judging and plots included; after the last step, "judging" in front of it."""
        left = self._timer.seconds_left(self._now())
        if self._total_steps > 0 and self._step >= self._total_steps:
            return "judging" if not left else f"judging, {clock(left)} left"
        return "" if left is None else f"{clock(left)} left"


class RunTimer:
    """Estimates the remaining time of one run from its records."""

    def __init__(self, workload: Workload, step: int, total_steps: int, now: float) -> None:
        """step: the run starts or resumes after this step. now: seconds, on the same clock as in :meth:`record`."""
        self._workload = workload
        self._total_steps = total_steps
        self._sequences_per_step = workload.sequences / total_steps if total_steps else 0.0
        self._started, self._recorded = now, None if step == 0 else now
        self._step = step
        self._rates: deque[tuple[int, float]] = deque(maxlen=32)  # (step, seconds of training) of the latest records
        self._per_sequence: float | None = None
        self._probed = False  # whether the last record is a probe's
        self._judging: dict[str, float] = {}  # measured time of a probe / expected time

    def record(self, record: Mapping[str, Any], now: float) -> None:
        """Store the time of a record. A probe's record shows how long judging takes."""
        if record.get("kind") == "probe":
            self._take_probe(now)
        else:
            self._rates.append((int(record["step"]), float(record.get("time_s") or 0.0)))
            self._per_sequence = self._measured(record)
        self._step, self._recorded, self._probed = int(record["step"]), now, record.get("kind") == "probe"

    def _take_probe(self, now: float) -> None:
        expected = self._workload.probe_sequences * PROBE_SHARE * (self._per_sequence or 0.0)
        if expected > 0 and self._recorded is not None and self._step < self._total_steps:
            self._judging[""] = (now - self._recorded) / expected

    def _measured(self, record: Mapping[str, Any]) -> float | None:
        (first, before), (last, after) = self._rates[0], self._rates[-1]
        if last > first and after > before and self._sequences_per_step > 0:
            return (after - before) / ((last - first) * self._sequences_per_step)
        rate = record.get("sequences_per_second")
        return 1.0 / rate if isinstance(rate, (int, float)) and math.isfinite(rate) and rate > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """The time until the run ends; None before its first record."""
        if self._total_steps == 0 or self._per_sequence is None:
            return None
        share = min(1.0, self._step / self._total_steps)
        run = Running("", self._workload, self._started, self._recorded, share, self._per_sequence, self._probed)
        return running_seconds([run], Costs(judging=self._judging), now)


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


def _contents(folder: Path) -> list[str]:
    return sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir() if entry.name[0] != ".")
