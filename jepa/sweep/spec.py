"""The ``sweep`` node of a configuration: a closed node, checked before anything else happens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from jepa.config import OPERATIONAL_KEYS, OPERATIONAL_NESTED_KEYS
from jepa.config_schema import closed
from jepa.errors import ConfigError, check_count
from jepa.sweep.points import Arguments, bare, short


@dataclass(frozen=True)
class SweepConfig:
    """What a sweep file and ``sweep.KEY=…`` can say; values stand in conf/config.yaml."""

    name: str | None
    axes: dict[str, Any]
    zipped: list[object]
    points: list[object]
    overrides: dict[str, Any]
    max_jobs: int
    retries: int
    n_trials: int | None
    space: dict[str, Any]
    sampler: str
    sampler_options: dict[str, Any]
    sampler_seed: int
    pruner: str
    pruner_options: dict[str, Any]
    storage: str | None

    def __post_init__(self) -> None:
        check_count("sweep.max_jobs", self.max_jobs)
        check_count("sweep.retries", self.retries, minimum=0)
        if self.n_trials is not None:
            check_count("sweep.n_trials", self.n_trials)
        if self.name is not None and not re.fullmatch(r"[\w+=,@-][\w.+=,@-]*(/[\w+=,@-][\w.+=,@-]*)*", self.name):
            raise ConfigError(f"sweep.name={self.name!r}: must be the name of a folder below outputs/")


@dataclass(frozen=True)
class Switches:
    """The keys of the top level that steer a sweep."""

    dry_run: bool
    yes: bool
    retry_failed: bool
    reuse: list[str]
    rerun: bool
    progress: str

    def __post_init__(self) -> None:
        for folder in self.reuse:
            if not Path(folder).is_dir():
                raise ConfigError(f"reuse={folder}: no such folder")


def read_sweep(config: DictConfig) -> tuple[SweepConfig, Switches]:
    """The sweep that ``config`` describes.

    Raises:
        ConfigError: an unknown key or a value of another type.
    """
    plain = OmegaConf.to_container(config.sweep, resolve=True)
    assert isinstance(plain, Mapping)
    sweep = closed(SweepConfig, {str(key): value for key, value in plain.items()}, "sweep")
    reuse = OmegaConf.select(config, "reuse")
    folders = [] if reuse is None else [reuse] if isinstance(reuse, str) else [str(folder) for folder in reuse]
    switches = {
        name: bool(_boolean(name, OmegaConf.select(config, name, default=default)))
        for name, default in (("dry_run", False), ("yes", False), ("retry_failed", True), ("rerun", False))
    }
    return sweep, Switches(reuse=folders, progress=str(OmegaConf.select(config, "progress") or "auto"), **switches)


def sweep_name(sweep: SweepConfig, file: str | None, arguments: Arguments) -> str:
    """The name of the sweep's folder.

    A sweep file's own name, or for one without a file the keys it varies and a digest of what all its jobs share: so
    that the same sweep finds its folder again, also with a longer axis. A search adds what its trials share: each is a
    study.
    """
    if sweep.name is not None:
        return sweep.name
    fixed = scientific(arguments.fixed)
    if sweep.n_trials is not None:
        return "-".join(
            [
                file or "search",
                *(f"{short(key)}={_safe(value)}" for key, value in sorted(fixed.items(), key=_groups_first)),
            ]
        )
    if file is not None:
        return file
    varied = sorted(map(bare, arguments.axes)) + sorted(bare(key) for key in sweep.axes)
    told = repr((varied, sorted(fixed.items()), sweep.zipped, sweep.points, sweep.overrides))
    return "-".join(["multirun", *map(short, varied), hashlib.sha256(told.encode()).hexdigest()[:6]])


def scientific(overrides: Mapping[str, str]) -> dict[str, str]:
    """Those of ``overrides`` that change what is computed."""
    return {
        bare(key): value
        for key, value in overrides.items()
        if bare(key).split(".")[0] not in OPERATIONAL_KEYS and bare(key) not in OPERATIONAL_NESTED_KEYS
    }


def _groups_first(item: tuple[str, str]) -> tuple[bool, str]:
    return "." in item[0], item[0]


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text).strip("_")[:60]


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r}: must be true or false")
    return value
