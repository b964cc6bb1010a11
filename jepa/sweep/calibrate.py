"""Measure the training time for one sequence on this machine, from a few training steps. No file is written."""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, open_dict

from jepa.sweep.child import in_child

if TYPE_CHECKING:
    from jepa.training.trainer import Trainer

log = logging.getLogger(__name__)

LIMIT_S = 1.0  # stop timing a model after this time
FEWEST_STEPS = 2  # steps that are timed in any case, besides the slower first one
LARGEST_BATCH = 64  # the time for one sequence hardly changes in larger batches


def seconds_per_sequence(configs: Mapping[str, DictConfig], *, threads: int) -> dict[str, float]:
    """Measure the training time for one sequence, in seconds, by model. A model that fails to train is left out.

    The measurement runs in a child process, so that CUDA stays uninitialised in this one, whose workers are forked.
    Nothing is downloaded for it.

    Args:
        configs: the configuration of one job for each model.
        threads: CPU threads of a job.
    """
    text = in_child(lambda: json.dumps(_all_measured(configs, threads)))
    return dict(json.loads(text)) if text else {}


def _all_measured(configs: Mapping[str, DictConfig], threads: int) -> dict[str, float]:
    from jepa.data.textures.cifar10 import OFFLINE

    os.environ[OFFLINE] = "1"  # in this child process alone
    found = {}
    for model, config in configs.items():
        try:
            found[model] = _measured(config, threads)
        except Exception:  # the estimate is optional, and the job itself reports the error
            log.debug("%s cannot be tried", model, exc_info=True)
    return found


def _measured(config: DictConfig, threads: int) -> float:
    from jepa.prepare import make_plan
    from jepa.training.runtime import prepare
    from jepa.training.trainer import Trainer

    with open_dict(config):
        config.dataset.batch_size = min(LARGEST_BATCH, int(config.dataset.batch_size))
        config.on_probe = None
        OmegaConf.update(config, "trainer.compile", "false")
    plan = make_plan(config)
    prepare(device=plan.device, threads=plan.config.threads or threads, precision=plan.config.precision)
    trainer = Trainer(plan)
    return _step_seconds(trainer) / plan.dataset.batch_size if trainer.total_steps else 0.0


def _step_seconds(trainer: Trainer) -> float:
    """The median time of a train step, in seconds, without the slower first step.

    On a CPU it is the processor's time for each thread, which does not depend on what else the machine does.
    """
    import torch

    from jepa.training.runtime import wait

    on_cpu = trainer.plan.device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1

    def clock() -> float:
        return time.process_time() / threads if on_cpu else time.perf_counter()

    def timed() -> float:
        started = clock()
        trainer.advance()
        wait(trainer.plan.device)
        return clock() - started

    first, times = timed(), list[float]()
    while trainer.step < trainer.total_steps:
        if len(times) >= FEWEST_STEPS and first + sum(times) > LIMIT_S:
            break
        times.append(timed())
    return statistics.median(times) if times else first
