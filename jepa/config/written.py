"""Writes options and values as a command line or a yaml file, and reads them from a command line. Imports no torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from jepa.config.arguments import prepare, quoted
from jepa.config.search_path import groups
from jepa.errors import ConfigError, shown

_ORDER = ("seed", "dataset", "model", "optimizer", "trainer")


def overrides(choices: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    """The words that choose ``choices`` (group -> option) and set ``values`` (key -> value), in a fixed order."""
    chosen = [f"{group}={option}" for group, option in choices.items()]
    return [*chosen, *(_word(key, values[key]) for key in sorted(values, key=_place))]


def shell_line(words: Sequence[str]) -> str:
    """The shell command that runs ``words``."""
    return " ".join(["python -m jepa.run", *map(_typed, words)])


def preset(choices: Mapping[str, str], values: Mapping[str, Any], comment: str) -> str:
    """The text of a yaml file for ``+GROUP=NAME`` that sets the same options and values, as in conf/reproduce."""
    content = OmegaConf.create({})
    for key in sorted(values, key=_place):
        OmegaConf.update(content, key, values[key])
    chosen = "".join(f"  - override /{group}: {option}\n" for group, option in choices.items())
    body = OmegaConf.to_yaml(content) if values else ""
    return f"# @package _global_\n# {comment}\ndefaults:\n{chosen}  - _self_\n{body}"


def _place(key: str) -> int:
    top = key.partition(".")[0]
    return _ORDER.index(top) if top in _ORDER else len(_ORDER)


def _word(key: str, value: Any) -> str:
    """``key=value`` as a Hydra override; text is quoted if Hydra would read it as another type."""
    if value is None or isinstance(value, bool):
        return f"{key}={'null' if value is None else str(value).lower()}"
    if isinstance(value, str):
        [prepared] = prepare([f"{key}={value}"])
        try:
            is_plain = OverridesParser.create().parse_override(prepared).value() == value
        except HydraException:
            is_plain = False
        return f"{key}={value if is_plain else quoted(value)}"
    if isinstance(value, Mapping):
        return f"{key}={{{','.join(_word(str(name), item).replace('=', ':', 1) for name, item in value.items())}}}"
    if isinstance(value, Sequence):
        return f"{key}=[{','.join(_word('', item)[1:] for item in value)}]"
    return f"{key}={value!r}"


def _typed(word: str) -> str:
    """``word`` quoted for a shell. A word with single quotes is put into double quotes, which is easier to read."""
    return f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word)


def told(words: Sequence[str], called: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The options and the values that words of a command line set. called: text in front of a word in messages.

    Raises:
        ConfigError: a word cannot be read, or does not set exactly one key.
    """
    choices: dict[str, str] = {}
    values: dict[str, Any] = {}
    known = groups()
    for word, override in _parsed(words, called):
        key, value = override.key_or_group, override.value()
        if override.type is not OverrideType.CHANGE or override.package or override.is_sweep_override():
            raise ConfigError(f"{called} {shown(word)}: must set one key, as in trainer.epochs=5")
        if key in known and isinstance(value, str):
            choices[key] = value
        else:
            values[key] = value
    return choices, values


def _parsed(words: Sequence[str], called: str) -> Iterator[tuple[str, Override]]:
    for word, prepared in zip(words, prepare(words), strict=True):
        try:
            yield word, OverridesParser.create().parse_override(prepared)
        except HydraException as error:
            raise ConfigError(f"{called} {shown(word)}: must set one key, as in trainer.epochs=5") from error
