"""The networks of a recurrent state-space model: a belief that a GRU carries on, its prior and its posterior."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.models.filtering import FilterWeights
from jepa.models.gru import gru_cell


class Gaussian(NamedTuple):
    """Independent normal distributions, in the parameters' precision also under autocast."""

    mean: Tensor  # [..., D]
    std: Tensor  # [..., D]

    def widened(self, min_var: Tensor) -> Gaussian:
        """With ``min_var`` [] added to the standard deviation (which is what the original calls a variance)."""
        return Gaussian(self.mean, self.std + min_var)

    def sample(self, noise: Tensor) -> Tensor:
        """The sample [..., D] that the standard normals ``noise`` [..., D] stand for."""
        return torch.addcmul(self.mean, self.std, noise)


def kl_divergence(first: Gaussian, second: Gaussian) -> Tensor:
    """KL(first || second), element by element [..., D]."""
    scaled = (first.mean - second.mean) / second.std
    ratio = first.std / second.std
    return 0.5 * (ratio.square() + scaled.square() - 1.0) - ratio.log()


class Transition(nn.Module):
    """How a belief moves on: b_t = GRUCell(relu(Linear([s_{t-1}, a_{t-1}])), b_{t-1}); and the prior of s_t given b_t.

    Source: Hafner et al. 2019 (arXiv 1811.04551), in the form of docs/science.md.

    Args:
        embedding_size: D, of belief and sample.
        action_size: A.
    """

    def __init__(self, *, embedding_size: int, action_size: int) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.rnn_input_net = nn.Sequential(nn.Linear(embedding_size + action_size, embedding_size), nn.ReLU())
        self.prior_mu_net = nn.Sequential(nn.Linear(embedding_size, embedding_size), nn.ReLU())
        self.prior_var_net = nn.Sequential(nn.Linear(embedding_size, embedding_size), nn.ReLU())
        self.rnn = nn.GRUCell(embedding_size, embedding_size)  # holds the parameters; written out in jepa.models.gru

    def prior(self, beliefs: Tensor) -> Gaussian:
        """beliefs: [..., D]; returns the prior, without min_var, [..., D]."""
        dtype = self.rnn.weight_hh.dtype
        return Gaussian(self.prior_mu_net(beliefs).to(dtype), F.softplus(self.prior_var_net(beliefs).to(dtype)))

    def push(self, actions: Tensor) -> Tensor:
        """What actions [..., A] add to the input layer: all of it that needs no sample. [..., D]."""
        linear = layer(self.rnn_input_net, 0)
        return F.linear(actions, linear.weight[:, self.embedding_size :], linear.bias)

    def step(self, belief: Tensor, sample: Tensor, pushed: Tensor) -> Tensor:
        """The next belief [B, D] from belief and sample [B, D] and ``push`` of the action between [B, D]."""
        inputs = (F.linear(sample, self.sample_weight) + pushed).relu()
        gates = F.linear(inputs, self.rnn.weight_ih, self.gates_bias).to(belief.dtype)
        product = F.linear(belief, self.rnn.weight_hh).to(belief.dtype)
        return gru_cell(gates, product, belief, self.candidate_bias)

    @property
    def sample_weight(self) -> Tensor:
        """The part of the input layer's weight that samples meet [D, D]."""
        return layer(self.rnn_input_net, 0).weight[:, : self.embedding_size]

    @property
    def gates_bias(self) -> Tensor:
        """The sum of the GRU's biases that can be added to its input product, see ``gru_cell`` [3D]."""
        size = self.embedding_size
        return self.rnn.bias_ih + F.pad(self.rnn.bias_hh[: 2 * size], (0, size))

    @property
    def candidate_bias(self) -> Tensor:
        """The bias that is left, of the recurrent part of n [D]."""
        return self.rnn.bias_hh[2 * self.embedding_size :]


class Posterior(nn.Module):
    """The posterior of s_t given [z_t, b_t]: two layers each for mean and standard deviation.

    Args:
        embedding_size: D, of embedding, belief and sample.
    """

    def __init__(self, *, embedding_size: int) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.posterior_mu_net = self._net(embedding_size)
        self.posterior_var_net = self._net(embedding_size)

    @staticmethod
    def _net(size: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(2 * size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU())

    def see(self, encodings: Tensor) -> Tensor:
        """What encodings [..., D] add to the first layers: all of it that needs no belief. [..., 2D]."""
        layers = self._layers(0)
        weight = torch.cat([linear.weight[:, : self.embedding_size] for linear in layers])
        return F.linear(encodings, weight, torch.cat([linear.bias for linear in layers]))

    def forward(self, seen: Tensor, beliefs: Tensor) -> Gaussian:
        """seen: [..., 2D], from ``see``; beliefs: [..., D]; returns the posterior, without min_var, [..., D]."""
        hidden = (F.linear(beliefs, self.belief_weight) + seen).relu()
        halves = hidden.chunk(2, dim=-1)
        mean, deviation = (
            linear(half).relu().to(beliefs.dtype) for linear, half in zip(self._layers(2), halves, strict=True)
        )
        return Gaussian(mean, F.softplus(deviation))

    @property
    def belief_weight(self) -> Tensor:
        """The part of the first layers' weights that beliefs meet, the mean's before the deviation's [2D, D]."""
        return torch.cat([linear.weight[:, self.embedding_size :] for linear in self._layers(0)])

    def second_layers(self) -> tuple[Tensor, Tensor]:
        """Weights [2, D, D] and biases [2, 1, D] of the second layers."""
        layers = self._layers(2)
        return torch.stack([linear.weight for linear in layers]), torch.stack([linear.bias[None] for linear in layers])

    def _layers(self, index: int) -> tuple[nn.Linear, nn.Linear]:
        return layer(self.posterior_mu_net, index), layer(self.posterior_var_net, index)


def layer(net: nn.Sequential, index: int) -> nn.Linear:
    """The Linear at ``index`` of ``net``."""
    linear = net[index]
    assert isinstance(linear, nn.Linear)
    return linear


def filter_weights(transition: Transition, posterior: Posterior) -> FilterWeights:
    """What ``filter_beliefs`` needs of both."""
    second, second_bias = posterior.second_layers()
    return FilterWeights(
        sample=transition.sample_weight,
        input=transition.rnn.weight_ih,
        input_bias=transition.gates_bias,
        hidden=transition.rnn.weight_hh,
        hidden_bias=transition.candidate_bias,
        first=posterior.belief_weight,
        second=second,
        second_bias=second_bias,
    )
