"""The networks of a recurrent state-space model: the belief's GRU, the prior and the posterior."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa.models.gru import gru_cell


class Gaussian(NamedTuple):
    """Independent normal distributions; in the type of the parameters, also under autocast."""

    mean: Tensor  # [..., D]
    std: Tensor  # [..., D]

    def widened(self, min_var: Tensor) -> Gaussian:
        """Add ``min_var`` [] to the standard deviation. (The original calls the standard deviation a variance.)"""
        return Gaussian(self.mean, self.std + min_var)

    def sample(self, noise: Tensor) -> Tensor:
        """The sample mean + std · noise [..., D]; noise: standard normals [..., D]."""
        return torch.addcmul(self.mean, self.std, noise)


def kl_divergence(first: Gaussian, second: Gaussian) -> Tensor:
    """KL(first || second), element by element [..., D]."""
    scaled = (first.mean - second.mean) / second.std
    ratio = first.std / second.std
    return 0.5 * (ratio.square() + scaled.square() - 1.0) - ratio.log()


class Transition(nn.Module):
    """The next belief, b_t = GRUCell(relu(Linear([s_{t-1}, a_{t-1}])), b_{t-1}), and the prior of s_t given b_t.

    Source: Hafner et al. 2019 (arXiv 1811.04551), in the form of docs/science.md.

    Args:
        embedding_size: D, size of belief and sample.
        action_size: A.
    """

    def __init__(self, *, embedding_size: int, action_size: int) -> None:
        super().__init__()
        self.rnn_input_net = nn.Sequential(nn.Linear(embedding_size + action_size, embedding_size), nn.ReLU())
        self.prior_mu_net = nn.Sequential(nn.Linear(embedding_size, embedding_size), nn.ReLU())
        self.prior_var_net = nn.Sequential(nn.Linear(embedding_size, embedding_size), nn.ReLU())
        self.rnn = nn.GRUCell(embedding_size, embedding_size)  # holds the parameters; gru_cell computes

    def prior(self, beliefs: Tensor) -> Gaussian:
        """beliefs: [..., D]; returns the prior, without min_var, [..., D]."""
        dtype = self.rnn.weight_hh.dtype
        return Gaussian(self.prior_mu_net(beliefs).to(dtype), F.softplus(self.prior_var_net(beliefs).to(dtype)))

    def step(self, belief: Tensor, sample: Tensor, action: Tensor) -> Tensor:
        """The next belief [B, D] from belief and sample [B, D] and the action between [B, A]."""
        inputs = self.rnn_input_net(torch.cat([sample, action], dim=-1))
        rnn = self.rnn
        return gru_cell(inputs, belief, rnn.weight_ih, rnn.weight_hh, rnn.bias_ih, rnn.bias_hh)


class Posterior(nn.Module):
    """The posterior of s_t given [z_t, b_t]: two layers for the mean, and two for the standard deviation.

    Args:
        embedding_size: D, size of embedding, belief and sample.
    """

    def __init__(self, *, embedding_size: int) -> None:
        super().__init__()
        self.posterior_mu_net = self._net(embedding_size)
        self.posterior_var_net = self._net(embedding_size)

    @staticmethod
    def _net(size: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(2 * size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU())

    def forward(self, encodings: Tensor, beliefs: Tensor) -> Gaussian:
        """encodings, beliefs: [..., D]; returns the posterior, without min_var, [..., D]."""
        both = torch.cat([encodings, beliefs], dim=-1)
        mean, deviation = self.posterior_mu_net(both), self.posterior_var_net(both)
        return Gaussian(mean.to(beliefs.dtype), F.softplus(deviation.to(beliefs.dtype)))
