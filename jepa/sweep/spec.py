"""The ``sweep`` node of a configuration: a closed dataclass, checked first."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from jepa.config.compose import OPERATIONAL_KEYS, OPERATIONAL_NESTED_KEYS, canonical
from jepa.config.schema import check_text, closed
from jepa.config.search_path import SCALE_GROUP
from jepa.errors import (
    ConfigError,
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_path,
    shown,
    shown_path,
)
from jepa.files import Damaged
from jepa.store import layout
from jepa.store.archive import read_archive
from jepa.sweep.arguments import Arguments, bare
from jepa.sweep.leaving_out import COLLECTIONS
from jepa.sweep.points import override_value, short

TOP_GROUPS = ("benchmark", "dataset", "logger", "model", "optimizer", "probe", "scale", "trainer")
_NAME_LENGTH = 60
_WORD = r"[\w+=,@-][\w.+=,@-]*"


@dataclass(frozen=True)
class SweepConfig:
    """The keys of a sweep file and of ``sweep.KEY=…``. conf/config.yaml holds the defaults."""

    name: str | None
    axes: dict[str, Any]
    zipped: list[object]
    points: list[object]
    overrides: dict[str, Any]
    leave_out: str | None
    given: dict[str, Any]
    max_jobs: int
    retries: int
    n_trials: int | None
    space: dict[str, Any]
    try_preset: bool
    preset_margin: float
    sampler: str
    sampler_options: dict[str, Any]
    sampler_seed: int
    pruner: str
    pruner_options: dict[str, Any]
    storage: str | None
    final: dict[str, Any]
    auto: list[object]

    def __post_init__(self) -> None:
        check_count("sweep.max_jobs", self.max_jobs, maximum=10**6)
        check_count("sweep.retries", self.retries, minimum=0, maximum=1000)
        if self.n_trials is not None:
            check_count("sweep.n_trials", self.n_trials, maximum=10**6)
        check_count("sweep.sampler_seed", self.sampler_seed, minimum=0, maximum=2**32 - 1)
        check_flag("sweep.try_preset", self.try_preset)
        check_number("sweep.preset_margin", self.preset_margin, minimum=0, below=1)
        if self.preset_margin and not self.try_preset:
            raise ConfigError(f"sweep.preset_margin={self.preset_margin:g}: needs sweep.try_preset=true")
        for key in ("name", "axes", "zipped", "points", "overrides", "space", "storage", "final"):
            check_text(f"sweep.{key}", getattr(self, key))
        if self.leave_out is not None:
            check_choice("sweep.leave_out", self.leave_out, COLLECTIONS)
            if self.n_trials is not None:
                raise ConfigError("sweep.leave_out: is for a grid; a search (sweep.n_trials) has no such jobs")
        if self.name is not None and (len(self.name) > 200 or not re.fullmatch(rf"{_WORD}(/{_WORD})*", self.name)):
            raise ConfigError(f"sweep.name={shown(self.name)}: must be the name of a folder below outputs/")

    @property
    def total(self) -> int:
        """The number of trials of a search, over all sittings and processes."""
        assert self.n_trials is not None, "a grid has no trials"
        return self.n_trials


@dataclass(frozen=True)
class Switches:
    """The top-level keys that control a sweep."""

    dry_run: bool
    yes: bool
    retry_failed: bool
    reuse: list[str]
    rerun: bool
    progress: str

    def __post_init__(self) -> None:
        for folder in self.reuse:
            if not os.path.isdir(folder):
                raise ConfigError(f"reuse={shown_path(folder)}: no such folder")
            try:
                if not read_archive(folder):
                    _check_reused(folder)
            except Damaged as damage:
                raise ConfigError(f"reuse={shown_path(folder)}: {damage}") from damage


def _check_reused(folder: str) -> None:
    """Check that ``folder``, which holds no archive, is a sweep's, or is empty: the folder of a sweep to come.

    Raises:
        ConfigError: names the folders in it that are.
    """
    if _is_sweep(folder) or not os.listdir(folder):
        return
    inner = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    found = [path for path in inner if os.path.isdir(path) and _is_sweep(path)]
    hint = f"; name one of {', '.join(found)}, or several as [a,b]" if found else ""
    raise ConfigError(f"reuse={shown_path(folder)}: holds no sweep and no archive{hint}")


def _is_sweep(folder: str) -> bool:
    if os.path.isfile(os.path.join(folder, layout.SWEEP)) or read_archive(folder):
        return True
    jobs = (os.path.join(folder, name, layout.RESULT) for name in os.listdir(folder))
    return any(map(os.path.isfile, jobs))


def read_sweep(config: DictConfig) -> tuple[SweepConfig, Switches]:
    """Read and check the ``sweep`` node and the switches of ``config``.

    Raises:
        ConfigError: an unknown key, or an invalid value.
    """
    plain = OmegaConf.to_container(config.sweep, resolve=True)
    assert isinstance(plain, Mapping)
    sweep = closed(SweepConfig, {str(key): value for key, value in plain.items()}, "sweep")
    folders = _folders("reuse", OmegaConf.select(config, "reuse"))
    switches = {
        name: check_flag(name, OmegaConf.select(config, name, default=default))
        for name, default in (("dry_run", False), ("yes", False), ("retry_failed", True), ("rerun", False))
    }
    return sweep, Switches(reuse=folders, progress=str(OmegaConf.select(config, "progress") or "auto"), **switches)


def sweep_names(sweep: SweepConfig, file: str | None, arguments: Arguments) -> list[str]:
    """The names that the sweep's folder may have: the current name first, then names from earlier versions.

    ``sweep.name`` is the name if it is set. Otherwise:

    - a grid from a sweep file has the name of the file;
    - a grid without a file is named by the keys that it varies and a digest of the values that all jobs share, so it
      keeps its folder when an axis gets more values;
    - a search is named by its sweep file and the values that all trials share, because each search is a study.

    Numbers have one spelling (1.0 is 1).
    """
    if sweep.name is not None:
        return [sweep.name]
    fixed = scientific(arguments.fixed)
    same = {key: one_spelling(value) for key, value in fixed.items()}
    if sweep.n_trials is not None:
        return [_search_name(file, same), _long_search_name(file, fixed)]
    if file is not None:
        return [file]
    varied = sorted(map(bare, arguments.axes)) + sorted(bare(key) for key in sweep.axes)
    file_parts = (sweep.zipped, sweep.points, sweep.overrides)
    now = (varied, sorted(same.items()), *map(canonical, file_parts))
    before = (varied, sorted(fixed.items()), *file_parts)
    return ["-".join(["multirun", *map(short, varied), _digest(told)]) for told in (now, before)]


def _search_name(file: str | None, fixed: Mapping[str, str]) -> str:
    """The name of a search, for example ``search-vicreg-static_noise_1.25``. A long name ends in a digest."""
    words = [
        _safe(value) if key in TOP_GROUPS else f"{short(key)}_{_safe(value)}"
        for key, value in sorted(fixed.items(), key=_groups_first)
    ]
    name = "-".join([file or "search", *words])
    if len(name) <= _NAME_LENGTH and len(set(map(short, fixed))) == len(fixed):
        return name
    return f"{name[: _NAME_LENGTH - 7].rstrip('-_.')}-{_digest(sorted(fixed.items()))}"


def _long_search_name(file: str | None, fixed: Mapping[str, str]) -> str:
    """The name of a search in earlier versions, for example ``search-model=vicreg-static_noise=1.25``."""
    words = (f"{short(key)}={_safe(value)}" for key, value in sorted(fixed.items(), key=_groups_first))
    return "-".join([file or "search", *words])


def _digest(told: object) -> str:
    return hashlib.sha256(repr(told).encode()).hexdigest()[:6]


def one_spelling(value: str) -> str:
    """The standard spelling of an override's value: ``1.0`` and ``1e0`` become ``1``."""
    override = OverridesParser.create().parse_override(f"key={value}")
    return value if override.is_sweep_override() else override_value(canonical(override.value()))


def scientific(overrides: Mapping[str, str]) -> dict[str, str]:
    """The ``overrides`` that change results, without operational keys. Keys lose their + and ~.

    A scale is kept, because its option sets keys that change results.
    """
    operational = (OPERATIONAL_KEYS - {SCALE_GROUP}) | OPERATIONAL_NESTED_KEYS
    return {
        bare(key): value
        for key, value in overrides.items()
        if bare(key).split(".")[0] not in operational and bare(key) not in operational
    }


def _groups_first(item: tuple[str, str]) -> tuple[bool, str]:
    return "." in item[0], item[0]


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text).strip("_")[:60]


def _folders(name: str, value: Any) -> list[str]:
    """The folders of a key whose value is one folder or a list of folders. name: the key, for messages."""
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, (list, ListConfig)) or not all(isinstance(folder, str) for folder in found):
        raise ConfigError(f"{name}={shown(value)}: must be a folder, or [several]")
    return [check_path(name, folder) for folder in found]
