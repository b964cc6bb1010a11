"""The command line before Hydra reads it: paths are quoted, a mode is chosen, and what would be ignored is refused.

Hydra decides between one run and many before it composes, and its grammar gives ``=`` and ``,`` a meaning that they do
not have in paths. Both are settled here, on the words themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from jepa.config.operational import CONTROL_KEYS
from jepa.config.search_path import PRESET_GROUP, SWEEP_GROUP
from jepa.errors import ConfigError, check_path, is_text, shown

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
_ADDED_GROUPS = {SWEEP_GROUP: "sweeps/", PRESET_GROUP: "conf/reproduce/"}  # not in the defaults list; and their folders
_LONGEST = 20_000  # characters of one word; Hydra's parser takes seconds for more
_DEEPEST = 40  # brackets within brackets; Hydra's parser is recursive
_PLAIN_PATH = re.compile(r"[\w./\-+:~]+", re.ASCII)


def prepare(words: Sequence[str]) -> list[str]:
    """The command line as Hydra is given it.

    Raises:
        ConfigError: a word that Hydra could not read, or one that would be ignored in the mode that was asked for.
    """
    for word in words:
        _check_word(word)
    prepared = [_with_plus(_with_quotes(word)) for word in words]
    if not any(flag(word) in _SHOW for word in prepared):
        prepared = _with_mode(prepared)
    return prepared


def flag(word: str) -> str:
    """A word's flag or key: what stands before ``=``."""
    return word.partition("=")[0]


def is_multirun(words: Sequence[str]) -> bool:
    """Whether Hydra will start many runs."""
    return any(flag(word) in _MULTIRUN or word.lower() == "hydra.mode=multirun" for word in words)


def deferred(words: Sequence[str], key: str) -> list[str] | None:
    """``words`` with the override of ``key`` written so that Hydra leaves it to the jobs; None where that is no remedy.

    Hydra sets every plain override in the sweep's own configuration, which has the default options only. A sweep over
    groups may well have jobs with that key.
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
    """``text`` in the quotes of Hydra's grammar."""
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


def _with_quotes(word: str) -> str:
    """A path that holds ``=``, or an existing one with other characters of Hydra's grammar, is quoted for it."""
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
    """``sweep=NAME`` and ``reproduce=NAME`` as Hydra wants them; the path of a file stands for its name."""
    key, separator, name = word.partition("=")
    key = key.removeprefix("+")
    if key not in _ADDED_GROUPS or not separator:
        return word
    name = name.strip("'\"") if name[:1] in "'\"" else name
    return f"+{key}={name.removeprefix('./').removeprefix(_ADDED_GROUPS[key]).removesuffix('.yaml')}"


# --- one run or many -----------------------------------------------------------------------------------------------


def _with_mode(words: list[str]) -> list[str]:
    """``--multirun`` where a sweep file is to be run; a single run is refused the keys of sweeps."""
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
    """``hydra.run.dir=X`` as ``folder=X``: Hydra would make the folder before the configuration is checked."""
    key, separator, value = word.partition("=")
    if key.lstrip("+") != "hydra.run.dir" or not separator or "${" in value:
        return word
    check_path("hydra.run.dir", value)
    return f"folder={value}"
