"""The filter of a recurrent state-space model as one autograd function, for samples that carry no gradient.

The backward pass treats the samples as constants. It loops over time only for the GRU's recurrence. Each other gradient
is one matrix product over all time steps. The forward loop stores its intermediate values, so none is computed twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.kernels.recurrence import candidate_bias, cast_product, gru_cell_parts, input_bias, recurrence_gradients
from jepa.kernels.setting import Setting, jobs_first, replace
from jepa.methods.rssm import RSSM
from jepa.models.rssm import Gaussian


def install(module: nn.Module, setting: Setting) -> bool:
    """Replace the filter of an :class:`RSSM`; returns whether ``module`` is one whose samples carry no gradient."""
    if type(module) is not RSSM or module.reparameterize:
        return False
    replace(module, "filter", run_filter)
    return True


def run_filter(
    method: RSSM, encodings: Tensor, actions: Tensor, sample: Tensor, noise: Tensor
) -> tuple[Tensor, Gaussian]:
    """Compute ``method.filter``; see there for arguments and results."""
    size = sample.shape[-1]
    into = _linear(method.predictor.rnn_input_net, 0)  # of sample and action
    first = [_linear(net, 0) for net in (method.posterior.posterior_mu_net, method.posterior.posterior_var_net)]
    second = [_linear(net, 2) for net in (method.posterior.posterior_mu_net, method.posterior.posterior_var_net)]
    # The contributions of actions and encodings need no recurrence: compute them for all steps at once.
    pushed = F.linear(actions, into.weight[:, size:], into.bias)
    seen_weight = torch.cat([linear.weight[:, :size] for linear in first])
    seen = F.linear(encodings[1:], seen_weight, torch.cat([linear.bias for linear in first]))
    rnn = method.predictor.rnn
    weights = FilterWeights(
        sample=into.weight[:, :size],
        input=rnn.weight_ih,
        input_bias=input_bias(rnn.bias_ih, rnn.bias_hh),
        hidden=rnn.weight_hh,
        hidden_bias=candidate_bias(rnn.bias_hh),
        first=torch.cat([linear.weight[:, size:] for linear in first]),
        second=torch.stack([linear.weight for linear in second]),
        second_bias=torch.stack([linear.bias[None] for linear in second]),
    )
    beliefs, outputs = filter_beliefs(encodings[0], sample, pushed, seen, noise, method.min_var, weights)
    mean, deviation = outputs.unbind(0)
    return beliefs, Gaussian(mean, F.softplus(deviation)).widened(method.min_var)


def _linear(net: nn.Sequential, index: int) -> nn.Linear:
    linear = net[index]
    assert isinstance(linear, nn.Linear)
    return linear


class FilterWeights(NamedTuple):
    """Weights of a filter. Under autocast, ``filter_beliefs`` casts the matrices to autocast's dtype."""

    sample: Tensor  # [D, D], from samples to the input layer
    input: Tensor  # [3D, D], from the input layer to the GRU's gates
    input_bias: Tensor  # [3D], all biases of the gates except hidden_bias
    hidden: Tensor  # [3D, D], from beliefs to the gates
    hidden_bias: Tensor  # [D], of the recurrent part of n
    first: Tensor  # [2D, D], from beliefs to the posterior's two hidden layers: first the mean's, then the deviation's
    second: Tensor  # [2, D, D], from the hidden layers to mean and deviation
    second_bias: Tensor  # [2, 1, D]


def filter_beliefs(
    belief: Tensor, sample: Tensor, pushed: Tensor, seen: Tensor, noise: Tensor, min_var: Tensor, weights: FilterWeights
) -> tuple[Tensor, Tensor]:
    """Compute the beliefs b_1 ... b_N and the posteriors' outputs; samples carry no gradient.

    Args:
        belief, sample: b_0 and s_0 [B, D].
        pushed: the actions' contribution to the input layer [N, B, D], with the layer's bias.
        seen: the encodings' contribution to the posterior's hidden layers [N, B, 2D], with the layers' biases.
        noise: standard normal numbers for the posterior's samples [N, B, D].
        min_var: [], added to the posterior's standard deviation when a sample is drawn.
        weights: in the parameters' precision. Under autocast the matrices are cast to its dtype once.

    Returns:
        Beliefs [N, B, D]; mean and deviation, both after ReLU, the deviation before softplus [2, N, B, D].
    """
    device = belief.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        cast = {name: getattr(weights, name).to(dtype) for name in ("sample", "input", "hidden", "first", "second")}
        weights = weights._replace(**cast)
    constants = (sample.detach(), noise, min_var)
    beliefs, outputs, *_ = _Filter.apply(  # type: ignore[no-untyped-call]
        belief, pushed.to(belief.dtype), seen.to(belief.dtype), *constants, *weights
    )
    return beliefs, outputs


class _Filter(torch.autograd.Function):
    """The filter's loop over time. Every tensor may have leading axes before the named axes (packed jobs)."""

    @staticmethod
    def forward(
        belief: Tensor, pushed: Tensor, seen: Tensor, sample: Tensor, noise: Tensor, min_var: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Return beliefs [N, B, D], outputs [2, N, B, D], and the values of each step that the backward pass needs."""
        weights = FilterWeights(*tensors)
        size = belief.shape[-1]
        # One product applies two weights to a belief: the posterior's for this step and the GRU's for the next.
        joint = torch.cat([weights.hidden, weights.first], dim=-2).mT  # [D, 5D]
        from_sample, from_input, second = weights.sample.mT, weights.input.mT, weights.second.mT
        input_bias, hidden_bias = weights.input_bias.unsqueeze(-2), weights.hidden_bias.unsqueeze(-2)
        min_var = min_var[..., None, None]
        product = cast_product(belief, joint[..., : 3 * size])
        steps = []
        for t in range(noise.shape[-3]):
            inputs = (pushed.select(-3, t) + cast_product(sample, from_sample)).relu_()
            gates = input_bias + cast_product(inputs, from_input)
            parts = gru_cell_parts(gates, product, belief, hidden_bias)
            belief = parts[0]
            both = cast_product(belief, joint)
            product = both[..., : 3 * size]
            hidden = (seen.select(-3, t) + both[..., 3 * size :]).relu_()
            pair = hidden.reshape(*hidden.shape[:-1], 2, size).movedim(-2, -3)  # [2, B, D]
            output = (weights.second_bias + cast_product(pair, second)).relu_()
            mean, deviation = output.unbind(-3)
            steps.append((*parts, output, hidden, inputs, sample))
            sample = torch.addcmul(mean, F.softplus(deviation) + min_var, noise.select(-3, t))
        states, reset_update, candidate, recurrent, outputs, *rest = (
            torch.stack(part, dim=-3) for part in zip(*steps, strict=True)
        )
        return states, outputs, reset_update, candidate, recurrent, *rest

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(inputs[0], *inputs[6:], *output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states: Tensor, grad_output: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        """Gradients of belief, pushed and seen, and of the weights in ``FilterWeights``' order."""
        belief, *saved = ctx.saved_tensors
        weights = FilterWeights(*saved[:8])
        states, output, reset_update, candidate, recurrent, hidden, inputs, samples = saved[8:]
        grad_output = _through_relu(grad_output, output).flatten(-3, -2)  # [2, NB, D]
        pair = hidden.reshape(*hidden.shape[:-1], 2, -1).flatten(-4, -3).movedim(-2, -3)  # [2, NB, D]
        grad_pair = cast_product(grad_output, weights.second)
        grad_hidden = _through_relu(grad_pair.movedim(-3, -2).reshape(hidden.shape), hidden)  # [N, B, 2D]
        grad_states = grad_states + _product(grad_hidden, weights.first)
        grad_gates, grad_belief, grad_weight, grad_bias = recurrence_gradients(
            grad_states, belief, weights.hidden, states, reset_update, candidate, recurrent
        )
        grad_inputs = _through_relu(_product(grad_gates, weights.input), inputs)
        grad_weights = FilterWeights(
            sample=_outer(grad_inputs.flatten(-3, -2), samples.flatten(-3, -2), weights.sample),
            input=_outer(grad_gates.flatten(-3, -2), inputs.flatten(-3, -2), weights.input),
            input_bias=grad_gates.sum((-3, -2)),
            hidden=grad_weight,
            hidden_bias=grad_bias,
            first=_outer(grad_hidden.flatten(-3, -2), states.flatten(-3, -2), weights.first),
            second=_outer(grad_output, pair, weights.second),
            second_bias=grad_output.sum(-2, keepdim=True),
        )
        return grad_belief, grad_inputs, grad_hidden, None, None, None, *grad_weights

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Packed jobs: the same code, with the job axis first in every tensor."""
        stacked = jobs_first(tensors, in_dims, info.batch_size)
        outputs = _Filter.apply(*stacked)  # type: ignore[no-untyped-call]
        return outputs, (0,) * len(outputs)


def _product(steps: Tensor, matrix: Tensor) -> Tensor:
    """Multiply steps [N, B, F] by matrix [F, G] in one product; returns [N, B, G]."""
    return cast_product(steps.flatten(-3, -2), matrix).reshape(*steps.shape[:-1], -1)


def _through_relu(grad: Tensor, output: Tensor) -> Tensor:
    """The gradient of a ReLU's input. grad: gradient of its output; output: the ReLU's output."""
    result: Tensor = torch.ops.aten.threshold_backward(grad, output, 0)
    return result


def _outer(grad_rows: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """The gradient of ``weight`` [out, in] in ``rows @ weight.T``. rows: [M, in]; grad_rows: [M, out]."""
    return grad_rows.to(weight.dtype).mT @ rows.to(weight.dtype)
