"""The display of a running sweep: progress bars on a terminal (each running job, the whole sweep), else plain lines."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from jepa.estimate import clock
from jepa.results.reference import HARDLY
from jepa.store.layout import RUN_LOG
from jepa.store.result import DONE
from jepa.sweep.jobs import Job
from jepa.sweep.overview import AtWork, Overview
from jepa.terminal import Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

log = logging.getLogger(__name__)

LOOK_S = 1.0  # interval of reading the files
TICK_S = 0.2  # interval of checking the terminal's size
LINES_S = 30.0  # interval of listing the running jobs, without a terminal
MAX_LINES = 16  # the most running jobs in this list
WIDE = 100  # terminals with at least so many columns show the rate
NARROW = 60  # terminals with at most so many columns show no bars


class Display:
    """Shows an :class:`Overview` from a separate thread: a live block on a terminal, plain lines elsewhere.

    Errors of the terminal and unreadable files do not end the sweep.
    """

    def __init__(
        self,
        overview: Overview,
        *,
        mode: str,
        on_result: Callable[[Job], None] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """Args:
        overview: what to show.
        mode: ``live``, ``lines``, ``none``, or ``auto``: live on a terminal, lines elsewhere.
        on_result: called for every job that gets a result.
        stream: the output; None: the present standard output, also if a job redirects ``sys.stdout`` later.
        """
        self._overview = overview
        self._on_result = on_result
        self._screen = Screen(stream or sys.stdout, mode=mode)
        self._running: list[AtWork] = []
        self._said = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Display:
        self._screen.capture()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self._screen.close(keep=False)  # the sweep's last lines repeat the content of the block

    def note(self, text: str) -> None:
        """Print ``text`` at once: above the live block, or on standard error without a live block."""
        if self._screen.live and not self._screen.broken:
            self._screen.lines([text])
        else:
            Screen(sys.stderr, mode="lines").lines([text])

    def _show(self) -> None:
        while True:
            over = self._wait()
            try:
                self._update(over)
            except Exception:  # for example an unreadable file: the next look may succeed
                log.debug("the display could not be updated", exc_info=True)
            if over:
                return

    def _wait(self) -> bool:
        """Wait for the next look. Redraw a resized terminal meanwhile. Returns True when the display ends."""
        for _ in range(round(LOOK_S / TICK_S)):
            if self._over.wait(TICK_S):
                return True
            if self._screen.resized():
                self._draw([])
        return False

    def _update(self, over: bool) -> None:
        columns = self._screen.size()[0] - 1 if self._screen.live else None
        news = [result_line(job, self._overview.results[job.hash], columns) for job in self._new_results()]
        if over:
            self._screen.lines(news)
            return
        if self._screen.live:
            self._running = self._overview.running()
            self._draw(news)
            return
        self._screen.lines(news)
        if not self._screen.broken and time.monotonic() - self._said > LINES_S:
            self._said = time.monotonic()
            running = self._overview.running()
            left, packs = self._overview.programs_left(running), Counter(one.program for one in running)
            lines = [running_line(one, left[one.program], packs[one.program]) for one in running[:MAX_LINES]]
            self._screen.lines([*lines, self._overview.summary(running)])

    def _draw(self, news: Sequence[str]) -> None:
        self._screen.block(live_view(self._overview, self._running, self._screen.size()), above=news)

    def _new_results(self) -> list[Job]:
        found = self._overview.look()
        for job in found if self._on_result is not None else []:
            try:
                assert self._on_result is not None
                self._on_result(job)
            except Exception:  # the display goes on; the sweep passes on all results again after the batch
                log.exception("%s: its result could not be passed on", job.hash)
        return found


# --- the content of the display --------------------------------------------------------------------------------------


def live_view(overview: Overview, running: Sequence[AtWork], size: tuple[int, int]) -> RenderableType:
    """The live block: a line with a bar for each running job that fits, then a line for the whole sweep.

    size: columns and rows of the terminal.
    """
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    columns, room = size[0], max(1, size[1] - 4)
    shown = running if len(running) <= room else running[: room - 1]
    left_of, left = overview.programs_left(running), overview.seconds_left(running)
    packs = Counter(one.program for one in running)
    jobs = Table.grid(padding=(0, 1), expand=True)
    jobs.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for one, label in zip(shown, telling([one.job.label for one in shown]), strict=True):
        share = min(1.0, one.state.share)
        cells: list[RenderableType] = [Text(f"{share:.0%}")]
        if columns > NARROW:
            bar = ProgressBar(total=1.0, completed=share, width=16 if columns >= WIDE else 10)
            rate = [Text(_rate(one, packs[one.program]))] if columns >= WIDE else []
            cells = [bar, Text(_place(one)), Text(_value(one)), *rate]
        jobs.add_row(Text(label), *cells, Text(_left(one, left_of[one.program])))
    for column in jobs.columns[1:]:
        column.no_wrap, column.justify = True, "right"
    more = [Text(f"… and {len(running) - len(shown)} more running")] if len(shown) < len(running) else []
    counts, rest = " · ".join(overview.counts(len(running))), "" if left is None else f"{clock(left)} left"
    whole: RenderableType = Text(f"{rest} · {counts}" if rest else counts)
    if columns > NARROW:
        done = overview.count(*DONE, "failed") + sum(min(1.0, one.state.share) for one in running)
        whole = Table.grid(padding=(0, 1), expand=True)
        whole.add_column(ratio=1)
        whole.add_column(no_wrap=True)
        whole.add_column(no_wrap=True)
        whole.add_row(ProgressBar(total=max(1, overview.total), completed=done), Text(counts), Text(rest))
    remarks = overview.remarks()
    return Group(jobs, *more, *([Text(" · ".join(remarks))] if remarks else []), whole)


def telling(labels: Sequence[str]) -> list[str]:
    """Labels with the words that differ moved to the front, so that they remain when a label is cut."""
    words = [label.split() for label in labels]
    counts = Counter(word for label in words for word in set(label))
    if len(labels) < 2:
        return list(labels)
    return [" ".join(sorted(label, key=lambda word: counts[word] == len(labels))) for label in words]


def running_line(one: AtWork, left: float | None = None, pack: int = 1) -> str:
    """One plain line about a running job.

    Args:
        left: seconds until the job ends; None if unknown.
        pack: the number of jobs in the job's program.
    """
    words = [_place(one, " of "), _value(one), _rate(one, pack), _left(one, left)]
    return f"  {one.job.hash} {one.job.label}: " + " · ".join(filter(None, words))


def result_line(job: Job, result: Mapping[str, Any], columns: int | None = None) -> str:
    """One line about a job that has ended.

    columns: the width that the line must fit. The label is cut first, then the folder's name is left out.
    """
    words = _outcome(result, short=columns is not None)
    if result["status"] == "failed":
        words = f"{' '.join(str(result.get('error')).split())} ({job.folder / RUN_LOG})"
    if columns is None:
        return f"{result['status']:<8} {job.hash} {job.label}: {words}"
    head = f"{result['status']:<8} "
    line = f"{head}{_cut(job.label, max(24, columns - len(head) - len(words) - 2))}: {words}"
    place = f" · {job.hash}"
    return line + place if len(line) + len(place) <= columns else _cut(line, columns)


def _outcome(result: Mapping[str, Any], *, short: bool) -> str:
    metric, value = str(result.get("objective_metric") or "objective"), _number(result.get("objective"))
    words = f"{value} px" if short and metric.endswith("_rmse_px") else f"{metric} {value}"
    remarks = [result.get("verdict"), HARDLY if result.get("training") == HARDLY else None]
    shown = ", ".join(remark for remark in remarks if remark)
    return f"{words} ({shown})" if shown else words


def _place(one: AtWork, of: str = "/") -> str:
    epoch = one.metrics.get("epoch")
    if epoch is None:
        return ""
    return f"epoch {epoch:.1f}" + (f"{of}{one.job.epochs:g}" if one.job.epochs else "")


def _value(one: AtWork) -> str:
    """The prediction error if it was probed, else the loss, else nothing."""
    if one.metrics.get("prediction_rmse_px") is not None:
        return f"{one.metrics['prediction_rmse_px']:.3g} px"
    return f"loss {one.metrics['loss/total']:.4g}" if one.metrics.get("loss/total") is not None else ""


def _rate(one: AtWork, pack: int) -> str:
    """The job's rate within its pack. Its records count only its share of the pack's time, so divide by ``pack``."""
    rate = one.metrics.get("sequences_per_second")
    return f"{rate / pack:.0f} sequences/s" if rate else ""


def _left(one: AtWork, left: float | None) -> str:
    if one.judging:
        return "judging"
    if left is None:
        return "" if one.metrics else "starting"
    return f"{clock(left)} left"


def _cut(text: str, columns: int) -> str:
    from rich.text import Text

    line = Text(text, end="")
    line.truncate(columns, overflow="ellipsis")
    return line.plain


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
