"""What a solver is given at one moment: the state of all episodes, the goals, and the cost of candidate actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jepa.data.motion import shortened

CostFunction = Callable[[Tensor], Tensor]  # actions [H, B, N, A], px -> costs [B, N]


@dataclass(frozen=True)
class View:
    """The problem of B episodes at one moment.

    The next plan is to minimise ``imagined``, which the model answers, or ``true``, which the environment answers.
    """

    horizon: int  # H, actions of the plan
    steps_left: int  # actions left in the episode
    num_episodes: int  # B
    action_size: int  # A
    limit: float  # the longest action, px
    generator: torch.Generator  # the solver's random numbers
    device: torch.device
    embeddings: Tensor | None  # [B, D], of the present frame; None: the solver does not use the model
    goal_embeddings: Tensor | None  # [B, D], of the goal frame
    imagined: CostFunction
    true: CostFunction

    def shorten(self, actions: Tensor) -> Tensor:
        """``actions`` [..., A], px; those longer than ``limit`` are shortened to it."""
        return shortened(actions, self.limit)
