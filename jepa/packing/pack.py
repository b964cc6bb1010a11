"""Many jobs as one batched program: which jobs fit together, how many at once, and how a pack runs.

Jobs fit together where they differ in numbers alone (seed, noise coefficients, learning rates, loss coefficients,
temperature, ...). A packed job has a folder, metrics, checkpoint and result of its own, as if it had run alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from jepa.data.stream import Stream
from jepa.errors import ConfigError, error_words
from jepa.kernels import install
from jepa.packing.executors import MEASURED
from jepa.packing.trainer import PackTrainer
from jepa.prepare import make_loggers
from jepa.store import checkpoint
from jepa.store.config import flat
from jepa.store.run_folder import Earlier, inspect, occupied
from jepa.store.run_log import RunLog
from jepa.training.outcome import Outcome
from jepa.training.plan import Plan
from jepa.training.step import autocast
from jepa.training.trainer import Trainer

log = logging.getLogger(__name__)

# The share of free memory that a pack may use.
MEMORY_SHARE = 0.8
# The largest memory of a step, divided by what the forward pass saves for the backward pass. benchmarks/packing.py
# measured 2.8 for VICReg and 2.0 for RSSM, batched, on a CPU.
STEP_OVERHEAD = 3.0
# On a CPU a larger pack is no faster, because its working set does not fit in the caches.
LARGEST_CPU_PACK = 8


@dataclass(frozen=True)
class PackOptions:
    """How packs are run; ``conf/hydra/launcher/packed.yaml`` explains each option."""

    pack_size: int | None  # None: as many as fit in memory
    executor: str | None  # one of EXECUTORS, or "measured"; None: "measured" on a GPU, "loop" on a CPU
    common_random_numbers: bool

    def executor_on(self, device: torch.device) -> str:
        """The executor that is used on ``device``."""
        return self.executor or ("loop" if device.type == "cpu" else MEASURED)


class PackFailed(RuntimeError):
    """A pack of several jobs cannot go on. Each job can be continued from its last checkpoint."""


def group(plans: Sequence[Plan], *, pack_size: int) -> list[list[int]]:
    """Divide jobs into packs.

    Args:
        plans: jobs that are not finished yet.
        pack_size: the largest number of jobs in a pack.

    Returns:
        For each pack, the indices of its jobs in ``plans``; packs in the order of their first jobs.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, plan in enumerate(plans):
        groups.setdefault(pack_key(plan), []).append(index)
    return [rows[first : first + pack_size] for rows in groups.values() for first in range(0, len(rows), pack_size)]


def pack_key(plan: Plan) -> Hashable:
    """A key that is equal for jobs that fit in one pack.

    The key holds every part of the configuration, but not the numbers that a program holds in tensors.
    """
    with torch.device("meta"):
        method = plan.build_method()
    numbers = {"seed", *(f"dataset.{key}" for key in plan.dataset.hyperparameter_names)}
    numbers |= {f"optimizer.{key}" for key in ("base_lr", *plan.optimizer.hyperparameters())}
    numbers |= {f"model.{key}" for key in method.hyperparameter_names} | plan.short_keys
    rest = {key: value for key, value in flat(plan.scientific).items() if key not in numbers}
    common = (json.dumps(rest, sort_keys=True), str(plan.device), plan.config.trainer, plan.config.checkpoint)
    return common, method.structure(), tuple(plan.optimizer.hyperparameters()), _step(plan)


def automatic_pack_size(plan: Plan) -> int:
    """How many jobs like ``plan`` fit in the memory that is free now; at least 1."""
    fits = int(MEMORY_SHARE * free_bytes(plan.device) / bytes_per_job(plan))
    if plan.device.type == "cpu":
        fits = min(fits, LARGEST_CPU_PACK)
    return max(1, fits)


def bytes_per_job(plan: Plan) -> int:
    """Memory that a job adds to a pack, in bytes: parameters, gradients, optimizer state, and activations."""
    method = plan.initial_method().to(plan.device)
    install(method, device=plan.device, precision=plan.config.precision, batched=True)
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in method.parameters())
    batch = Stream(plan.dataset, plan.config.seed, "train", None, plan.device).next()
    generator = torch.Generator(plan.device)
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(plan.device, plan.config.precision),
    ):
        losses = method(batch, method.draw_latent_noise(generator, plan.dataset.batch_size, plan.device))
    states = len(plan.optimizer.init_state(torch.zeros(1)))
    del losses
    return int(STEP_OVERHEAD * sum(storages.values()) + (3 + states) * parameters)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on ``device`` now, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = _meminfo().get("MemAvailable")
    return available if available is not None else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def run_pack(plans: Sequence[Plan], options: PackOptions) -> list[Outcome]:
    """Train and judge the jobs of one pack, each in its own folder.

    Args:
        plans: jobs with equal :func:`pack_key`.
        options: how the pack is run.

    Returns:
        The outcomes, in order; each has been written to its job's folder.

    Raises:
        PackFailed: a pack of several jobs failed, or the folder of one of them cannot be used; smaller packs may work.
        ConfigError: ``plans`` is a single job, whose folder or checkpoint cannot be used.
        KeyboardInterrupt: a signal asked to stop; every job's checkpoint has been saved.
    """
    try:
        return _run_pack(plans, options)
    except Exception as error:
        if len(plans) == 1:
            raise
        raise PackFailed(error_words(error)) from error


def _run_pack(plans: Sequence[Plan], options: PackOptions) -> list[Outcome]:
    earlier = [Earlier() if plan.config.rerun else inspect(plan.folder, plan.scientific) for plan in plans]
    loggers = [[logger for logger in make_loggers(plan) if not logger.uses_screen] for plan in plans]
    with ExitStack() as stack:
        logs = [stack.enter_context(RunLog()) for _ in plans]
        if len(plans) == 1:
            trainer: Trainer | PackTrainer = Trainer(plans[0], loggers=loggers[0], resume=earlier[0].checkpoint)
        else:
            trainer = PackTrainer(
                plans,
                loggers=loggers,
                resume=[found.checkpoint for found in earlier],
                executor=options.executor_on(plans[0].device),
                common_random_numbers=options.common_random_numbers,
            )
        for plan, run_log in zip(plans, logs, strict=True):
            stack.enter_context(
                occupied(plan.folder, config=plan.plain, overrides=plan.overrides, aside=plan.config.rerun)
            )
            run_log.open(plan.folder)
        if isinstance(trainer, Trainer):
            return [trainer.run()]
        executor, common = trainer.program.executor, options.common_random_numbers
        trainer.note(pack={"size": len(plans), "executor": executor, "common_random_numbers": common})
        log.info("a pack of %d jobs (%s)", len(plans), executor)
        return trainer.run()


def _step(plan: Plan) -> int:
    """The step at which the run continues; -1 if its checkpoints cannot be used. Jobs of one pack start at one step."""
    try:
        state = None if plan.config.rerun else checkpoint.latest(plan.folder, plan.config_hash).state
    except ConfigError:
        return -1  # the job raises the same error when it starts
    return 0 if state is None else int(state["step"])


def _meminfo() -> dict[str, int]:
    """Linux's /proc/meminfo, in bytes by name; empty on other systems."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return {}
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}
