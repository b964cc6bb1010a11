"""LARS: stochastic gradient descent that scales the step of each weight matrix by the norm of the matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.errors import check_number
from jepa.optim.base import Optimizer, column
from jepa.optim.flat import FlatLayout
from jepa.optim.schedules import Schedule


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling with momentum. One-dimensional parameters get neither decay nor adaptation.

    momentum: in [0, 1). weight_decay: at least 0. trust_coefficient: eta, greater than 0.
    Source: You et al. 2017 (arXiv 1708.03888). Two deviations, both taken from the original code (docs/science.md):
    the ratio is eta * |p| / |g + wd * p|, and the learning rate multiplies the momentum.
    """

    def __init__(
        self,
        *,
        base_lr: float,
        scale_lr_with_batch: bool,
        momentum: float,
        weight_decay: float,
        trust_coefficient: float,
        schedule: Schedule,
    ) -> None:
        super().__init__(base_lr=base_lr, scale_lr_with_batch=scale_lr_with_batch, schedule=schedule)
        self.momentum = check_number("optimizer.momentum", momentum, minimum=0.0, below=1.0)
        self.weight_decay = check_number("optimizer.weight_decay", weight_decay, minimum=0.0, maximum=1e6)
        check_number("optimizer.trust_coefficient", trust_coefficient, minimum=1e-12, maximum=1e6)
        self.trust_coefficient = trust_coefficient

    def hyperparameters(self) -> dict[str, float]:
        """base_lr, momentum, weight_decay and trust_coefficient."""
        return {
            "base_lr": self.base_lr,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "trust_coefficient": self.trust_coefficient,
        }

    def init_state(self, params: Tensor) -> dict[str, Tensor]:
        """``momentum`` ``[P]``, zeros."""
        return {"momentum": torch.zeros_like(params)}

    @torch.no_grad()
    def update(
        self,
        params: Tensor,
        grads: Tensor,
        state: dict[str, Tensor],
        learning_rate: Tensor,
        hyper: dict[str, Tensor],
        layout: FlatLayout,
    ) -> None:
        """``g += wd p; g *= eta |p| / |g|`` (matrices); ``m = momentum m + g; p -= lr m``. See ``Optimizer.update``."""
        decay = column(hyper["weight_decay"], params)
        for index in layout.matrices:
            layout.slice(grads, index).addcmul_(layout.slice(params, index), decay)
        ratios = trust_ratios(params, grads, hyper["trust_coefficient"].to(params.dtype), layout)
        momentum = state["momentum"].mul_(column(hyper["momentum"], params))
        for index in range(len(layout)):
            part, grad = layout.slice(momentum, index), layout.slice(grads, index)
            if index in ratios:
                part.addcmul_(grad, ratios[index])
            else:
                part.add_(grad)
        params.addcmul_(momentum, -column(learning_rate, params))


def trust_ratios(params: Tensor, grads: Tensor, trust_coefficient: Tensor, layout: FlatLayout) -> dict[int, Tensor]:
    """Map each matrix's index in ``layout`` to its ratio ``[1]``: ``eta |p| / |g|``, or 1 if either norm is 0.

    params, grads: ``[P]``. trust_coefficient: eta ``[]``. All may have leading axes.
    """
    if not layout.matrices:
        return {}
    norms = [
        torch.stack([torch.linalg.vector_norm(layout.slice(flat, index), dim=-1) for index in layout.matrices])
        for flat in (params, grads)
    ]
    param_norm, grad_norm = norms  # [matrices] each
    adapted = (param_norm > 0) & (grad_norm > 0)
    ratio = torch.where(adapted, trust_coefficient * param_norm / grad_norm, 1.0)
    return {index: row.unsqueeze(-1) for index, row in zip(layout.matrices, ratio.unbind(0), strict=True)}
