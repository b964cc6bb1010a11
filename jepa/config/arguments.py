"""Prepares the command line for Hydra: quotes paths, chooses single run or multirun, and refuses ignored words.

Hydra chooses between one run and many before it composes the configuration. Its grammar also gives ``=`` and ``,`` a
meaning that they do not have in paths. So this module edits the words of the command line before Hydra reads them.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentError
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser

from jepa.config.operational import CONTROL_KEYS
from jepa.config.search_path import PRESET_GROUP, SCALE_GROUP, SWEEP_GROUP
from jepa.errors import ConfigError, check_path, is_text, shown
from jepa.flags import flag_error

_SHOW = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
_MULTIRUN = {"--multirun", "-m"}
_RUN = {"--run", "-r"}
_DECIDES_MODE = _SHOW | _RUN | _MULTIRUN | {"--experimental-rerun", "hydra.mode"}
_PATH_KEYS = (
    "folder",
    "init_from",
    "reuse",
    "dataset.cifar10_folder",
    "dataset.texture.folder",
    "sweep.name",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
# Groups that take a + or none, and their folders, which may precede an option's name. Hydra wants the + of a group only
# if the defaults list of conf/config.yaml does not name the group.
_PLUS = {SWEEP_GROUP: "+", PRESET_GROUP: "", SCALE_GROUP: ""}
_FOLDERS = {SWEEP_GROUP: "sweeps/", PRESET_GROUP: "conf/reproduce/", SCALE_GROUP: "conf/scale/"}
_LONGEST = 20_000  # characters of one word; Hydra's parser takes seconds for more
_DEEPEST = 40  # nesting of brackets; Hydra's parser is recursive
_PLAIN_PATH = re.compile(r"[\w./\-+:~]+", re.ASCII)


def prepare(words: Sequence[str]) -> list[str]:
    """The command line to pass to Hydra.

    Raises:
        ConfigError: Hydra cannot read a word, or would ignore a word in the requested mode.
    """
    for word in words:
        _check_word(word)
    _check_flags(words)
    prepared = [_with_plus(_with_quotes(word)) for word in words]
    if not any(flag(word) in _SHOW for word in prepared):
        prepared = _with_mode(prepared)
    return prepared


def flag(word: str) -> str:
    """The flag or key of a word: the part before ``=``."""
    return word.partition("=")[0]


def is_multirun(words: Sequence[str]) -> bool:
    """Whether Hydra will start many runs."""
    return any(flag(word) in _MULTIRUN or word.lower() == "hydra.mode=multirun" for word in words)


def deferred(words: Sequence[str], key: str) -> list[str] | None:
    """Rewrite the override of ``key`` so that Hydra applies it to the jobs only; None if this does not help.

    Hydra applies every plain override to the sweep's own configuration too. This configuration has the default options
    of all groups and may lack ``key``, although the jobs of a sweep over groups have it.
    """
    if not is_multirun(words) or "." not in key or key.startswith(("hydra", "sweep.")):
        return None
    changed = [
        f"{key}=choice({value})" if name == key and value and not value.startswith("choice(") else word
        for word in words
        for name, _, value in [word.partition("=")]
    ]
    return None if changed == list(words) else changed


def quoted(text: str) -> str:
    """``text`` in quotes, escaped for Hydra's grammar."""
    escaped = re.sub(r"(\\+)(?='|$)", lambda match: match.group(1) * 2, text).replace("'", "\\'")
    return f"'{escaped}'"


# --- words ---------------------------------------------------------------------------------------------------------


def _check_word(word: str) -> None:
    if not is_text(word):
        raise ConfigError(f"{shown(word)}: holds bytes that are no text in UTF-8")
    if len(word) > _LONGEST:
        raise ConfigError(f"{shown(word)}: too long; a sweep file holds long lists")
    depth = deepest = 0
    for character in word:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise ConfigError(f"{shown(word)}: brackets nested {deepest} deep; at most {_DEEPEST} are understood")


def _check_flags(words: Sequence[str]) -> None:
    """Refuse a flag that Hydra does not know; Hydra itself would print its usage."""
    parser = get_args_parser()
    parser.exit_on_error = False  # raise for a wrong value of a flag
    try:
        _, unknown = parser.parse_known_intermixed_args(words)
    except ArgumentError as error:
        raise flag_error(parser, str(error)) from error
    for word in unknown:
        if re.match(r"--?[\w./]+=", word):
            raise ConfigError(f"{shown(word)}: no such flag; a key has no dashes: {word.lstrip('-')}")
    if any(word.startswith("-") for word in unknown):
        raise flag_error(parser, f"unrecognized arguments: {' '.join(unknown)}")


def _with_quotes(word: str) -> str:
    """Quote a path if it contains ``=``, or if it exists and contains other special characters of Hydra's grammar."""
    key, separator, value = word.partition("=")
    name = key.lstrip("+")
    if not separator or name not in _PATH_KEYS:
        return word
    return f"{key}={_quoted_list(name, value) if value[:1] == '[' and value[-1:] == ']' else _quoted_path(name, value)}"


def _quoted_list(name: str, value: str) -> str:
    return "[" + ",".join(_quoted_path(name, part.strip()) for part in value[1:-1].split(",")) + "]"


def _quoted_path(name: str, value: str) -> str:
    if not value or value[0] in "'\"{[" or _PLAIN_PATH.fullmatch(value) or "${" in value:
        return value
    if _exists(value) or ("=" in value and "," not in value):
        return quoted(value)
    if "=" in value:
        return ",".join(_quoted_path(name, part) for part in value.split(","))
    return value


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:
        return False


def _with_plus(word: str) -> str:
    """Write ``+sweep=NAME``, ``reproduce=NAME`` and ``scale=NAME`` as Hydra requires. Replace a path by its name.

    A key of ``dataset.eval`` gets ``++``, because any key may stand there.
    """
    key, separator, name = word.partition("=")
    if key.startswith("dataset.eval."):
        return f"++{word}"
    key = key.removeprefix("+")
    if key not in _PLUS or not separator:
        return word
    name = name.strip("'\"") if name[:1] in "'\"" else name
    return f"{_PLUS[key]}{key}={name.removeprefix('./').removeprefix(_FOLDERS[key]).removesuffix('.yaml')}"


# --- one run or many -----------------------------------------------------------------------------------------------


def _with_mode(words: list[str]) -> list[str]:
    """Add ``--multirun`` if a sweep file is given. Raise ConfigError if a single run is given keys of sweeps."""
    file = next((word for word in words if flag(word) == f"+{SWEEP_GROUP}"), None)
    if is_multirun(words):
        return words
    mode = next((word for word in words if flag(word) in _DECIDES_MODE), None)
    if mode is not None and flag(mode) == "--experimental-rerun":
        return words
    if file is not None and mode is not None:
        raise ConfigError(f"{mode} {file}: a sweep file describes several jobs; leave out {mode}")
    if file is not None:
        return ["--multirun", *words]
    for word in words:
        key = flag(word).lstrip("+~")
        if key != "dry_run" and key.split(".")[0] in CONTROL_KEYS and not word.startswith("-"):
            raise ConfigError(f"{shown(word)}: is for sweeps; a single run would ignore it. Add --multirun")
    return [_own_folder(word) for word in words]


def _own_folder(word: str) -> str:
    """Replace ``hydra.run.dir=X`` by ``folder=X``: Hydra would create X before the configuration is checked."""
    key, separator, value = word.partition("=")
    if key.lstrip("+") != "hydra.run.dir" or not separator or "${" in value:
        return word
    check_path("hydra.run.dir", value)
    return f"folder={value}"
