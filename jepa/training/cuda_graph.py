"""Record a train step once as a CUDA graph, then replay it: one launch instead of about a thousand.

At a small batch size the GPU is idle most of the time, because the CPU launches kernels too slowly. A graph reads and
writes the same memory at every step. The program therefore updates its state in place, and each step's inputs are
copied to the memory that the recorded step reads.
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

# Steps that run normally before one is recorded. In these, libraries choose algorithms and allocate workspaces.
WARMUP_STEPS = 3


class GraphedStep:
    """Calls ``step`` a few times, then records and replays it.

    The tensors of the state must stay in the same memory, and the shapes of the inputs must not change.

    Args:
        step: advances the state in place and returns losses. It must not wait for the device or draw random numbers.
        record: takes a call and returns a function that repeats it. That function returns the losses, always in the
            same memory.
    """

    def __init__(self, step: Step, *, record: Callable[[Callable[[], Losses]], Replay]) -> None:
        self._step = step
        self._record = record
        self._steps = 0
        self._inputs: tuple[Batch, Tensor | None, Tensor] | None = None
        self._replay: Replay | None = None

    def __call__(self, batch: Batch, latent_noise: Tensor | None, learning_rate: Tensor) -> Losses:
        """Take one step. The next call overwrites the losses, so read them before.

        Raises:
            RuntimeError: the step cannot be recorded, for example because it waits for the device.
        """
        if self._replay is None:
            self._steps += 1
            if self._steps <= WARMUP_STEPS:
                return self._step(batch, latent_noise, learning_rate)
            inputs = tree_map_only(Tensor, torch.clone, (batch, latent_noise, learning_rate))
            self._inputs = inputs
            self._replay = self._recorded(inputs)
        _copy((batch, latent_noise, learning_rate), self._inputs)
        return self._replay()

    def _recorded(self, inputs: tuple[Batch, Tensor | None, Tensor]) -> Replay:
        try:
            return self._record(lambda: self._step(*inputs))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            raise RuntimeError(
                f"trainer.cuda_graph=true: the train step cannot be recorded ({first}); trainer.cuda_graph=false "
                "trains without a recording"
            ) from error


def record_cuda_graph(call: Callable[[], Losses]) -> Replay:
    """Record ``call`` as a CUDA graph, without running it.

    Raises:
        RuntimeError: ``call`` waits for the device.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = call()

    def replay() -> Losses:
        graph.replay()
        return losses

    return replay


def _copy(given: object, kept: object) -> None:
    """Copy every tensor of ``given`` into the tensor of ``kept`` in the same place; the trees agree in structure."""
    sources, targets = (tree_leaves(tree) for tree in (given, kept))
    for source, target in zip(sources, targets, strict=True):
        if isinstance(source, Tensor):
            target.copy_(source)
