"""Reads the flags of a command line. A mistake is one line, ``error: …``, with the nearest spelling; exit code 2."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from jepa.errors import ConfigError, choice_error, nearest, printable, shown

_KINDS = {"int": "a whole number", "float": "a number"}


class FlagParser(argparse.ArgumentParser):
    """As argparse's, without the lines of usage in front of an error, and with line breaks as they are written."""

    def __init__(self, **settings: Any) -> None:
        """settings: as for argparse."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2. message: argparse's words."""
        print(f"error: {printable(str(flag_error(self, message)))}", file=sys.stderr)
        sys.exit(2)


def flag_error(parser: argparse.ArgumentParser, message: str) -> ConfigError:
    """The error for what ``parser`` refuses. message: argparse's words."""
    if found := re.match(r"unrecognized arguments: (.*)", message, re.S):
        return _unknown(parser, found[1].split())
    if found := re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from", message, re.S):
        flag = found[1].split("/")[0]
        action = parser._option_string_actions.get(flag)
        if action is not None and action.choices is not None:
            return choice_error(flag, found[2], action.choices)
    if found := re.match(r"argument (\S+): invalid (int|float) value: (.*)", message, re.S):
        return ConfigError(f"{found[1]}={found[3]}: must be {_KINDS[found[2]]}")
    if found := re.match(r"the following arguments are required: (.*)", message, re.S):
        return ConfigError(f"{found[1]}: is missing; --help shows examples")
    if found := re.match(r"argument (\S+): (expected .*)", message, re.S):
        return ConfigError(f"{found[1]}: {found[2]}")
    return ConfigError(message)


def _unknown(parser: argparse.ArgumentParser, words: list[str]) -> ConfigError:
    """The error for words that no flag takes."""
    word = next((word for word in words if word.startswith("-")), words[0])
    flag = word.partition("=")[0]
    known = [name for name in parser._option_string_actions if name.startswith("--")]
    close = nearest(flag, known)
    hint = f"; did you mean {close!r}?" if close else ""
    return ConfigError(f"{shown(flag)}: no such flag{hint} (flags: {', '.join(sorted(known))})")
