"""The recurrence of a GRU as one autograd function.

One call multiplies the inputs of all time steps by their weight. The backward pass computes the weight's gradient by
one product instead of one per time step. Packed jobs run the same code on tensors with a leading axis ``J``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.kernels.setting import Setting, jobs_first, replace
from jepa.models.gru import GRU


def install(module: nn.Module, setting: Setting) -> bool:
    """Replace the forward pass of a :class:`GRU`; returns whether ``module`` is one."""
    if type(module) is not GRU:
        return False
    replace(module, "forward", gru)
    return True


def gru(module: GRU, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``module(inputs, hidden)``. inputs: [T, B, A]; hidden: [L, B, D].

    Under autocast the products run in autocast's dtype; the states stay in the dtype of the parameters.
    """
    last = []
    for index in range(module.num_layers):
        weight_ih, weight_hh, bias_ih, bias_hh = module.layer(index)
        gates = F.linear(inputs, weight_ih, input_bias(bias_ih, bias_hh)).to(weight_hh.dtype)
        inputs = recurrence(gates, hidden[index].to(weight_hh.dtype), weight_hh, candidate_bias(bias_hh))
        last.append(inputs[-1])
    return inputs, torch.stack(last)


def gru_cell_parts(
    gates: Tensor, product: Tensor, hidden: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the state after one input, and the values that ``recurrence_gradients`` needs of the step.

    Args:
        gates: input times its weight, plus all biases except that of the recurrent part of n [B, 3D].
        product: state times its weight [B, 3D].
        hidden: the state [B, D].
        bias: bias of the recurrent part of n [D].

    Returns:
        The state after the input [B, D]; r and z concatenated [B, 2D]; n [B, D]; the recurrent part of n [B, D].
    """
    size = hidden.shape[-1]
    reset_update = (gates[..., : 2 * size] + product[..., : 2 * size]).sigmoid_()
    reset, update = reset_update.chunk(2, dim=-1)
    recurrent = product[..., 2 * size :] + bias
    candidate = torch.addcmul(gates[..., 2 * size :], reset, recurrent).tanh_()
    return torch.lerp(candidate, hidden, update), reset_update, candidate, recurrent


def recurrence(gates: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """All states of one layer. gates: [T, B, 3D], as in ``gru_cell_parts``; hidden: [B, D]; weight: [3D, D]; bias: [D].

    Returns [T, B, D]. Under autocast the weight is cast to autocast's dtype once, not at every step.
    """
    device = gates.device.type
    if torch.is_autocast_enabled(device):
        weight = weight.to(torch.get_autocast_dtype(device))
    states: Tensor
    states, *_ = _Recurrence.apply(gates, hidden, weight, bias)  # type: ignore[no-untyped-call]
    return states


def input_bias(bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """The biases to add before the recurrence: all except that of the recurrent part of n [3D]."""
    size = bias_hh.shape[-1] // 3
    return bias_ih + F.pad(bias_hh[: 2 * size], (0, size))


def candidate_bias(bias_hh: Tensor) -> Tensor:
    """The bias of the recurrent part of n [D]."""
    return bias_hh[2 * (bias_hh.shape[-1] // 3) :]


def cast_product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Compute rows @ matrix in the dtype of the matrix; return it in the dtype of the rows."""
    return (rows.to(matrix.dtype) @ matrix).to(rows.dtype)


def recurrence_gradients(
    grad_states: Tensor,
    hidden: Tensor,
    weight: Tensor,
    states: Tensor,
    reset_update: Tensor,
    candidate: Tensor,
    recurrent: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a recurrence's gates, hidden, weight and bias.

    grad_states: gradients of its states [T, B, D]. hidden and weight are inputs of ``_Recurrence.forward``; the other
    four are its results. Every tensor may have leading axes. Factors that need no recurrence are computed for all
    steps at once.
    """
    size = hidden.shape[-1]
    reset, update = reset_update.chunk(2, dim=-1)
    before = torch.cat([hidden.unsqueeze(-3), states[..., :-1, :, :]], dim=-3)
    to_candidate = (1 - update) * (1 - candidate.square())
    factors = torch.stack(
        [
            to_candidate * recurrent * reset * (1 - reset),
            (before - candidate) * update * (1 - update),
            to_candidate * reset,
        ],
        dim=-2,
    )  # [T, B, 3, D], d state / d pre-activation of r, z and the recurrent part of n
    grads = []  # of each state, including the contribution of later states; last step first
    later = torch.zeros_like(hidden)
    for t in reversed(range(states.shape[-3])):
        grads.append(grad_states.select(-3, t) + later)
        rows = factors.select(-4, t).mul_(grads[-1].unsqueeze(-2)).flatten(-2)
        later = torch.addcmul(cast_product(rows, weight), grads[-1], update.select(-3, t))
    rows = factors.flatten(-2)  # [T, B, 3D]
    grad_gates = torch.cat([rows[..., : 2 * size], torch.stack(grads[::-1], dim=-3) * to_candidate], dim=-1)
    flat = rows.flatten(-3, -2).to(weight.dtype)
    grad_weight = flat.mT @ before.flatten(-3, -2).to(weight.dtype)
    return grad_gates, later, grad_weight, rows[..., 2 * size :].sum((-3, -2))


class _Recurrence(torch.autograd.Function):
    """The recurrence over time. Every tensor may have leading axes before the named axes (packed jobs)."""

    @staticmethod
    def forward(gates: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        """Return the states [T, B, D]; r and z joined [T, B, 2D]; n [T, B, D]; the recurrent part of n [T, B, D]."""
        transposed, bias = weight.mT, bias.unsqueeze(-2)
        steps = []
        for t in range(gates.shape[-3]):
            steps.append(gru_cell_parts(gates.select(-3, t), cast_product(hidden, transposed), hidden, bias))
            hidden = steps[-1][0]
        return tuple(torch.stack(parts, dim=-3) for parts in zip(*steps, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        _, hidden, weight, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, weight, *output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Gradients of gates, hidden, weight and bias."""
        if grad_states is None:
            return None, None, None, None
        return recurrence_gradients(grad_states, *ctx.saved_tensors)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Packed jobs: the same code, with the job axis first in every tensor."""
        stacked = jobs_first(tensors, in_dims, info.batch_size)
        return _Recurrence.apply(*stacked), (0, 0, 0, 0)  # type: ignore[no-untyped-call]
