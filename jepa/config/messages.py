"""Turns an error of Hydra's composition into one line that tells the user what to change."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

import yaml  # type: ignore[import-untyped]
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from jepa.config.arguments import quoted
from jepa.config.check import COLLECTIONS, CONDITION_GROUP, NAMED_GROUPS, needs_name, needs_place
from jepa.config.presets import unknown_preset
from jepa.config.schema import unknown_key
from jepa.config.search_path import PRESET_GROUP, SCALE_GROUP, group_options, groups, has_key, parts
from jepa.errors import ConfigError, choice_error, nearest, shown

_NO_SUCH_KEY = re.compile(r"^Could not override '(?P<key>[^']+)'")
_NO_SUCH_FILE = re.compile(r"Could not (find|load) '(?P<group>.+)/(?P<option>[^/']+)'")
_NO_SUCH_GROUP = re.compile(r"config group '(?P<group>[^']+)' does not exist")
_WITHOUT_MULTIRUN = re.compile(
    r"^(Ambiguous value for argument|Sweep parameters) '(?P<override>.+?)'( requires|$)", re.M
)
_ALREADY_THERE = re.compile(r"(An item is already at|^Multiple values for) '?(?P<key>[\w./]+?)'?[.']")
_NO_SUCH_CONFIG_DIR = re.compile(r"^Additional config directory '(?P<folder>.*)' not found")
_CHOSEN_TWICE = re.compile(r"appears more than once in the final defaults list")
_SCALE_WITHOUT_CHOICE = re.compile(r"^Error resolving interpolation '(?P<scale>\w+)/\S*\$\{(?P<group>[\w/]+)\}")


def explain(error: BaseException, known_keys: Iterable[str] = (), arguments: Iterable[str] = ()) -> ConfigError | None:
    """The user's mistake that caused ``error``, as a one-line error; None if the user did not cause it.

    known_keys: full names of all keys, to suggest the nearest spelling.
    arguments: the command line, for errors in which Hydra does not name the word.
    """
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigError(f"{mark.name}, line {mark.line + 1}: {error.problem}")
    if isinstance(error, RecursionError):
        return ConfigError("a value is nested too deeply, or refers to itself")
    if not isinstance(error, (HydraException, OmegaConfBaseException)) and not _from_composition(error):
        return None
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _not_understood(str(error.override))
    if isinstance(error, MissingConfigException):
        return _no_such_option(text)
    if found := _NO_SUCH_KEY.search(text):
        return no_such_key(found["key"], known_keys)
    if found := _NO_SUCH_GROUP.search(text):
        return no_such_key(found["group"], known_keys)
    if found := _WITHOUT_MULTIRUN.search(text):
        return ConfigError(f"{found['override']}: several values need --multirun; as one list, write key=[a,b]")
    if found := _ALREADY_THERE.search(text):
        return ConfigError(f"+{found['key']}: is there already; leave out the '+'")
    if found := _SCALE_WITHOUT_CHOICE.search(text):
        words = f"this model has no group {found['group']}, which the scale needs; give the scale's keys one by one"
        return ConfigError(f"{SCALE_GROUP}={found['scale']}: {words}")
    if found := _NO_SUCH_CONFIG_DIR.search(text):
        return ConfigError(f"--config-dir={found['folder']}: no such folder")
    if _CHOSEN_TWICE.search(text):
        for word in arguments:
            if word.startswith("+") and word[1:].partition("=")[0] in groups():
                return ConfigError(f"{word}: is there already; leave out the '+'")
    if text.startswith("Config group override must be"):
        return _no_option_at_all(arguments)
    return ConfigError(one_line(error))


def missing_key(error: BaseException) -> str | None:
    """The key that Hydra could not set because the configuration lacks it."""
    found = _NO_SUCH_KEY.search(str(error))
    return found["key"] if found else None


def one_line(error: BaseException) -> str:
    """The messages of ``error`` and its cause, without line breaks."""
    texts = [str(error)] if str(error).strip() else []
    if isinstance(error.__cause__, OmegaConfBaseException):
        texts.append(str(error.__cause__))
    lines = [line.strip() for text in texts for line in text.splitlines()]
    kept = [line for line in lines if line and not re.match(r"(object_type|reference_type|See https?:)", line)]
    return "; ".join(dict.fromkeys(kept)) or type(error).__name__


def _from_composition(error: BaseException) -> bool:
    """Whether an exception was raised while Hydra read overrides or yaml, not during a run."""
    module = None
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
    return isinstance(error, Exception) and (module or "").startswith(("hydra.", "omegaconf.", "antlr4.", "yaml."))


def _not_understood(word: str) -> ConfigError:
    key, separator, value = word.partition("=")
    if not separator or not value or not re.fullmatch(r"[\w./+~@-]+", key):
        return ConfigError(f"{shown(word)}: not understood; write key=value")
    whole = f"{key}={quoted(value)}"
    typed = shlex.quote(whole) if re.search(r'["$`\\!]', whole) else f'"{whole}"'
    return ConfigError(f"{shown(word)}: not understood; if all of it is one text, write {typed}")


def _no_such_option(text: str) -> ConfigError:
    found = _NO_SUCH_FILE.search(text)
    if not found:
        return ConfigError(text.strip().splitlines()[0])
    if found["group"].partition("/")[0] == PRESET_GROUP:
        return unknown_preset(f"{found['group']}/{found['option']}".partition("/")[2])
    options = re.findall(r"^\t([\w.-]+)$", text, re.M) or group_options(found["group"])
    return choice_error(found["group"], found["option"], options)


def _no_option_at_all(arguments: Iterable[str]) -> ConfigError:
    """The error for a group whose option is a number, null or similar."""
    known = groups()
    for word in arguments:
        group, _, option = word.lstrip("+").partition("=")
        if group in known and option not in group_options(group):
            options = group_options(group)
            return unknown_preset(option) if group == PRESET_GROUP else choice_error(group, option, options)
    return ConfigError("a group must be given the name of one of its options, as in model=vicreg")


def _no_such_part(key: str) -> ConfigError:
    """The error for a group within another one, of which the chosen option has no such part."""
    above, _, part = key.rpartition("/")
    having = [name for name in group_options(above) if part in parts(above, name)]
    example = f"; {above}={having[0]} has it" if len(having) == 1 else f"; these have it: {', '.join(having)}"
    return ConfigError(f"{key}: the chosen option of {above} has no such part" + (example if having else ""))


def no_such_key(key: str, known_keys: Iterable[str]) -> ConfigError:
    """The error for an unknown key or group; suggests the nearest spelling, or the option to choose."""
    for collection, named_group in NAMED_GROUPS.items():
        if key == named_group:
            return needs_name(collection, named_group)
        if key.startswith(f"{named_group}@"):
            return ConfigError(f"{key}: nothing stands there yet; add it by +{key}=NAME")
    if key == CONDITION_GROUP:
        return needs_place()
    if "/" in key:
        known = [name for name in groups() if not name.startswith("hydra/")]
        if key in known:
            return _no_such_part(key)
        hint = nearest(key, known)
        return ConfigError(f"{key}: no such group" + (f"; did you mean {hint!r}?" if hint else ""))
    group, option = [*key.split("."), ""][:2]
    known_keys = list(known_keys)
    if group in COLLECTIONS and option in group_options(group) and f"{group}.{option}" not in known_keys:
        return ConfigError(f"{key}: no such key; {group}={option} brings it")
    collection, _, entry = key.rpartition(".")
    if collection in NAMED_GROUPS:
        named = NAMED_GROUPS[collection]
        options = ", ".join(group_options(named))
        return ConfigError(f"{key}: nothing has this name; add it by +{named}@{key}=OPTION (one of {options})")
    if bringing := _options_with(key, known_keys):
        return ConfigError(f"{key}: no such key; {bringing}")
    # Keys deep in the sweep are what the command line gave; a wrong one must not be suggested.
    given = [name for name in known_keys if name.startswith("sweep.") and name.count(".") > 1]
    hidden = {name for name in known_keys if name.startswith("hydra.")} | {*given}
    return unknown_key(key, (name for name in known_keys if key.startswith(("hydra", "sweep")) or name not in hidden))


def _options_with(key: str, known_keys: list[str]) -> str:
    """Says which options of a group have the ``key`` that the chosen option lacks; empty if there is none."""
    parts = key.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        group, rest = "/".join(parts[:cut]), ".".join(parts[cut:])
        if group not in groups() or f"{'.'.join(parts[:cut])}._target_" not in known_keys:
            continue
        found = [f"{group}={name}" for name in group_options(group) if has_key(group, name, rest)]
        if found:
            return f"{', '.join(found)} {'has' if len(found) == 1 else 'have'} it"
    top = parts[0]
    if len(parts) > 1 and top in groups() and not any(name.startswith(f"{top}.") for name in known_keys):
        return f"there is no {top} yet; choose {top}=NAME (one of {', '.join(group_options(top))})"
    return ""
