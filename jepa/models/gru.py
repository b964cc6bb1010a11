"""A gated recurrent unit with the parameters and results of ``torch.nn.GRU``.

``torch.func.vmap`` cannot batch ``torch.nn.GRU``. It can batch the tensor operations used here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GRU(nn.Module):
    """A GRU of L layers. Names, shapes and initialisation of its parameters are those of ``torch.nn.GRU``.

    Args:
        input_size: A, number of features of an input.
        hidden_size: D, number of features of the state.
        num_layers: L; each further layer takes the outputs of the layer before.
    """

    def __init__(self, *, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        bound = 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            size = input_size if layer == 0 else hidden_size
            columns = {"weight_ih": [size], "weight_hh": [hidden_size], "bias_ih": [], "bias_hh": []}
            for name, columns_of in columns.items():
                parameter = nn.Parameter(torch.empty(3 * hidden_size, *columns_of).uniform_(-bound, bound))
                self.register_parameter(f"{name}_l{layer}", parameter)

    def layer(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Parameters of one layer: weight_ih [3D, A], weight_hh [3D, D], bias_ih [3D], bias_hh [3D]."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weight_ih, weight_hh, bias_ih, bias_hh = (getattr(self, f"{name}_l{index}") for name in names)
        return weight_ih, weight_hh, bias_ih, bias_hh

    def forward(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Run over all time steps.

        Args:
            inputs: [T, B, A].
            hidden: the states before the first input [L, B, D].

        Returns:
            The last layer's states [T, B, D] and the states of all layers after the last input [L, B, D].
        """
        states = []
        for step in inputs:
            hidden = self.step(step, hidden)
            states.append(hidden[-1])
        return torch.stack(states), hidden

    def step(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """Take one time step. inputs: [B, A]; hidden: [L, B, D]; returns the new states [L, B, D]."""
        after = []
        for index in range(self.num_layers):
            inputs = gru_cell(inputs, hidden[index], *self.layer(index))  # [B, D], the input of the next layer
            after.append(inputs)
        return torch.stack(after)


def gru_cell(
    inputs: Tensor, hidden: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> Tensor:
    """The state after one input.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr), z likewise, n = tanh(W_in x + b_in + r * (W_hn h + b_hn)),
    h' = (1 - z) * n + z * h. The rows of each weight are those of r, z and n, in this order.
    Source: Cho et al. 2014 (arXiv 1406.1078), in the form of PyTorch's documentation.

    Args:
        inputs: x [B, A].
        hidden: h [B, D].
        weight_ih, weight_hh, bias_ih, bias_hh: [3D, A], [3D, D], [3D], [3D].

    Returns:
        h' [B, D] in the type of the weights. Under autocast only the two matrix products use autocast's type.
    """
    hidden = hidden.to(weight_hh.dtype)
    from_input = F.linear(inputs, weight_ih, bias_ih).to(hidden.dtype).chunk(3, dim=-1)  # of r, z, n, [B, D] each
    from_state = F.linear(hidden, weight_hh, bias_hh).to(hidden.dtype).chunk(3, dim=-1)
    reset = torch.sigmoid(from_input[0] + from_state[0])
    update = torch.sigmoid(from_input[1] + from_state[1])
    candidate = torch.tanh(from_input[2] + reset * from_state[2])
    return (1 - update) * candidate + update * hidden
