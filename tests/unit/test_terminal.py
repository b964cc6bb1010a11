"""The screen and a sweep's display on it: widths, heights, a resize, and streams that fail."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Group
from rich.text import Text

from jepa import terminal as terminal_module
from jepa.estimate import Running, Workload
from jepa.sweep.jobs import Job
from jepa.sweep.overview import AtWork, Overview
from jepa.sweep.progress import Display, live_view, result_line, running_line, telling
from jepa.terminal import Screen, encodable

REPOSITORY = Path(__file__).parents[2]
LONG = "model=vicreg model.encoder.embedding_size=512 dataset.static_noise=1.25 optimizer.base_lr=0.0003 seed={}"


class Terminal(io.StringIO):
    """A terminal: what is written becomes lines of cells, which are wrapped anew when the width changes."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self.columns, self.height = columns, rows
        self.cells = [""]  # lines as on the screen, each with a mark of whether the next one continues it
        self.joined = [False]
        self.row = 0
        self.column: int | None = None  # None: behind the last letter

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        super().write(text)
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x1b]", text):
            self._take(part)
        return len(text)

    def _take(self, part: str) -> None:
        if part == "\n":
            self.column = None
            self.row += 1
            if self.row == len(self.cells):
                self.cells.append("")
                self.joined.append(False)
        elif part == "\r":
            self.column = 0
        elif part.startswith("\x1b[") and part.endswith("A"):
            self.row = max(0, self.row - int(part[2:-1]), len(self.cells) - self.height)
        elif part == "\x1b[J":
            self.column = None
            del self.cells[self.row :], self.joined[self.row :]
            self.cells.append("")
            self.joined.append(False)
        elif self.column is not None and not part.startswith("\x1b"):
            line = self.cells[self.row]
            self.cells[self.row] = line[: self.column] + part + line[self.column + 1 :]
            self.column += 1
        elif not part.startswith("\x1b"):
            if len(self.cells[self.row]) == self.columns:
                self.joined[self.row] = True
                self._take("\n")
            self.cells[self.row] += part

    def resize(self, columns: int, rows: int) -> None:
        whole, text = [], ""
        for line, joined in zip(self.cells, self.joined, strict=True):
            text += line
            if not joined:
                whole.append(text)
                text = ""
        self.columns, self.height = columns, rows
        self.cells, self.joined = [], []
        for line in whole:
            pieces = [line[first : first + columns] for first in range(0, max(1, len(line)), columns)]
            self.cells += pieces
            self.joined += [*[True] * (len(pieces) - 1), False]
        self.row = len(self.cells) - max(1, -(-len(whole[-1]) // columns))  # the cursor stays at its line's start


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 x 24."""
    found = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(terminal_module, "_REFLOWS", True)
    monkeypatch.setattr(Screen, "size", lambda self: (found.columns, found.height))
    return found


def at_work(number: int, share: float = 0.4) -> AtWork:
    job = Job(f"hash{number}", [], LONG.format(number), Path("x"), "vicreg", Workload(100.0), epochs=100.0)
    metrics = {"epoch": 100 * share, "loss/total": 0.0123456, "sequences_per_second": 812.0}
    state = Running("vicreg", Workload(1e6, 10.0, 1, 10.0, plots=True), time.time(), time.time(), share, 0.01)
    return AtWork(job, metrics, ("here", number), state)


def overview_of(count: int) -> Overview:
    overview = Overview(parallel=count)
    overview.add([at_work(number).job for number in range(count)])
    return overview


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (60, 10), (40, 5)])
@pytest.mark.parametrize("running", [1, 4, 32])
def test_each_job_has_one_line_and_the_summary_is_always_seen(
    terminal: Terminal, columns: int, rows: int, running: int
) -> None:
    terminal.columns, terminal.height = columns, rows
    shown = Screen(terminal)
    jobs = [at_work(number) for number in range(running)]
    shown.block(live_view(overview_of(40), jobs, shown.size()))
    assert not any(terminal.joined) and all(len(line) < columns for line in terminal.cells)
    assert len(terminal.cells) < rows or rows == 5
    *lines, whole = terminal.cells
    assert "0 of 40 done" in whole and " left" in whole
    more = [line for line in lines if line.endswith("more running")]
    shown_jobs = [line for line in lines if line.endswith(" left")]
    assert lines == [*shown_jobs, *more]
    assert len(shown_jobs) == (running - int(more[0].split()[2]) if more else running)
    assert all(re.match(rf"(seed={number} )?(model=vic|…)", line) for number, line in enumerate(shown_jobs))


def test_a_resize_leaves_no_rubbish(terminal: Terminal) -> None:
    shown = Screen(terminal)
    jobs = [at_work(number) for number in range(3)]
    shown.lines(["the first", "the second"])
    for columns, rows in ((80, 24), (50, 24), (120, 30), (41, 12)):
        terminal.resize(columns, rows)
        assert shown.resized() or columns == 80
        shown.block(live_view(overview_of(3), jobs, shown.size()))
        assert not shown.resized()
        assert terminal.cells[:2] == ["the first", "the second"]
        assert len(terminal.cells) == 2 + 3 + 1 and not any(terminal.joined)
    shown.lines(["the third"])
    assert terminal.cells[:3] == ["the first", "the second", "the third"] and len(terminal.cells) == 3 + 3 + 1
    shown.close(keep=False)
    assert terminal.cells == ["the first", "the second", "the third", ""]


def test_what_the_program_prints_goes_above_the_block(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stderr", piped)
    shown = Screen(sys.stdout)
    shown.capture()
    shown.block("the block")
    print("a line")
    print("half ", end="")
    print("a line", file=sys.stderr)
    assert terminal.cells == ["a line", "the block"]
    print("and half")
    assert terminal.cells == ["a line", "half and half", "the block"]
    shown.close(keep=True)
    print("the end")
    assert terminal.cells == ["a line", "half and half", "the block", "the end", ""]
    assert sys.stdout is terminal and piped.getvalue() == "a line\n"


def test_what_the_terminal_echoes_into_the_block_leaves_no_rubbish(terminal: Terminal) -> None:
    shown = Screen(terminal)
    for _ in range(2):
        shown.block(live_view(overview_of(2), [at_work(0), at_work(1)], shown.size()))
        terminal.write("^C^C")
        assert terminal.cells[-1].startswith("^C^C━") and len(terminal.cells) == 3
    shown.close(keep=True)
    assert len(terminal.cells) == 4 and not any("^C" in line for line in terminal.cells)


def test_words_that_differ_come_first() -> None:
    labels = ["model=idm noise=1 seed=0", "model=idm noise=1 seed=1"]
    assert telling(labels) == ["seed=0 model=idm noise=1", "seed=1 model=idm noise=1"]
    assert telling(labels[:1]) == labels[:1] and telling([]) == []


def test_a_job_without_a_record_is_starting_and_one_beyond_its_training_is_judged() -> None:
    fresh = replace(at_work(0), metrics={})
    assert running_line(fresh).endswith(": starting") and running_line(fresh, 90.0).endswith(": 1:30 left")
    assert running_line(at_work(0, share=1.0), 3.0).endswith(" · judging")
    assert " · 812 sequences/s" in running_line(at_work(0)) and " · 203 sequences/s" in running_line(at_work(0), pack=4)


def test_a_result_fits_on_one_line(tmp_path: Path) -> None:
    job = Job("0123456789", [], LONG.format(3), tmp_path, "vicreg", Workload(1.0))
    result = {"status": "finished", "objective": 2.21434, "objective_metric": "prediction_rmse_px", "verdict": "tracks"}
    assert result_line(job, result) == f"finished 0123456789 {LONG.format(3)}: prediction_rmse_px 2.214 (tracks)"
    line = result_line(job, result, 79)
    assert len(line) == 79 and ": 2.214 px (tracks)" in line and "model=vicreg" in line
    failed = result_line(job, {"status": "failed", "error": "a\nb" * 50}, 79)
    assert len(failed) <= 79 and failed.startswith("failed   model=vicreg")


# --- without a terminal ----------------------------------------------------------------------------------------------


class Folder:
    """A sweep's folder whose jobs end when they are told to."""

    def __init__(self, path: Path, count: int) -> None:
        names = [f"{number:010}" for number in range(count)]
        self.jobs = [
            Job(name, [], f"seed={int(name)}", path / name, "vicreg", Workload(10.0), epochs=1.0) for name in names
        ]

    def finish(self, number: int) -> None:
        folder = self.jobs[number].folder
        folder.mkdir(parents=True)
        result = {"status": "finished", "objective": 1.0, "finished": str(number), "metrics": {}}
        (folder / "result.json").write_text(json.dumps(result))


def test_every_job_that_ends_is_listed_once_even_where_jobs_are_added_meanwhile(tmp_path: Path) -> None:
    """A search adds trials one after another: a trial that has just ended is not passed over."""
    folder, stream = Folder(tmp_path, 10), io.StringIO()
    overview = Overview(parallel=1)
    with Display(overview, mode="auto", stream=stream):
        for number, job in enumerate(folder.jobs):
            overview.add([job])
            folder.finish(number)
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if line.startswith("finished")] == [
        f"finished {job.hash} {job.label}: objective 1" for job in folder.jobs
    ]
    assert "\x1b" not in stream.getvalue()


def test_results_that_are_there_already_are_no_news(tmp_path: Path) -> None:
    folder, stream = Folder(tmp_path, 2), io.StringIO()
    folder.finish(0)
    overview = Overview(parallel=1)
    overview.add(folder.jobs)
    with Display(overview, mode="lines", stream=stream):
        folder.finish(1)
    assert stream.getvalue() == f"finished {folder.jobs[1].hash} seed=1: objective 1\n"


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_terminals_without_a_cursor_get_lines(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    assert not Screen(Terminal()).live


def test_no_color(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(terminal).block(Group(Text("red", style="red"), live_view(overview_of(1), [at_work(0)], (80, 24))))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.getvalue())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_letters_that_a_terminal_lacks_are_replaced(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    bytes_written = io.BytesIO()
    stream = io.TextIOWrapper(bytes_written, encoding=encoding)
    shown = Screen(stream, mode="live")
    shown.block(live_view(overview_of(3), [at_work(number) for number in range(3)], (80, 24)), above=["1 · 2 ± 3 …"])
    assert not shown.broken
    assert b"epoch 40.0/100" in bytes_written.getvalue()
    assert encodable("a · b…", io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == "a | b~"
    assert encodable("2 ± 1 é", io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == "2 +- 1 \\xe9"
    stream.close()


# --- streams that fail -----------------------------------------------------------------------------------------------


class Failing(Terminal):
    """A terminal, or a pipe, that has gone away."""

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("mode", ["lines", "live"])
def test_a_broken_stream_is_tried_once_and_the_results_still_arrive(tmp_path: Path, mode: str) -> None:
    folder, stream, passed = Folder(tmp_path, 3), Failing(), list[Job]()
    overview = Overview(parallel=1)
    overview.add(folder.jobs)
    with Display(overview, mode=mode, stream=stream, on_result=passed.append) as display:
        for number in range(3):
            folder.finish(number)
            display._update(over=False)
    assert stream.tries == 1 and passed == folder.jobs


def test_no_stream_and_a_closed_stream() -> None:
    for stream in (None, io.StringIO()):
        if stream is not None:
            stream.close()
        shown = Screen(stream)
        shown.lines(["a"])
        shown.block("b")
        shown.close(keep=True)
        assert shown.broken and not shown.live


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full", "| head -1", ">&- 2>&-", "> /dev/full 2>&1"])
def test_a_program_ends_as_it_would_with_a_sound_standard_output(redirection: str, tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    code = (
        "import sys, pathlib; from jepa.terminal import forgive; forgive(); f = open('file', 'w')\n"
        "for i in range(30000): print(i, flush=i % 100 == 0)\n"
        "print('x', file=sys.stderr); f.close(); sys.exit(7)"
    )
    command = f"set -o pipefail; {sys.executable} -c \"{code}\" {redirection}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 7 and "Error" not in done.stderr
    assert (tmp_path / "file").read_text() == ""


def test_an_unreadable_folder_does_not_end_the_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> list[Any]:
        raise PermissionError("no")

    folder, stream = Folder(tmp_path, 1), Terminal()
    overview = Overview(parallel=1)
    overview.add(folder.jobs)
    monkeypatch.setattr(Overview, "running", fail)
    with Display(overview, mode="live", stream=stream) as display:
        with pytest.raises(PermissionError):
            display._update(over=False)
        folder.finish(0)
    assert "objective 1" in stream.getvalue()
