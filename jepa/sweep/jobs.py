"""From points to jobs: composed, checked and named by their hash before the first one starts."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
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
from jepa.config.messages import all_keys, explain
from jepa.config.search_path import groups
from jepa.errors import ConfigError
from jepa.estimate import Workload
from jepa.sweep import folders, points, records

Check = Callable[[DictConfig], None]


@dataclass
class Job:
    """One point of a sweep: what to run, and where its files are."""

    hash: str
    overrides: list[str]
    label: str
    folder: Path
    model: str  # the option chosen for the group "model", for estimates of time
    workload: Workload  # what it has to do, for estimates of time
    epochs: float | None = None  # of its training
    damage: str | None = None  # why no run can go on in its folder as it is
    metric: str | None = None  # what the sweep minimises; None: what the run was asked for
    trial: int | None = None  # its number in a search
    deaths: int = 0  # how often it was killed in this sitting
    extras: dict[str, Any] = field(default_factory=dict)  # operational keys that JobTask sets in its configuration

    @property
    def launch_overrides(self) -> list[str]:
        """What a launcher is given: the job's overrides, and the folder that Hydra makes its own."""
        folder = points.override_value(str(self.folder.parent))
        return [*self.overrides, f"hydra.sweep.dir={folder}", f"hydra.sweep.subdir={points.override_value(self.hash)}"]


class Composer:
    """Composes the jobs of one sweep, each as Hydra's own loader would, most of them without asking it.

    Hydra composes the files that the groups' choices name, then applies the values. Jobs of a sweep mostly differ in
    values, so the first part is done once for each set of choices. The launcher composes every job anew, by itself.
    """

    def __init__(self, *, loader: ConfigLoader, config: DictConfig, check: Check | None) -> None:
        """Args:
        loader: Hydra's, from the sweeper's context.
        config: the sweep's own composed configuration.
        check: raises ConfigError for a job that could not run.
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
        except Exception:  # said by compose, in one line
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
        """The full names of the keys that some job composed so far has."""
        return {key for config in (self._config, *self._bases.values()) for key in all_keys(config)}

    def _base(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._bases:
            self._bases[choices] = self._load(choices)
        return self._bases[choices]

    def _from_base(self, overrides: Sequence[str]) -> DictConfig:
        """Compose the choices once, then set the values on a copy."""
        values = [override for override in map(self._parse, overrides) if self._is_value(override)]
        config = copy.deepcopy(self._base(self._choices(overrides)))
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            return self._load(overrides)  # for Hydra's own words on what is wrong
        with read_write(config.hydra):
            config.hydra.overrides.task = list(overrides)
        return config

    def _choices(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Those of ``overrides`` that do more than set a value."""
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
            model=str(choices.get("model")),
            workload=workload_of(config),
            epochs=OmegaConf.select(config, "trainer.epochs"),
            metric=objective_of(config),
        )
        if os.path.lexists(job.folder) and records.done_result(job.folder, job.hash, job.metric) is None:
            job.damage = folders.damage(job.folder, scientific_config(config))
        return job, config

    def check(self, job: Job, config: DictConfig) -> None:
        """Refuse a job that could not run.

        Raises:
            ConfigError: whatever the check finds, with the job's overrides.
        """
        if self._check is None:
            return
        with open_dict(config):
            config.rerun = True  # what is in its folder is looked at by itself (Job.damage): it stops no other job
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(job.folder.parent)
            config.hydra.sweep.subdir = job.hash
        try:
            self._check(config)
        except ConfigError as error:
            raise ConfigError(f"{error} (in the job {' '.join(job.overrides)})") from error

    def launch_config(self, job_config: DictConfig, folder: Path) -> DictConfig:
        """The configuration to set a launcher up with.

        Jobs are composed without the sweep file. Hydra insists that their launcher and sweeper are those of the sweep's
        own configuration, so that one is given the nodes that the jobs have.
        """
        config = copy.deepcopy(self._config)
        with read_write(config.hydra), open_dict(config.hydra):
            for node in ("launcher", "sweeper"):
                config.hydra[node] = copy.deepcopy(job_config.hydra[node])
            for group in ("hydra/launcher", "hydra/sweeper"):
                config.hydra.runtime.choices[group] = job_config.hydra.runtime.choices.get(group)
            config.hydra.sweep.dir = str(folder)
            # A launcher sets Hydra's logging up anew: its line for every job would get in the display's way.
            OmegaConf.update(config.hydra.hydra_logging, "loggers.hydra.level", "WARNING", force_add=True)
        return config


def objective_of(config: DictConfig) -> str | None:
    """The metric that ``config`` asks to minimise."""
    name = OmegaConf.select(config, "objective")
    return None if name is None else str(name)


def _has(config: DictConfig, key: str) -> bool:
    """Whether ``config`` has the dotted ``key``, whatever its value."""
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
    """Jobs without those that an earlier one equals in everything but spelling."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.hash, job)
    return list(found.values())


def workload_of(config: DictConfig) -> Workload:
    """What the run that ``config`` describes has to do."""
    return Workload.of(lambda key: OmegaConf.select(config, key))
