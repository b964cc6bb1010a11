"""Times each executor with a few train steps of the pack itself, and chooses the fastest."""

from __future__ import annotations

import logging
import time

from torch import Tensor

from jepa.packing.program import EXECUTORS, PackedProgram
from jepa.training.cuda_graph import WARMUP_STEPS
from jepa.training.runtime import wait
from jepa.types import Batch

MEASURED = "measured"  # executor=measured: time each executor, then choose

log = logging.getLogger(__name__)


def choose_executor(program: PackedProgram, batch: Batch, latent_noise: Tensor | None) -> dict[str, float]:
    """Set the executor of ``program`` to the fastest one. If every executor fails, the executor stays as it was.

    An executor that fails is logged and left out. Parameters, buffers and the optimizer's state are restored.

    Args:
        program: a program of J > 1 jobs.
        batch, latent_noise: as for :meth:`PackedProgram.step`.

    Returns:
        Seconds per step, by executor.
    """
    state = {"params": program.state.params, **program.buffers, **program.state.optimizer_state}
    saved = {name: value.clone() for name, value in state.items()}
    before, seconds = program.executor, dict[str, float]()
    for executor in EXECUTORS:
        program.executor = executor
        try:
            seconds[executor] = seconds_per_step(program, batch, latent_noise)
        except RuntimeError as error:  # an operator is missing, or memory is too small
            log.warning("executor=%s is left out: %s", executor, str(error).partition("\n")[0])
        for name, value in saved.items():
            state[name].copy_(value)
    program.executor = min(seconds, key=seconds.__getitem__, default=before)
    return seconds


def seconds_per_step(program: PackedProgram, batch: Batch, latent_noise: Tensor | None) -> float:
    """Seconds per step: the shortest of three rounds of two steps, after steps for warming up."""
    learning_rate = program.state.params.new_zeros(program.num_jobs)
    rounds = []
    for steps in (WARMUP_STEPS + 1, 2, 2, 2):
        wait(program.device)
        started = time.perf_counter()
        for _ in range(steps):
            program.step(batch, latent_noise, learning_rate)
        wait(program.device)
        rounds.append((time.perf_counter() - started) / steps)
    return min(rounds[1:])
