"""Optimizers and schedules. An optimizer updates the flat parameters of one job or of many packed jobs."""

from jepa.optim.adam import Adam, AdamW
from jepa.optim.base import Optimizer
from jepa.optim.flat import FlatLayout
from jepa.optim.lars import LARS
from jepa.optim.schedules import Constant, Schedule, WarmupCosine

__all__ = ["LARS", "Adam", "AdamW", "Constant", "FlatLayout", "Optimizer", "Schedule", "WarmupCosine"]
