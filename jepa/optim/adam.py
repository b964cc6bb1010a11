"""Adam and AdamW over flat parameters, with the same numbers as ``torch.optim``."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from jepa.errors import check_number
from jepa.optim.base import Optimizer, column
from jepa.optim.flat import FlatLayout
from jepa.optim.schedules import Schedule


class _Adaptive(Optimizer):
    """The common part of Adam and AdamW: everything except the weight decay."""

    def __init__(
        self,
        *,
        base_lr: float,
        scale_lr_with_batch: bool,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        clip_grad_norm: float | None,
        schedule: Schedule,
    ) -> None:
        super().__init__(base_lr=base_lr, scale_lr_with_batch=scale_lr_with_batch, schedule=schedule)
        self.beta1 = check_number("optimizer.beta1", beta1, minimum=0.0, maximum=1.0 - 1e-12)
        self.beta2 = check_number("optimizer.beta2", beta2, minimum=0.0, maximum=1.0 - 1e-12)
        self.eps = check_number("optimizer.eps", eps, minimum=1e-30, maximum=1e6)
        self.weight_decay = check_number("optimizer.weight_decay", weight_decay, minimum=0.0, maximum=1e6)
        self.clip_grad_norm = (
            None
            if clip_grad_norm is None
            else check_number("optimizer.clip_grad_norm", clip_grad_norm, minimum=1e-30, maximum=1e30)
        )

    def hyperparameters(self) -> dict[str, float]:
        """base_lr, mean_rate, square_rate, eps, weight_decay, and clip_grad_norm unless it is None.

        The rates are ``1 - beta1`` and ``1 - beta2``. In fp32 the rates keep digits that the betas would lose.
        """
        values = {
            "base_lr": self.base_lr,
            "mean_rate": 1.0 - self.beta1,
            "square_rate": 1.0 - self.beta2,
            "eps": self.eps,
            "weight_decay": self.weight_decay,
        }
        return values if self.clip_grad_norm is None else {**values, "clip_grad_norm": self.clip_grad_norm}

    def init_state(self, params: Tensor) -> dict[str, Tensor]:
        """``step`` ``[]`` (steps taken), ``mean`` and ``square`` ``[P]``: all zeros."""
        return {
            "step": params.new_zeros(params.shape[:-1]),
            "mean": torch.zeros_like(params),
            "square": torch.zeros_like(params),
        }

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
        """``p -= lr * mean_hat / (sqrt(square_hat) + eps)``, where the hats correct the bias of starting at zero."""
        if self.clip_grad_norm is not None:
            clip_norm(grads, hyper["clip_grad_norm"])
        self._decay(params, grads, learning_rate, hyper["weight_decay"])
        step = state["step"].add_(1)
        mean_rate, square_rate = hyper["mean_rate"], hyper["square_rate"]
        mean = state["mean"].lerp_(grads, column(mean_rate, params))
        square = state["square"].lerp_(grads.square_(), column(square_rate, params))
        # Apply square's bias correction to eps and the learning rate instead of to [P]: saves one pass over [P].
        root_correction = bias_correction(square_rate, step).sqrt()
        root = torch.sqrt(square, out=grads).add_(column(hyper["eps"] * root_correction, params))
        rate = learning_rate * root_correction / bias_correction(mean_rate, step)
        params.addcmul_(torch.div(mean, root, out=grads), -column(rate, params))

    @abstractmethod
    def _decay(self, params: Tensor, grads: Tensor, learning_rate: Tensor, weight_decay: Tensor) -> None:
        """Apply the weight decay ``[]`` to ``params`` or ``grads`` ``[P]``, in place."""


class Adam(_Adaptive):
    """Adam with the weight decay added to the gradient, as in ``torch.optim.Adam``.

    beta1, beta2: in [0, 1). eps: greater than 0. weight_decay: at least 0. clip_grad_norm: largest allowed norm of the
    whole gradient; None: no limit. Source: Kingma & Ba 2015 (arXiv 1412.6980).
    """

    def _decay(self, params: Tensor, grads: Tensor, learning_rate: Tensor, weight_decay: Tensor) -> None:
        grads.addcmul_(params, column(weight_decay, params))


class AdamW(_Adaptive):
    """Adam with the weight decay applied to the parameters, as in ``torch.optim.AdamW``. Arguments as in Adam.

    Source: Loshchilov & Hutter 2019 (arXiv 1711.05101).
    """

    def _decay(self, params: Tensor, grads: Tensor, learning_rate: Tensor, weight_decay: Tensor) -> None:
        params.mul_(column(1 - learning_rate * weight_decay, params))


def clip_norm(grads: Tensor, max_norm: Tensor) -> None:
    """Scale ``grads`` ``[P]`` in place to a norm of at most ``max_norm`` ``[]``; both may have leading axes.

    Same formula as ``torch.nn.utils.clip_grad_norm_``, including the 1e-6 in the denominator.
    """
    norm = torch.linalg.vector_norm(grads, dim=-1)
    grads.mul_((max_norm.to(norm.dtype) / (norm + 1e-6)).clamp(max=1.0).unsqueeze(-1))


def bias_correction(rate: Tensor, step: Tensor) -> Tensor:
    """``1 - beta ** step`` ``[]`` from ``rate = 1 - beta``, without fp32 cancellation at small ``step``."""
    return -torch.expm1(step.to(rate.dtype) * torch.log1p(-rate))
