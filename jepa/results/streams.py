"""Standard output as it happens to be: closed, full, or without the characters that tables use."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

PLAIN = {"±": "+-", "–": "-", "…": "~", "·": "|", "×": "x", "—": "-"}
"""What stands for a character that an encoding lacks."""


def _plain_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end


ERRORS = "jepa.plain"
"""The name of the error handler that writes PLAIN."""

codecs.register_error(ERRORS, _plain_error)


def lacks(stream: TextIO, characters: str = "".join(PLAIN)) -> bool:
    """Whether the encoding of ``stream`` lacks one of ``characters``."""
    try:
        characters.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def plain(text: str) -> str:
    """``text`` with its special characters in ASCII."""
    for character, substitute in PLAIN.items():
        text = text.replace(character, substitute)
    return text


def guarded(answer: Callable[[], int]) -> int:
    """The exit code of ``answer``, which writes to standard output, whatever that is.

    0 where the reader closed a pipe, which means that it has seen enough. 1, with one line on standard error, where
    something cannot be written. 130 where the user interrupts. Characters that the encoding lacks are written in ASCII.
    """
    if sys.stdout is None:  # closed by whoever started this process
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - stays open to the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="jepa.plain")
    try:
        code = answer()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        where = f"{error.filename}: " if error.filename else "standard output: "
        print(f"jepa.results: {where}{error.strerror or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _discard_output()
        return 130
    return code


def _discard_output() -> None:
    """Keep what could not be written from being tried again when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
