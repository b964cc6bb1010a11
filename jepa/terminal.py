"""Output to the screen: lines and, on a terminal, a block of live lines below. Errors of the screen raise nothing."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_WIDTH = 80  # columns, if the width of the terminal is unknown
PLAIN = {"±": "+-", "–": "-", "—": "-", "━": "-", "…": "~", "·": "|", "×": "x", "σ": "s", "²": "2"}
"""Replacements for characters that the encoding of a stream lacks."""

ERRORS = "jepa.plain"
"""Name of the error handler that applies ``PLAIN`` and escapes every other missing character."""


def _plain_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end


codecs.register_error(ERRORS, _plain_error)


class Screen:
    """Writes whole lines to a stream and keeps a block of live lines below them, if the stream is a terminal.

    After the first error of the stream (a closed pipe, a full disk, a closed terminal) the screen writes nothing.
    Several threads may write lines and blocks.
    """

    def __init__(self, stream: IO[str] | None, *, mode: str = "auto") -> None:
        """Args:
        stream: the stream to write to; None: write nothing.
        mode: ``live``, ``lines``, ``none``, or ``auto``: live on a terminal, lines elsewhere.
        """
        if mode == "auto":
            mode = "live" if is_terminal(stream) else "lines"
        self.live = mode == "live"
        self._stream = None if mode == "none" else stream
        self._lock = threading.RLock()
        self._console: Console | None = None
        self._content: RenderableType | None = None
        self._captured: list[tuple[str, Any]] = []
        self._shown: list[int] = []  # width of each line of the block, in columns
        self._size = (0, 0)

    @property
    def broken(self) -> bool:
        """Whether the screen has stopped writing."""
        return self._stream is None

    def size(self) -> tuple[int, int]:
        """The current number of columns and rows of the terminal."""
        try:
            found = os.get_terminal_size(cast(IO[str], self._stream).fileno())
            if found.columns > 0 and found.lines > 0:
                return found.columns, found.lines
        except (AttributeError, OSError, ValueError):  # no terminal: a test, or mode=live into a file
            pass
        return tuple(shutil.get_terminal_size((PLAIN_WIDTH, 24)))  # type: ignore[return-value]

    def resized(self) -> bool:
        """Whether the size of the terminal has changed since the block was drawn."""
        return self.live and bool(self._shown) and self.size() != self._size

    def lines(self, lines: Sequence[str]) -> None:
        """Write whole lines, above the block if there is one."""
        with self._lock:
            if self._content is not None:
                self.block(self._content, above=lines)
            else:
                self._write("".join(f"{line}\n" for line in lines))

    def block(self, content: RenderableType, *, above: Sequence[str] = ()) -> None:
        """Redraw the block.

        Args:
            content: content of the block. If it is too large for the terminal, it is cut at the right and at the top.
            above: whole lines to write above the block.
        """
        if self._stream is None or not self.live:
            return
        with self._lock:
            size = self.size()
            rendered = self._render(content, size)
            text = self._erase() + "".join(f"{line}\n" for line in above)
            self._content, self._shown, self._size = content, [width for _, width in rendered], size
            # Leave the cursor at the start of the last line, so that a "^C" echoed by the terminal does not wrap.
            self._write(text + "\n".join(line for line, _ in rendered) + "\r")

    def capture(self) -> None:
        """From now until :meth:`close`, show above the block what the program prints to standard output and error."""
        for name in ("stdout", "stderr") if self.live else ():
            stream = getattr(sys, name)
            if is_terminal(stream):
                self._captured.append((name, stream))
                setattr(sys, name, _Above(self, stream))

    def close(self, *, keep: bool) -> None:
        """End the block. keep: leave its last state on the terminal; otherwise remove the block."""
        for name, stream in self._captured:
            if isinstance(getattr(sys, name), _Above):
                setattr(sys, name, stream)
        with self._lock:
            if keep and self._content is not None:
                self.block(self._content)  # removes characters that the terminal echoed into the block
            self._captured, self._content = [], None
            if self._shown:
                self._write("\n" if keep else self._erase())
                self._shown = []

    def _render(self, content: RenderableType, size: tuple[int, int]) -> list[tuple[str, int]]:
        """Lines with escape codes, and the width of each. The last column stays empty, so that no terminal wraps."""
        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            self._console = Console(file=_Nowhere(self._stream), force_terminal=True, highlight=False)
        console = self._console
        console.size = (max(1, size[0] - 1), size[1])
        with console.capture() as capture:
            console.print(content, no_wrap=True, overflow="ellipsis", crop=True)
        lines = capture.get().splitlines()[1 - max(2, size[1]) :]
        return [(line, Text.from_ansi(line).cell_len) for line in lines]

    def _erase(self) -> str:
        """Escape codes that remove the block and move the cursor to where the block started."""
        if not self._shown:
            return ""
        columns = self.size()[0]
        above = sum(max(1, -(-width // columns)) if _REFLOWS else 1 for width in self._shown[:-1])
        self._shown = []
        return "\r" + (f"\x1b[{above}A" if above else "") + "\x1b[J"

    def _write(self, text: str) -> None:
        if self._stream is None or not text:
            return
        try:
            self._stream.write(encodable(text, self._stream))
            self._stream.flush()
        except (OSError, ValueError):  # the pipe or the stream is closed, or the disk is full
            silence(self._stream)
            self._stream = None


class _Above(io.TextIOBase):
    """Replaces standard output or error while a block is shown; writes whole lines above the block."""

    def __init__(self, screen: Screen, stream: Any) -> None:
        self._screen = screen
        self._behind = stream
        self._process = os.getpid()
        self._line = ""

    def write(self, text: str) -> int:
        """Write the complete lines of ``text``; keep the rest. A forked process writes directly to the stream."""
        if os.getpid() != self._process or self._screen.broken:
            return int(self._behind.write(text))
        *lines, self._line = (self._line + text).split("\n")
        if lines:
            self._screen.lines(lines)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._behind.flush()

    def isatty(self) -> bool:
        """Whether this is a terminal: it is."""
        return True

    def fileno(self) -> int:
        """The descriptor of the terminal."""
        return int(self._behind.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the terminal."""
        return str(getattr(self._behind, "encoding", "utf-8"))


class _Nowhere(io.StringIO):
    """Discards output that a console writes by itself. Its ``encoding`` is that of the real stream."""

    def __init__(self, stream: IO[str] | None) -> None:
        super().__init__()
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The name of the encoding."""
        return self._encoding


def _terminal_reflows() -> bool:
    """Whether the terminal wraps long lines again when it becomes narrower; most terminals do."""
    if "TMUX" in os.environ:
        return True
    return "XTERM_VERSION" not in os.environ and not os.environ.get("TERM", "").startswith(("rxvt", "screen", "linux"))


_REFLOWS = _terminal_reflows()


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether ``stream`` is a terminal on which the cursor can be moved."""
    with contextlib.suppress(ValueError):  # the stream has been closed
        return stream is not None and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return False


def encodable(text: str, stream: Any) -> str:
    """``text`` with replacements for characters that the encoding of ``stream`` lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, ERRORS).decode(encoding)


def silence(stream: Any) -> None:
    """Redirect ``stream`` to the null device, so that the flush at the end of the program does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


class Forgiving:
    """Wraps standard output or error. The first failed write raises nothing and silences the stream."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``; replace characters that the encoding lacks."""
        try:
            return self._stream.write(encodable(text, self._stream))
        except (OSError, ValueError):
            silence(self._stream)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            silence(self._stream)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write all ``lines``."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def forgive() -> None:
    """Wrap standard output and error of this process in :class:`Forgiving`; open closed ones on the null device.

    The system would give a closed descriptor to the next file that is opened. Then ``print`` would write to that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free descriptor
    sys.stdout, sys.stderr = _forgiving(sys.stdout), _forgiving(sys.stderr)


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Wrap standard output and error in :class:`Forgiving` inside the ``with`` block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_forgiving, before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _forgiving(stream: Any) -> Any:
    if stream is None:
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- open until the program ends
    return stream if isinstance(stream, Forgiving) else Forgiving(stream)
