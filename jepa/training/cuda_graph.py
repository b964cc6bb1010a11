"""A train step recorded once as a CUDA graph and replayed: one launch in place of a thousand.

At a small batch a GPU waits for launches, not for arithmetic. A graph needs the same memory at every step: the
program's state is updated in place and stays where it is; the inputs are copied to where the recorded step reads them.
Source: "CUDA Graphs" in PyTorch's notes on CUDA semantics (whole-network capture).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from jepa.types import Batch, Losses

Step = Callable[[Batch, Tensor | None, Tensor], Losses]
Replay = Callable[[], Losses]

# Steps taken as they are before one is recorded: libraries choose their algorithms and claim their workspaces in them.
WARMUP_STEPS = 3


class GraphedStep:
    """``step`` for as long as its state stays in place; the shapes of its inputs must not change.

    Args:
        step: advances the state in place and returns losses; must neither wait for the device nor draw random numbers.
        record: makes of a call a function that repeats it and returns its losses, always in the same memory.
    """

    def __init__(self, step: Step, *, record: Callable[[Callable[[], Losses]], Replay]) -> None:
        self._step = step
        self._record = record
        self._steps = 0
        self._inputs: tuple[Batch, Tensor | None, Tensor] | None = None
        self._replay: Replay | None = None

    def __call__(self, batch: Batch, latent_noise: Tensor | None, learning_rate: Tensor) -> Losses:
        """One step. The losses are to be read before the next call, which overwrites them."""
        if self._replay is None:
            self._steps += 1
            if self._steps <= WARMUP_STEPS:
                return self._step(batch, latent_noise, learning_rate)
            inputs = tree_map_only(Tensor, torch.clone, (batch, latent_noise, learning_rate))
            self._inputs = inputs
            self._replay = self._record(lambda: self._step(*inputs))
        _copy((batch, latent_noise, learning_rate), self._inputs)
        return self._replay()


def record_cuda_graph(call: Callable[[], Losses]) -> Replay:
    """Record ``call`` as a CUDA graph, without running it. RuntimeError where it waits for the device."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = call()

    def replay() -> Losses:
        graph.replay()
        return losses

    return replay


def _copy(given: object, kept: object) -> None:
    """Copy every tensor of one tree to where the other, of the same structure, has it."""
    sources, targets = (tree_leaves(tree) for tree in (given, kept))
    for source, target in zip(sources, targets, strict=True):
        if isinstance(source, Tensor):
            target.copy_(source)
