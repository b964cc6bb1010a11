"""Reads, merges and checks configuration files of the original code. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from jepa.config.messages import one_line
from jepa.config.original import KEYS, SECTIONS, known
from jepa.config.search_path import read_mapping
from jepa.errors import ConfigError, nearest, shown, shown_path


def read(files: Sequence[Path], pairs: Sequence[str] = (), *, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Full names of the original's keys -> the values that the files and then the pairs set.

    Later files and pairs override earlier ones. A null value counts as not set.

    Args:
        files: files in the original's format.
        pairs: ``key=value`` with sections, such as ``vicreg.sim_coeff=25``.
        ignored: keys to skip without reading them.

    Raises:
        ConfigError: a file is missing or damaged, a key is unknown, a value has a wrong type, or no file has a key to
            skip; names the place.
    """
    raw: dict[str, Any] = {}
    places: dict[str, str] = {}
    nodes = [*((shown_path(path), _file(path)) for path in files), *(_pair(text) for text in pairs)]
    _check_ignored(ignored, [node for _, node in nodes])
    for place, node in nodes:
        found: dict[str, Any] = {}
        for name, value in _entries(node, place, ignored):
            if name in found and found[name] != value:
                raise ConfigError(f"{name}: is set twice, by two of its names (in {place})")
            found[name] = value
        raw.update(found)
        places.update(dict.fromkeys(found, place))
    checked = {}
    for name in raw:
        try:
            value = _resolved(raw, name)
            if value is not None:
                checked[name] = KEYS[name].check(name, value)
        except ConfigError as error:
            raise ConfigError(f"{error} (in {places[name]})") from None
    return checked


def _file(path: Path) -> DictConfig:
    return read_mapping(path, like="model_type: VICReg")[1]


def _pair(text: str) -> tuple[str, DictConfig]:
    key, separator, _ = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--values {shown(text)}: must be key=value, as in vicreg.sim_coeff=25")
    try:
        return "--values", OmegaConf.from_dotlist([text])
    except Exception as error:  # the errors of yaml and OmegaConf have no common base class
        raise ConfigError(f"--values {shown(text)}: cannot be read ({one_line(error)})") from error


def _entries(node: DictConfig, place: str, ignored: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the full name and the unresolved value of each key in ``node``."""
    plain = OmegaConf.to_container(node, resolve=False)
    assert isinstance(plain, Mapping)
    for key, value in plain.items():
        name = str(key)
        if name not in SECTIONS:
            entries = [(name, value)]
        elif isinstance(value, Mapping) or value is None:
            entries = [(f"{name}.{inner}", item) for inner, item in (value or {}).items()]
        else:
            raise ConfigError(f"{name}={shown(value)}: must be a section of keys (in {place})")
        for full, item in entries:
            if name not in ignored and full not in ignored:
                yield _known(full, place), item


def _check_ignored(ignored: Sequence[str], nodes: Sequence[DictConfig]) -> None:
    """Refuse a key to skip that no file and no pair has."""
    written: list[str] = []
    for node in nodes:
        plain = OmegaConf.to_container(node, resolve=False)
        assert isinstance(plain, Mapping)
        for key, value in plain.items():
            written.append(str(key))
            written += [f"{key!s}.{name!s}" for name in value] if isinstance(value, Mapping) else []
    for name in ignored:
        if name not in written:
            close = nearest(name, written)
            hint = f"; did you mean {close!r}?" if close else ""
            raise ConfigError(f"--ignore {shown_path(name)}: no file has it{hint}")


def _known(name: str, place: str) -> str:
    try:
        return known(name)
    except ConfigError as error:
        raise ConfigError(f"{error} (in {place}; --ignore {shown_path(name)} leaves it out)") from None


def _resolved(raw: Mapping[str, Any], name: str) -> Any:
    """The value of ``name``, with references to other keys, such as ``${run_name}``, resolved."""
    if not isinstance(raw[name], str) or not ("${" in raw[name] or raw[name] == "???"):
        return raw[name]
    config = OmegaConf.create({})
    for key, value in raw.items():
        OmegaConf.update(config, key, value)
    try:
        return OmegaConf.select(config, name, throw_on_missing=True, throw_on_resolution_failure=True)
    except Exception as error:  # a resolver may raise any exception
        raise ConfigError(f"{name}={shown(raw[name])}: {one_line(error)}") from error
