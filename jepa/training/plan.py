"""The record that describes a run before it starts: its checked configuration, its components and its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jepa import provenance
from jepa.config import extensions
from jepa.config.schema import RunConfig
from jepa.data.environment import Environment
from jepa.loggers.base import Logger
from jepa.methods.base import Method
from jepa.optim.base import Optimizer
from jepa.planning.planner import Planner
from jepa.probes import Probe
from jepa.seeding import derive_seed


@dataclass(frozen=True)
class Plan:
    """A run whose configuration has been checked; ``jepa.prepare.make_plan`` makes it."""

    config: RunConfig
    plain: Mapping[str, Any]  # the whole configuration, resolved
    scientific: Mapping[str, Any]  # the part of the configuration that the hash covers
    config_hash: str
    overrides: list[str]
    sweep_name: str | None  # None: the run is not a job of a sweep
    folder: Path
    device: torch.device
    dataset: Environment
    conditions: Mapping[str, Environment]  # by name: the environments that the run is probed in besides its own
    optimizer: Optimizer
    probe: Probe
    planner: Planner | None  # plans with the trained model
    loggers: Sequence[Logger]  # those of logger=; the loggers of files and screen are not among them
    build_method: Callable[[], Method]  # draws initial weights from torch's global generator
    short_keys: frozenset[str]  # short spellings of other keys, such as model.sim_coeff
    on_probe: Callable[[int, Mapping[str, float]], bool] | None  # (epoch, metrics) -> whether to prune the run

    def initial_method(self) -> Method:
        """The method with its initial weights, which depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.config.seed, "init"))
            return self.build_method()

    def total_steps(self, method: Method) -> int:
        """Number of train steps of the whole run; 0 for a method that is not trained."""
        return self.config.trainer.epochs * self.dataset.steps_per_epoch if method.trainable else 0

    def learning_rates(self, total_steps: int) -> torch.Tensor:
        """The learning rate of each step, [steps], on the device, so that no step waits for a transfer."""
        if total_steps == 0:
            return torch.zeros(0)
        factors = self.optimizer.schedule.factors(total_steps, self.dataset.steps_per_epoch)
        rates = factors * self.optimizer.scaled_lr(self.dataset.batch_size)
        return rates.to(torch.float32).to(self.device)

    def record(self) -> dict[str, Any]:
        """The entries of ``result.json`` that are known before the run starts."""
        return {
            "seed": self.config.seed,
            "config_hash": self.config_hash,
            "config": dict(self.plain),
            "choices": dict(self.config.choices),
            "overrides": self.overrides,
            "command": provenance.command(self.overrides),
            "versions": {**provenance.versions(), **extensions.versions(self.config.extensions)},
            "git_commit": provenance.git_commit(),
            "code": provenance.code(),
            "judge_stream": self.probe.judge_stream,
            "device": str(self.device),
            "machine": provenance.machine(),
            "started": provenance.timestamp(),
        }
