"""The base class of optimizers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from jepa.errors import ConfigError, check_count, check_number
from jepa.optim.flat import FlatLayout
from jepa.optim.schedules import Schedule

# base_lr refers to this batch size if scale_lr_with_batch is true. Source: docs/science.md.
REFERENCE_BATCH_SIZE = 256


class Optimizer(ABC):
    """Abstract: an update rule for the parameters of one model, which lie flat in one tensor ``[P]``.

    The object holds settings only. ``params`` and ``state`` hold all that a run changes; a checkpoint saves both.
    Numbers in which packed jobs may differ are passed as tensors, see ``hyperparameters``. Each tensor may have a
    leading axis ``J`` of packed jobs. So reduce over the last axis only, and use ``column`` to combine a number with
    ``[P]``.

    base_lr: learning rate at schedule factor 1 (for batch size 256 if it is scaled). scale_lr_with_batch: multiply
    base_lr by batch size / 256. schedule: factors of the learning rate over the run.
    """

    def __init__(self, *, base_lr: float, scale_lr_with_batch: bool, schedule: Schedule) -> None:
        self.base_lr = check_number("optimizer.base_lr", base_lr, minimum=1e-30, maximum=1e30)
        if not isinstance(scale_lr_with_batch, bool):
            raise ConfigError(f"optimizer.scale_lr_with_batch={scale_lr_with_batch!r}: must be true or false")
        if not isinstance(schedule, Schedule):
            raise ConfigError(f"optimizer.schedule={schedule!r}: must be a schedule of conf/optimizer/schedule")
        self.scale_lr_with_batch = scale_lr_with_batch
        self.schedule = schedule

    def scaled_lr(self, batch_size: int) -> float:
        """The learning rate at schedule factor 1 for batches of ``batch_size`` sequences."""
        scale = check_count("dataset.batch_size", batch_size) / REFERENCE_BATCH_SIZE
        return self.base_lr * scale if self.scale_lr_with_batch else self.base_lr

    @abstractmethod
    def hyperparameters(self) -> dict[str, float]:
        """The numbers in which packed jobs may differ; ``update`` receives them as ``hyper``.

        Jobs with different keys cannot share a pack.
        """

    @abstractmethod
    def init_state(self, params: Tensor) -> dict[str, Tensor]:
        """The state for ``params`` ``[P]`` before the first step; each tensor has the leading axes of ``params``."""

    @abstractmethod
    def update(
        self,
        params: Tensor,
        grads: Tensor,
        state: dict[str, Tensor],
        learning_rate: Tensor,
        hyper: dict[str, Tensor],
        layout: FlatLayout,
    ) -> None:
        """Take one step, in place and without waiting for the device. Do not replace the tensors of ``state``.

        params, grads: ``[P]``, in the order of ``layout``; ``grads`` serves as scratch space and is overwritten.
        state: from ``init_state``. learning_rate: ``[]``. hyper: a tensor ``[]`` for each of ``hyperparameters``.
        """


def column(values: Tensor, like: Tensor) -> Tensor:
    """``values`` ``[]`` as ``[1]`` in the dtype of ``like``, to combine a number with each element of ``[P]``."""
    return values.to(like.dtype).unsqueeze(-1)
