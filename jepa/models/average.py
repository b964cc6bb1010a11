"""A copy of a network whose weights are a moving average of the network's weights; the copy is not trained."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from jepa.errors import check_number
from jepa.hyperparameters import register_hyperparameter


class AveragedCopy(nn.Module):
    """A copy of a network with buffers as weights: the optimizer ignores them, checkpoints and packs include them.

    Call :meth:`follow` from a method's ``after_step``. Source: Tarvainen and Valpola 2017 (arXiv 1703.01780), eq. 1.
    """

    decay: Tensor  # []

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        """Copy ``network`` with its present weights.

        Args:
            network: the network to copy.
            decay: share of the old average that a step keeps, 0 to 1.
        """
        super().__init__()
        check_number("decay", decay, minimum=0, maximum=1)
        register_hyperparameter(self, "decay", decay, key="decay")
        self.network = copy.deepcopy(network)
        for module in self.network.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    del module._parameters[name]
                    module.register_buffer(name, parameter.detach().clone())

    def forward(self, *inputs: Any) -> Any:
        """The copy's output for ``inputs``, without a gradient."""
        with torch.no_grad():
            return self.network(*inputs)

    def follow(self, network: nn.Module) -> None:
        """Update every weight w in place, from the weight v of ``network``: w ← decay·w + (1 - decay)·v."""
        averages = dict(self.network.named_buffers())
        for name, weight in network.named_parameters():
            averages[name].add_((weight - averages[name]) * (1 - self.decay))
