"""Errors for the user. Each message names the key, the value, the allowed values and the nearest valid spelling."""

from __future__ import annotations

import difflib
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_SHOWN = 120  # characters of a value in a message
_PATH, _NAME = 4000, 255  # longest path, and longest part of a path, in bytes, that file systems accept


class ConfigError(ValueError):
    """A configuration that cannot be run. Raised before any work starts; the command ends with exit code 2."""


class RunFailed(RuntimeError):
    """A run that started and ended without a result. Its files give the reason. The command ends with exit code 1."""


def shown(value: object) -> str:
    """``value`` as text for a message: printable, and shortened if it is long."""
    if value is None:
        return "null"
    text = ascii(value) if isinstance(value, str) and not is_text(value) else _short_repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 20]}… ({len(text)} characters)"


def shown_path(path: Path | str) -> str:
    """``path`` as text for a message: unchanged if it is printable and short, else as in :func:`shown`."""
    text = str(path)
    return text if text.isprintable() and len(text) <= _SHOWN else shown(text)


def nearest(value: object, allowed: Iterable[str]) -> str | None:
    """The allowed spelling closest to ``value``, or None if none is close."""
    found = difflib.get_close_matches(str(value)[:_SHOWN].lower(), [str(name) for name in allowed], n=1, cutoff=0.5)
    return found[0] if found else None


def choice_error(key: str, value: object, allowed: Iterable[str]) -> ConfigError:
    """The error for a ``value`` of ``key`` that is not in ``allowed``."""
    allowed = [str(name) for name in allowed]
    hint = nearest(value, allowed)
    suffix = f"; did you mean {hint!r}?" if hint else ""
    return ConfigError(f"{key}={shown(value)}: must be one of {', '.join(allowed)}{suffix}")


def check_choice(key: str, value: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is in ``allowed``; raise ConfigError otherwise."""
    allowed = list(allowed)
    if value not in allowed:
        raise choice_error(key, value, allowed)
    return value


def check_number(
    key: str,
    value: float,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return ``value`` if it is a finite number in ``[minimum, maximum]``, above ``above`` and below ``below``.

    Raises:
        ConfigError: names ``key``, otherwise.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{key}={shown(value)}: must be a finite number")
    if value < minimum or value > maximum or value <= above or value >= below:
        raise ConfigError(f"{key}={shown(value)}: must be {_range_words(minimum, maximum, above, below)}")
    return value


def check_count(key: str, value: int, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` if it is a whole number of at least ``minimum`` (and at most ``maximum``)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key}={shown(value)}: must be a whole number")
    check_number(key, value, minimum=minimum, maximum=math.inf if maximum is None else maximum)
    return value


def check_flag(key: str, value: bool) -> bool:
    """Return ``value`` if it is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={shown(value)}: must be true or false")
    return value


def check_widths(key: str, text: str | int | None) -> list[int]:
    """The layer widths in a text such as ``"512-512"``; an empty list for ``""`` and None.

    Raises:
        ConfigError: names ``key``; a width is not a whole number from 1 to 65536, or there are more than 32 widths.
    """
    parts = [] if text is None or text == "" else str(text).split("-") if isinstance(text, (str, int)) else ["?"]
    sound = all(len(part) <= 5 and part.isascii() and part.isdigit() and 0 < int(part) <= 2**16 for part in parts)
    if not sound or len(parts) > 32 or isinstance(text, bool):
        allowed = "must be widths of 1 to 65536 joined by '-' such as '512-512', at most 32 of them, or '' for none"
        raise ConfigError(f"{key}={shown(text)}: {allowed}")
    return [int(part) for part in parts]


def _range_words(minimum: float, maximum: float, above: float, below: float) -> str:
    low = f"at least {_plain(minimum)}" if minimum > -math.inf else ""
    low = f"greater than {above:g}" if above > -math.inf else low
    high = f"less than {below:g}" if below < math.inf else f"at most {_plain(maximum)}" if maximum < math.inf else ""
    return " and ".join(part for part in (low, high) if part)


def check_path(key: str, text: str) -> str:
    """Return ``text`` if it is a possible path: not empty, no control characters, not too long."""
    if not text.strip():
        raise ConfigError(f"{key}={text!r}: must name a file or folder")
    if not is_text(text) or any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ConfigError(f"{key}={shown(text)}: no path has such characters")
    if len(text.encode()) > _PATH or any(len(part.encode()) > _NAME for part in text.split("/")):
        raise ConfigError(f"{key}={shown(text)}: too long for a path ({_NAME} bytes a name)")
    return text


def check_folder(key: str, folder: Path) -> Path:
    """Return ``folder`` if it is a writable folder, or if it can be created.

    Raises:
        ConfigError: names ``key`` and the part of the path that prevents this.
    """
    check_path(key, str(folder))
    existing = folder.absolute()
    while True:
        try:
            mode = os.stat(existing).st_mode
            break
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.islink(existing):
                raise ConfigError(f"{key}={shown_path(folder)}: {existing} is a link to nothing") from error
            existing = existing.parent
        except OSError as error:
            raise ConfigError(f"{key}={shown_path(folder)}: cannot be used ({existing}: {error.strerror})") from error
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"{key}={shown_path(folder)}: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{key}={shown_path(folder)}: {existing} cannot be written")
    return folder


def error_words(error: BaseException) -> str:
    """The kind of ``error`` and its message, for example "OSError: no space"; for errors of any kind."""
    return f"{type(error).__name__}: {error}"


def printable(text: str) -> str:
    """``text`` on one line, without control characters, shortened to 1000 characters."""
    line = "".join(c if c.isprintable() else _escaped(c) for c in text.replace("\n", "; "))
    return line if len(line) <= 1000 else f"{line[:1000]}…"


def _escaped(character: str) -> str:
    return " " if character in "\t\r" else ascii(character)[1:-1]


def is_text(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8: it contains no lone surrogate and no NUL."""
    return "\0" not in text and not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _short_repr(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 400:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print larger ones
    return repr(value)


def _plain(number: float) -> str:
    return str(int(number)) if abs(number) < 1e15 and number == int(number) else f"{number:g}"
