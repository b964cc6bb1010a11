"""J models of one structure trained as one program.

The parameters of all jobs are one tensor [J, P]; their buffers are tensors [J, ...]. The train step is that of a single
run (:func:`jepa.training.step.train_step`). It calls J models as one: batched by ``torch.func.vmap``, or job after job.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map, tree_map_only

from jepa.kernels import KERNELS, install
from jepa.methods.base import Method
from jepa.optim.base import Optimizer
from jepa.optim.flat import FlatLayout
from jepa.packing.operators import MapsInTurn
from jepa.training.cuda_graph import GraphedStep, Replay, Step, record_cuda_graph
from jepa.training.gradient_norms import gradient_norms, kept
from jepa.training.runtime import prepare_compilation
from jepa.training.step import State, autocast, hyper_tensor, train_step
from jepa.types import Batch, Losses, Rollout

# How jobs run. vmap: every operator is batched over jobs. mixed: operators are batched, but those on maps are called
# job after job. loop: whole models are called job after job.
EXECUTORS = ("vmap", "mixed", "loop")
_Output = TypeVar("_Output")


class PackedProgram:
    """The state of J jobs, and the train step that advances all of them. Every tensor has the axis J in front."""

    def __init__(
        self,
        *,
        methods: Sequence[Method],
        optimizers: Sequence[Optimizer],
        device: torch.device,
        precision: str,
        executor: str = "vmap",
        kernels: Collection[str] = tuple(KERNELS),
    ) -> None:
        """Stack the jobs' parameters and buffers on ``device``.

        Args:
            methods: J models that agree in every shape; numbers held in buffers may differ.
            optimizers: J optimizers of one class; their numeric hyperparameters may differ.
            device: the device of the program.
            precision: "fp32", "tf32" or "bf16" (autocast).
            executor: how the jobs run, one of ``EXECUTORS``.
            kernels: names of the kernels that may replace parts of the models (``jepa.kernels``).

        Raises:
            ValueError: the jobs do not agree in names or shapes.
        """
        _check_agreement(methods)
        self.device = device
        self.precision = precision
        self.template = methods[0].to(device)
        parameters = [dict(method.named_parameters()) for method in methods]
        self.layout = FlatLayout.of(parameters[0])
        rows = [self.layout.flatten([p.detach() for p in job.values()]).to(device) for job in parameters]
        buffers = [dict(method.named_buffers()) for method in methods]
        self.buffers = {name: torch.stack([job[name].to(device) for job in buffers]) for name in buffers[0]}
        self.saved_names = list(methods[0].state_dict())
        hyper = [optimizer.hyperparameters() for optimizer in optimizers]
        self.state = self._state(
            torch.stack(rows),
            optimizers[0],
            {name: hyper_tensor([row[name] for row in hyper], device) for name in hyper[0]},
        )
        self._model = _Jobs(self)
        self._recorder: Callable[[Callable[[], Losses]], Replay] | None = None
        self._allowed_kernels = kernels
        self.executor = executor

    def _state(self, params: Tensor, optimizer: Optimizer, hyper: dict[str, Tensor]) -> State:
        """The state whose leaves are views of ``params`` [J, P]."""
        self.leaves = {name: view.detach().requires_grad_(True) for name, view in self.layout.views(params).items()}
        leaves = list(self.leaves.values())
        return State(layout=self.layout, params=params, leaves=leaves, optimizer=optimizer, hyper=hyper)

    @property
    def num_jobs(self) -> int:
        """J."""
        return self.state.params.shape[0]

    @property
    def executor(self) -> str:
        """How the jobs run, one of ``EXECUTORS``. Setting it takes effect at the next step, which is recorded anew."""
        return self._executor

    @executor.setter
    def executor(self, executor: str) -> None:
        assert executor in EXECUTORS, executor
        self._executor = executor
        self._reset_step()

    def compile(self) -> None:
        """As :meth:`jepa.training.program.Program.compile`."""
        prepare_compilation()
        torch.compiler.reset()
        self._model.losses = torch.compile(self._model.losses)

    def replay_steps(self, record: Callable[[Callable[[], Losses]], Replay] = record_cuda_graph) -> None:
        """Record the train step after its first calls, then replay it; see :class:`GraphedStep`."""
        self._recorder = record
        self._reset_step()

    def use_kernels(self, names: Collection[str]) -> None:
        """Allow the kernels of these names, and no others, from the next step on."""
        self._allowed_kernels = names
        self._reset_step()

    def _reset_step(self) -> None:
        self.kernels = install(
            self.template,
            device=self.device,
            precision=self.precision,
            batched=self.executor != "loop",
            only=self._allowed_kernels,
        )
        recorder = self._recorder
        self._step: Step = self._take_step if recorder is None else GraphedStep(self._take_step, record=recorder)

    # --- the train step ----------------------------------------------------------------------------------------

    def step(self, batch: Batch, latent_noise: Tensor | None, learning_rate: Tensor) -> Losses:
        """Take one train step with every job.

        Args:
            batch: [J, T, B, ...].
            latent_noise: the jobs' latent noise stacked over J, or None.
            learning_rate: [J].

        Returns:
            The losses before the update, each [J]. The next step may overwrite them.
        """
        return self._step(batch, latent_noise, learning_rate)

    def _take_step(self, batch: Batch, latent_noise: Tensor | None, learning_rate: Tensor) -> Losses:
        self.template.train()
        return train_step(self._model, self.state, batch, latent_noise, learning_rate, precision=self.precision)

    def gradient_norms(self, batch: Batch, latent_noise: Tensor | None) -> dict[str, Tensor]:
        """See :func:`jepa.training.gradient_norms.gradient_norms`; each [J]."""
        self.template.train()

        def encode(batch: Batch) -> Tensor:
            return self.apply("encode_batch", batch)  # type: ignore[no-any-return]

        def contributions(encodings: Tensor, batch: Batch, latent_noise: Tensor | None) -> dict[str, Tensor]:
            return self.apply("contributions", encodings, batch, latent_noise)  # type: ignore[no-any-return]

        with kept(self.buffers), autocast(self.device, self.precision):
            return gradient_norms(encode, contributions, batch, latent_noise, leading=1)

    @torch.no_grad()
    def rollout(self, batch: Batch, latent_noise: Tensor | None) -> Rollout:
        """Embeddings of the frozen models in float32: encodings [J, S, B, D] and predictions [J, T-1, B, D]."""
        self.template.eval()
        with autocast(self.device, self.precision):
            rollout: Rollout = self.apply("rollout", batch.states, batch.actions, latent_noise)
        return Rollout(rollout.encodings.float(), rollout.predictions.float())

    @torch.no_grad()
    def apply_eval(self, name: str, *inputs: Any) -> Any:
        """Call another function of the frozen models, for example the supervised head, with each job's weights."""
        self.template.eval()
        return self.apply(name, *inputs)

    # --- saving, loading and removing jobs ---------------------------------------------------------------------

    def saved(self, job: int) -> dict[str, dict[str, Tensor]]:
        """Copies for the checkpoint of one job, as :meth:`jepa.training.program.Program.saved` makes them."""
        tensors = {**self.leaves, **self.buffers}
        model = {name: tensors[name][job].detach().clone() for name in self.saved_names}
        optimizer = {name: value[job].clone() for name, value in self.state.optimizer_state.items()}
        return {"model": model, "optimizer": optimizer}

    @torch.no_grad()
    def load(self, job: int, saved: dict[str, dict[str, Tensor]]) -> None:
        """Continue one job from :meth:`saved`; names and shapes must agree exactly."""
        self.load_model(job, saved["model"])
        for name, value in self.state.optimizer_state.items():
            value[job].copy_(saved["optimizer"][name])

    @torch.no_grad()
    def load_model(self, job: int, model: dict[str, Tensor]) -> None:
        """Load parameters and persistent buffers of one job."""
        tensors = {**self.leaves, **self.buffers}
        for name in self.saved_names:
            tensors[name][job].copy_(model[name])

    def select(self, jobs: Sequence[int]) -> None:
        """Keep the jobs with the indices ``jobs`` and remove all others. The kept jobs' states do not change."""
        index = torch.tensor(list(jobs), device=self.device)
        before = self.state
        self.buffers = {name: value.index_select(0, index) for name, value in self.buffers.items()}
        hyper = {name: value.index_select(0, index) for name, value in before.hyper.items()}
        self.state = self._state(before.params.index_select(0, index), before.optimizer, hyper)
        kept = {name: value.index_select(0, index) for name, value in before.optimizer_state.items()}
        self.state.optimizer_state = kept
        self._reset_step()

    # --- calling J models as one -------------------------------------------------------------------------------

    def apply(self, name: str, *inputs: Any) -> Any:
        """Call the method's function ``name`` with every job's weights; outputs have the axis J in front."""
        function = _Function(self.template, name)

        def call(state: dict[str, Tensor], *arguments: Any) -> Any:
            output = functional_call(function, {f"inner.{key}": value for key, value in state.items()}, arguments)
            return next(iter(state.values())).new_zeros(()) if output is None else output  # vmap must return a tensor

        return self.map(call, inputs)

    def map(self, function: Callable[..., _Output], inputs: tuple[Any, ...]) -> _Output:
        """``function(state, *inputs)`` for every job; state: the job's parameters and buffers by name."""
        state = {**self.leaves, **self.buffers}
        if self.executor == "loop":
            outputs = [function(_row(state, job), *_row(inputs, job)) for job in range(self.num_jobs)]
            return tree_map(lambda *values: torch.stack(values), *outputs)  # type: ignore[no-any-return]
        arguments = (state, *inputs)
        in_dims = tree_map(lambda value: 0 if isinstance(value, Tensor) else None, arguments)
        with MapsInTurn() if self.executor == "mixed" else nullcontext():
            return vmap(function, in_dims=in_dims, randomness="error")(*arguments)


class _Jobs:
    """The models of all jobs as one :class:`jepa.training.step.Model`."""

    def __init__(self, program: PackedProgram) -> None:
        self._program = program
        self._has_after_step = program.template.has_after_step
        self.losses: Callable[..., Losses] = self._losses

    def _losses(self, state: dict[str, Tensor], batch: Batch, latent_noise: Tensor | None) -> Losses:
        return functional_call(self._program.template, state, (batch, latent_noise))  # type: ignore[no-any-return]

    def __call__(self, batch: Batch, latent_noise: Tensor | None) -> Losses:
        """Losses, each [J]."""
        return self._program.map(self.losses, (batch, latent_noise))

    def after_step(self) -> None:
        """Call every job's ``after_step``, if the method has one."""
        if self._has_after_step:
            self._program.apply("after_step")


class _Function(torch.nn.Module):
    """A module whose forward is the function ``name`` of ``inner``, so that ``functional_call`` can call it."""

    def __init__(self, inner: torch.nn.Module, name: str) -> None:
        super().__init__()
        self.inner = inner
        self.name = name

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.inner, self.name)(*inputs)


def _row(tree: Any, job: int) -> Any:
    return tree_map_only(Tensor, lambda value: value[job], tree)


def _check_agreement(methods: Sequence[Method]) -> None:
    first = {name: tuple(value.shape) for name, value in _tensors(methods[0])}
    for method in methods[1:]:
        other = {name: tuple(value.shape) for name, value in _tensors(method)}
        if other != first:
            names = sorted(set(first.items()) ^ set(other.items()))
            raise ValueError(f"jobs that do not agree in shapes cannot share a program: {names[:4]}")


def _tensors(method: Method) -> list[tuple[str, Tensor]]:
    return [*method.named_parameters(), *method.named_buffers()]
