"""A method, its optimizer and its state on a device. The trainer steps, saves and probes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from jepa.methods.base import Method
from jepa.optim.base import Optimizer
from jepa.training.cuda_graph import GraphedStep, Replay, Step, record_cuda_graph
from jepa.training.gradient_norms import gradient_norms, kept
from jepa.training.runtime import prepare_compilation
from jepa.training.step import Model, autocast, bound_state, train_step
from jepa.types import Batch, Losses, Rollout


class Program:
    """The state of one model and the step that advances it."""

    def __init__(self, method: Method, optimizer: Optimizer, *, device: torch.device, precision: str) -> None:
        """Move the model to ``device``. precision: "fp32", "tf32" or "bf16" (autocast)."""
        self.device = device
        self.precision = precision
        self.method = method.to(device)
        self.state = bound_state(self.method, optimizer, device)
        self._model: Model = self.method
        self._step: Step = self._take_step

    def compile(self) -> None:
        """Compile the forward and backward pass with ``torch.compile``; worth it for runs of thousands of steps.

        This drops the code compiled for earlier programs of the process. Otherwise torch, which keeps a few variants
        of a function only, would run this program uncompiled.
        """
        prepare_compilation()
        torch.compiler.reset()
        self._model = cast(Model, torch.compile(self.method))

    def replay_steps(self, record: Callable[[Callable[[], Losses]], Replay] = record_cuda_graph) -> None:
        """Record the train step after its first calls, then replay it; see :class:`GraphedStep`."""
        self._step = GraphedStep(self._take_step, record=record)

    def step(self, batch: Batch, latent_noise: Tensor | None, learning_rate: Tensor) -> Losses:
        """Take one train step, see :func:`jepa.training.step.train_step`. The next step may overwrite the losses."""
        return self._step(batch, latent_noise, learning_rate)

    def _take_step(self, batch: Batch, latent_noise: Tensor | None, learning_rate: Tensor) -> Losses:
        self.method.train()
        return train_step(self._model, self.state, batch, latent_noise, learning_rate, precision=self.precision)

    def gradient_norms(self, batch: Batch, latent_noise: Tensor | None) -> dict[str, Tensor]:
        """See :func:`jepa.training.gradient_norms.gradient_norms`; each []."""
        self.method.train()
        with kept(dict(self.method.named_buffers())), autocast(self.device, self.precision):
            return gradient_norms(self.method.encode_batch, self.method.contributions, batch, latent_noise, leading=0)

    @torch.no_grad()
    def rollout(self, batch: Batch, latent_noise: Tensor | None) -> Rollout:
        """Embeddings of the frozen model in float32: encodings [S, B, D] and predictions [T-1, B, D]."""
        self.method.eval()
        with autocast(self.device, self.precision):
            rollout = self.method.rollout(batch.states, batch.actions, latent_noise)
        return Rollout(rollout.encodings.float(), rollout.predictions.float())

    @torch.no_grad()
    def apply_eval(self, name: str, *inputs: Any) -> Any:
        """Call another function of the frozen model, for example the supervised head."""
        self.method.eval()
        return getattr(self.method, name)(*inputs)

    def saved(self) -> dict[str, dict[str, Tensor]]:
        """Copies for a checkpoint: ``model`` by name, and ``optimizer``."""
        tensors = {"model": self.method.state_dict(), "optimizer": self.state.optimizer_state}
        return {part: {name: value.detach().clone() for name, value in held.items()} for part, held in tensors.items()}

    @torch.no_grad()
    def load(self, saved: dict[str, dict[str, Tensor]]) -> None:
        """Continue from :meth:`saved`; names and shapes must agree exactly."""
        self.load_model(saved["model"])
        for name, value in self.state.optimizer_state.items():
            value.copy_(saved["optimizer"][name])

    def load_model(self, model: dict[str, Tensor]) -> None:
        """Load parameters and persistent buffers."""
        self.method.load_state_dict(model)
