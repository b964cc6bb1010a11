"""Compose the jobs of a sweep, check them, and name them by their hash, before the first job starts."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from jepa.config.compose import config_hash, scientific_config
from jepa.config.keys import all_keys
from jepa.config.messages import explain
from jepa.config.search_path import groups
from jepa.errors import ConfigError
from jepa.estimate import Workload
from jepa.sweep import folders, points, records

Check = Callable[[DictConfig], None]


@dataclass
class Job:
    """One point of a sweep: its overrides, its folder, and facts for estimates of time."""

    hash: str
    overrides: list[str]
    label: str
    folder: Path
    model: str  # kind_of the job's choices, for estimates of time
    workload: Workload  # the amount of work, for estimates of time
    epochs: float | None = None  # training epochs
    names: dict[str, Any] = field(default_factory=dict)  # what the hash leaves out of what tables show
    damage: str | None = None  # the reason why no run can continue in the folder
    metric: str | None = None  # the metric that the sweep minimises; None: the objective of the run itself
    trial: int | None = None  # the number of the trial in a search
    final_of: str | None = None  # the hash of the trial whose parameters a final run of a search has
    deaths: int = 0  # how often the job was killed in this sitting
    extras: dict[str, Any] = field(default_factory=dict)  # operational keys that JobTask sets in the configuration

    @property
    def launch_overrides(self) -> list[str]:
        """The overrides for the launcher: the job's own, and the output folder that Hydra is to use."""
        folder = points.override_value(str(self.folder.parent))
        return [*self.overrides, f"hydra.sweep.dir={folder}", f"hydra.sweep.subdir={points.override_value(self.hash)}"]


class Composer:
    """Composes the jobs of one sweep. The result is the same as from Hydra's loader, in less time.

    Hydra first composes the files of the chosen group options, then applies the values. The jobs of a sweep mostly
    differ in values, so the first part is done once for each set of choices. The launcher composes every job again.
    """

    def __init__(self, *, loader: ConfigLoader, config: DictConfig, check: Check | None) -> None:
        """Args:
        loader: Hydra's loader, from the sweeper's context.
        config: the composed configuration of the sweep itself.
        check: raises ConfigError for a job that cannot run.
        """
        self._loader = loader
        self._config = config
        self._check = check
        self._groups = {*config.hydra.runtime.choices, *groups()}  # Hydra records no choice of several options
        self._hydra_overrides = [str(text) for text in config.hydra.overrides.hydra]
        self._parsed: dict[str, Override] = {}
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of one job.

        Raises:
            ConfigError: an unknown key or option, in one line with the nearest spelling.
        """
        try:
            return self._from_base(overrides)
        except Exception as error:
            explained = explain(error, all_keys(self._config))
            if explained is None:
                raise
            raise ConfigError(f"{explained} (in the job {' '.join(overrides)})") from error

    def fitting(self, overrides: Sequence[str], shared: frozenset[str]) -> tuple[list[str], list[str]]:
        """``overrides`` without those of the ``shared`` keys that this job's group options do not have.

        Returns:
            The overrides kept, and the keys left out.
        """
        parsed = [self._parse(text) for text in overrides]
        try:
            base = self._base(self._choices(overrides))
        except Exception:  # compose reports the error in one line
            return list(overrides), []
        kept, dropped = [], []
        for text, override in zip(overrides, parsed, strict=True):
            key = override.key_or_group
            if self._is_value(override) and key in shared and "." in key and not _has(base, key):
                dropped.append(key)
            else:
                kept.append(text)
        return kept, dropped

    def known_keys(self) -> set[str]:
        """The full names of all keys of the sweep's configuration and of the jobs composed so far."""
        return {key for config in (self._config, *self._bases.values()) for key in all_keys(config)}

    def _base(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._bases:
            self._bases[choices] = self._load(choices)
        return self._bases[choices]

    def _from_base(self, overrides: Sequence[str]) -> DictConfig:
        """Copy the configuration of the job's choices, and set the job's values in the copy."""
        values = [override for override in map(self._parse, overrides) if self._is_value(override)]
        config = copy.deepcopy(self._base(self._choices(overrides)))
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            return self._load(overrides)  # Hydra composes the job itself and reports the error
        with read_write(config.hydra):
            config.hydra.overrides.task = list(overrides)
        return config

    def _choices(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """The ``overrides`` that choose, add or delete, rather than set the value of an existing key."""
        return tuple(text for text in overrides if not self._is_value(self._parse(text)))

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        return self._loader.load_configuration(
            config_name=self._config.hydra.job.config_name,
            overrides=[*self._hydra_overrides, *overrides],
            run_mode=RunMode.RUN,
        )

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = OverridesParser.create(config_loader=self._loader).parse_override(text)
        return self._parsed[text]

    def _is_value(self, override: Override) -> bool:
        """Whether the override sets an existing key, rather than choosing, adding or deleting something."""
        plain = override.type == OverrideType.CHANGE and override.package is None and not override.is_sweep_override()
        key = override.key_or_group
        return plain and "/" not in key and key not in self._groups and not key.startswith("hydra")

    def job(self, overrides: Sequence[str], *, label: str, sweep_folder: Path) -> tuple[Job, DictConfig]:
        """Compose one job and name it.

        Returns:
            The job, and its configuration for :meth:`check`.
        """
        config = self.compose(overrides)
        job_hash = config_hash(config)
        choices = config.hydra.runtime.choices
        job = Job(
            hash=job_hash,
            overrides=list(overrides),
            label=label,
            folder=sweep_folder / job_hash,
            model=kind_of(choices),
            workload=workload_of(config),
            epochs=OmegaConf.select(config, "trainer.epochs"),
            names=names_of(config),
            metric=objective_of(config),
        )
        if os.path.lexists(job.folder) and records.done_result(job.folder, job.hash, job.metric) is None:
            job.damage = folders.damage(job.folder, scientific_config(config))
        return job, config

    def check(self, job: Job, config: DictConfig) -> None:
        """Refuse a job that cannot run.

        Raises:
            ConfigError: the error of the check, with the job's overrides.
        """
        if self._check is None:
            return
        with open_dict(config):
            config.rerun = True  # ignore the folder's contents: Job.damage reports them and stops no other job
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(job.folder.parent)
            config.hydra.sweep.subdir = job.hash
        try:
            self._check(config)
        except ConfigError as error:
            raise ConfigError(f"{error} (in the job {' '.join(job.overrides)})") from error

    def launch_config(self, job_config: DictConfig, folder: Path) -> DictConfig:
        """The configuration for the launcher's setup.

        Hydra requires that the launcher and the sweeper of a job equal those of the sweep's configuration. Jobs are
        composed without the sweep file, so the launcher and sweeper nodes of a job are copied into the result.
        """
        config = copy.deepcopy(self._config)
        with read_write(config.hydra), open_dict(config.hydra):
            for node in ("launcher", "sweeper"):
                config.hydra[node] = copy.deepcopy(job_config.hydra[node])
            for group in ("hydra/launcher", "hydra/sweeper"):
                config.hydra.runtime.choices[group] = job_config.hydra.runtime.choices.get(group)
            config.hydra.sweep.dir = str(folder)
            # A launcher sets up Hydra's logging again. Hide its line for every job, which would disturb the display.
            OmegaConf.update(config.hydra.hydra_logging, "loggers.hydra.level", "WARNING", force_add=True)
        return config


def names_of(config: DictConfig) -> dict[str, Any]:
    """The chosen options, and the other names of ``config`` that tables show and the hash leaves out."""
    found = {key: config[key] for key in ("choices", "scale", "benchmark", "left_out") if key in config}
    return {key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()}


def objective_of(config: DictConfig) -> str | None:
    """The name of the metric to minimise; None where ``config`` names none."""
    name = OmegaConf.select(config, "objective")
    return None if name is None else str(name)


def _has(config: DictConfig, key: str) -> bool:
    """Whether ``config`` has the dotted ``key``, also with a missing or null value."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or part not in list(node):
            return False
        node = node._get_node(part)
    return True


def load_check(path: str | None) -> Check | None:
    """The function at the dotted ``path``."""
    if path is None:
        return None
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """The jobs without duplicates: the first job of each hash."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.hash, job)
    return list(found.values())


def kind_of(choices: Mapping[str, Any]) -> str:
    """The option chosen for the group "model", with the scale if there is one. Jobs of one kind take similar times."""
    model, scale = str(choices.get("model")), choices.get("scale")
    return f"{model} ({scale})" if scale else model


def workload_of(config: DictConfig) -> Workload:
    """The amount of work of the run that ``config`` describes."""
    return Workload.of(lambda key: OmegaConf.select(config, key))
