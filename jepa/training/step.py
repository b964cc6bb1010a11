"""The train step: losses, gradients, one update. A single run and a pack (jepa.packing.program) both call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from jepa.optim.base import Optimizer
from jepa.optim.flat import FlatLayout
from jepa.types import Batch, Losses


class Model(Protocol):
    """What a step trains: a :class:`jepa.methods.base.Method`, or the methods of a pack as one."""

    def __call__(self, batch: Batch, latent_noise: Tensor | None, /) -> Losses:
        """The training losses of a batch."""

    def after_step(self) -> None:
        """Update state that is not trained, such as averaged weights."""


class State:
    """What a step changes in place: all weights as one flat tensor, and the state of the optimizer."""

    def __init__(
        self,
        *,
        layout: FlatLayout,
        params: Tensor,
        leaves: Sequence[Tensor],
        optimizer: Optimizer,
        hyper: dict[str, Tensor],
    ) -> None:
        """A pack's tensors have one axis more, in front.

        layout: the place of each parameter in ``params``.
        params: [P].
        leaves: the parameters with respect to which autograd differentiates, in the order of ``layout``. They share
          the memory of ``params``.
        hyper: the optimizer's hyperparameters, each [].
        """
        self.layout = layout
        self.params = params
        self.leaves = list(leaves)
        self.optimizer = optimizer
        self.hyper = hyper
        self.optimizer_state = optimizer.init_state(params)

    def update(self, grads: Sequence[Tensor], learning_rate: Tensor) -> None:
        """Update the weights. grads: one for each leaf, of its shape; learning_rate: []."""
        flat = self.layout.flatten(grads, leading=self.params.ndim - 1)
        self.optimizer.update(self.params, flat, self.optimizer_state, learning_rate, self.hyper, self.layout)


def bound_state(method: nn.Module, optimizer: Optimizer, device: torch.device) -> State:
    """The state of ``method``. The parameters of ``method`` become views of one flat tensor on ``device``."""
    parameters = dict(method.named_parameters())
    layout = FlatLayout.of(parameters)
    params = layout.flatten([parameter.detach() for parameter in parameters.values()]).to(device)
    for parameter, view in zip(parameters.values(), layout.views(params).values(), strict=True):
        parameter.data = view
    hyper = {name: hyper_tensor(value, device) for name, value in optimizer.hyperparameters().items()}
    return State(layout=layout, params=params, leaves=list(parameters.values()), optimizer=optimizer, hyper=hyper)


def hyper_tensor(value: float | Sequence[float], device: torch.device) -> Tensor:
    """Hyperparameters as float64; as float32 on Apple's mps, which has no float64."""
    return torch.tensor(value, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context for a forward pass: with "bf16", matrix products and convolutions are computed in bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def train_step(
    model: Model, state: State, batch: Batch, latent_noise: Tensor | None, learning_rate: Tensor, *, precision: str
) -> Losses:
    """Advance ``state`` by one update, in place and without waiting for the device.

    Args:
        model: in training mode; its parameters are ``state.leaves``.
        batch: [T, B, ...].
        latent_noise: standard normals of :meth:`Method.draw_latent_noise`, or None.
        learning_rate: [].
        precision: "fp32", "tf32" or "bf16".

    Returns:
        The losses before the update, each [].
    """
    with autocast(batch.states.device, precision):
        losses = model(batch, latent_noise)
    # The jobs of a pack share no weights, so the gradient of the summed losses holds each job's own gradient.
    grads = torch.autograd.grad(losses.total.sum(), state.leaves, allow_unused=True, materialize_grads=True)
    state.update(grads, learning_rate)
    with torch.no_grad():
        model.after_step()
    return Losses(losses.total.detach(), {name: term.detach() for name, term in losses.terms.items()})
