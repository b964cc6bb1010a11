"""J structurally equal models trained as one program; a single run is the case J = 1.

The parameters of all jobs live in one flat tensor ``[J, P]``; each module parameter is a view into it. The forward pass
of one job is written by a method's author as an ordinary module; here it is applied to one job directly, or to J jobs
through ``torch.func.vmap`` or job by job, whichever is faster on the device. The step around it is the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map, tree_map_only

from jepa.methods.base import Method
from jepa.optim.base import Optimizer
from jepa.optim.flat import FlatLayout
from jepa.training.cuda_graph import GraphedStep, Replay, Step, record_cuda_graph
from jepa.training.operators import MapsInTurn
from jepa.training.runtime import prepare_compilation
from jepa.types import Batch, Losses, Rollout

# How J > 1 jobs run: batched kernels; those but for the operators on maps, which are called job after job; and whole
# jobs one after another.
EXECUTORS = ("vmap", "mixed", "loop")
_Output = TypeVar("_Output")


class Program:
    """The trainable state of J jobs and the train step that advances them together."""

    def __init__(
        self,
        *,
        methods: Sequence[Method],
        optimizers: Sequence[Optimizer],
        device: torch.device,
        precision: str,
        executor: str = "vmap",
    ) -> None:
        """Stack the jobs' parameters and buffers on ``device``.

        Args:
            methods: J models that agree in every shape; numbers held in buffers may differ.
            optimizers: J optimizers of one class; their numeric hyperparameters may differ.
            device: where the program lives.
            precision: ``"fp32"`` or ``"bf16"`` (autocast: matrix products and convolutions in bfloat16).
            executor: how J > 1 jobs run, one of ``EXECUTORS``.

        Raises:
            ValueError: where the jobs do not agree in names or shapes.
        """
        _check_agreement(methods)
        self.device = device
        self.precision = precision
        self.template = methods[0].to(device)
        parameters = [dict(method.named_parameters()) for method in methods]
        self.layout = FlatLayout.of(parameters[0])
        self.params = torch.stack(
            [self.layout.flatten_single([p.detach() for p in job.values()]).to(device) for job in parameters]
        )
        self.buffers = {
            name: torch.stack([dict(method.named_buffers())[name].to(device) for method in methods])
            for name, _ in methods[0].named_buffers()
        }
        self.persistent = sorted(set(methods[0].state_dict()) - set(parameters[0]))
        self.optimizer = optimizers[0]
        self.hyper = _stack_hyperparameters(optimizers, device)
        self.optimizer_state = self.optimizer.init_state(self.params)
        self._forward: Callable[..., Losses] = self._call_losses
        self._has_after_step = type(self.template).after_step is not Method.after_step
        self._recorder: Callable[[Callable[[], Losses]], Replay] | None = None
        self.executor = executor

    @property
    def num_jobs(self) -> int:
        """J."""
        return self.params.shape[0]

    @property
    def executor(self) -> str:
        """How J > 1 jobs run. One that is set holds from the next step on; a recorded step is recorded anew."""
        return self._executor

    @executor.setter
    def executor(self, executor: str) -> None:
        assert executor in EXECUTORS, executor
        self._executor = executor
        self._bind()

    def compile(self) -> None:
        """Compile the forward and backward pass with ``torch.compile``; worth it for runs of thousands of steps.

        What was compiled for other programs in this process is dropped: torch keeps a few variants of one function
        only, and would take the next program's steps uncompiled.
        """
        prepare_compilation()
        torch.compiler.reset()
        self._forward = torch.compile(self._call_losses)

    def replay_steps(self, record: Callable[[Callable[[], Losses]], Replay] = record_cuda_graph) -> None:
        """Record the train step after its first calls and replay it from then on: see :class:`GraphedStep`."""
        self._recorder = record
        self._bind()

    # --- the train step ----------------------------------------------------------------------------------------

    def step(self, batch: Batch, noise: Tensor | None, learning_rate: Tensor) -> Losses:
        """Advance every job by one update, in place and without waiting for the device.

        Args:
            batch: ``[T, B, …]`` for one job, ``[J, T, B, …]`` for several.
            noise: standard normals of :meth:`Method.draw_noise`, stacked likewise, or None.
            learning_rate: [J].

        Returns:
            The losses before the update: total [J] and terms, each [J]; they hold until the next step.
        """
        return self._step(batch, noise, learning_rate)

    def _take_step(self, batch: Batch, noise: Tensor | None, learning_rate: Tensor) -> Losses:
        self.template.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            losses = self._apply(self._forward, (batch, noise))
        grads = torch.autograd.grad(
            losses.total.sum(), list(self._leaves.values()), allow_unused=True, materialize_grads=True
        )
        flat = self.layout.flatten([grad.reshape(self.num_jobs, -1) for grad in grads])
        self.optimizer.update(self.params, flat, self.optimizer_state, learning_rate, self.hyper, self.layout)
        if self._has_after_step:
            with torch.no_grad():
                self._apply(self._call_after_step, ())
        return Losses(
            losses.total.detach().reshape(self.num_jobs),
            {name: term.detach().reshape(self.num_jobs) for name, term in losses.terms.items()},
        )

    def gradients(self, batch: Batch, noise: Tensor | None) -> tuple[Losses, dict[str, Tensor]]:
        """Losses and gradients by parameter name of one training-mode pass, without an update (for tests)."""
        self.template.train()
        losses = self._apply(self._forward, (batch, noise))
        grads = torch.autograd.grad(
            losses.total.sum(), list(self._leaves.values()), allow_unused=True, materialize_grads=True
        )
        return losses, dict(zip(self._leaves, grads, strict=True))

    @torch.no_grad()
    def rollout(self, batch: Batch, noise: Tensor | None) -> Rollout:
        """Embeddings of a frozen model: encodings [T, B, D] and predictions [T-1, B, D] ([J, ...] for J > 1)."""
        self.template.eval()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            rollout = self._apply(self._call_rollout, (batch.states, batch.actions, noise))
        return Rollout(rollout.encodings.float(), rollout.predictions.float())

    @torch.no_grad()
    def apply_eval(self, method: str, *inputs: Any) -> Any:
        """Call another method of the frozen method, for example the supervised head, under every job's weights."""
        self.template.eval()

        def call(state: dict[str, Tensor], *arguments: Any) -> Any:
            return functional_call(_Method(self.template, method), _prefixed(state), arguments)

        return self._apply(call, inputs)

    # --- jobs come, go and are saved ---------------------------------------------------------------------------

    def job_state(self, job: int) -> dict[str, dict[str, Tensor]]:
        """The state of one job as if it ran alone: ``model`` by parameter name and ``optimizer``."""
        model = {name: view[job].clone() for name, view in self.layout.views(self.params).items()}
        model.update({name: self.buffers[name][job].clone() for name in self.persistent})
        return {"model": model, "optimizer": {name: value[job].clone() for name, value in self.optimizer_state.items()}}

    @torch.no_grad()
    def load_job_state(self, job: int, state: dict[str, dict[str, Tensor]]) -> None:
        """Put a state from :meth:`job_state` in place for one job; shapes must agree exactly."""
        self.load_model(job, state["model"])
        for name, value in self.optimizer_state.items():
            value[job].copy_(state["optimizer"][name])

    @torch.no_grad()
    def load_model(self, job: int, model: dict[str, Tensor]) -> None:
        """Put parameters and persistent buffers in place for one job."""
        for name, view in self.layout.views(self.params).items():
            view[job].copy_(model[name])
        for name in self.persistent:
            self.buffers[name][job].copy_(model[name])

    def select(self, jobs: Sequence[int]) -> None:
        """Keep only the rows ``jobs``: the others have left the program; those that stay are unchanged."""
        index = torch.tensor(list(jobs), device=self.device)
        self.params = self.params.index_select(0, index)
        self.buffers = {name: value.index_select(0, index) for name, value in self.buffers.items()}
        self.hyper = {name: value.index_select(0, index) for name, value in self.hyper.items()}
        self.optimizer_state = {name: value.index_select(0, index) for name, value in self.optimizer_state.items()}
        self._bind()

    # --- how J jobs become one call ----------------------------------------------------------------------------

    def _bind(self) -> None:
        """Whatever follows from where the state lies: a step that is still to be recorded, if at all, and the leaves
        that autograd differentiates, which are views of the flat parameters, without a job axis for J = 1.
        """
        views = self.layout.views(self.params)
        if self.num_jobs == 1:
            views = {name: view[0] for name, view in views.items()}
        self._leaves = {name: view.detach().requires_grad_(True) for name, view in views.items()}
        recorder = self._recorder
        self._step: Step = self._take_step if recorder is None else GraphedStep(self._take_step, record=recorder)

    def _call_losses(self, state: dict[str, Tensor], batch: Batch, noise: Tensor | None) -> Losses:
        return functional_call(self.template, state, (batch, noise))  # type: ignore[no-any-return]

    def _call_rollout(self, state: dict[str, Tensor], states: Tensor, actions: Tensor, noise: Tensor | None) -> Rollout:
        module = _Method(self.template, "rollout")
        return functional_call(module, _prefixed(state), (states, actions, noise))  # type: ignore[no-any-return]

    def _call_after_step(self, state: dict[str, Tensor]) -> Tensor:
        functional_call(_Method(self.template, "after_step"), _prefixed(state), ())
        return next(iter(state.values())).new_zeros(())  # vmap wants something back

    def _apply(self, function: Callable[..., _Output], inputs: tuple[Any, ...]) -> _Output:
        """``function(state, *inputs)`` for every job; outputs carry a job axis where J > 1."""
        if self.num_jobs == 1:
            state = {**self._leaves, **{name: value[0] for name, value in self.buffers.items()}}
            return function(state, *inputs)
        state = {**self._leaves, **self.buffers}
        if self.executor == "loop":
            outputs = [function(_row(state, job), *_row(inputs, job)) for job in range(self.num_jobs)]
            return _stack(outputs)  # type: ignore[no-any-return, unused-ignore]
        arguments = (state, *inputs)
        in_dims = tree_map(lambda value: 0 if isinstance(value, Tensor) else None, arguments)
        with MapsInTurn() if self.executor == "mixed" else nullcontext():
            return vmap(function, in_dims=in_dims, randomness="error")(*arguments)


class _Method(torch.nn.Module):
    """A module whose forward is another method of ``inner``, so that ``functional_call`` reaches it."""

    def __init__(self, inner: torch.nn.Module, method: str) -> None:
        super().__init__()
        self.inner = inner
        self.method = method

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.inner, self.method)(*inputs)


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"inner.{name}": value for name, value in state.items()}


def _row(tree: Any, job: int) -> Any:
    return tree_map_only(Tensor, lambda value: value[job], tree)


def _stack(trees: list[Any]) -> Any:
    return tree_map(lambda *values: torch.stack(values), *trees)


def _stack_hyperparameters(optimizers: Sequence[Optimizer], device: torch.device) -> dict[str, Tensor]:
    rows = [optimizer.hyperparameters() for optimizer in optimizers]
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return {name: torch.tensor([row[name] for row in rows], dtype=dtype, device=device) for name in rows[0]}


def _check_agreement(methods: Sequence[Method]) -> None:
    first = {name: tuple(value.shape) for name, value in _tensors(methods[0])}
    for method in methods[1:]:
        other = {name: tuple(value.shape) for name, value in _tensors(method)}
        if other != first:
            names = sorted(set(first.items()) ^ set(other.items()))
            raise ValueError(f"jobs that do not agree in shapes cannot share a program: {names[:4]}")


def _tensors(method: Method) -> list[tuple[str, Tensor]]:
    return [*method.named_parameters(), *method.named_buffers()]
