"""The sweeper as Hydra sees it: thin, so that starting a single run does not pay for it.

No ``from __future__ import annotations`` here: Hydra reads the annotations of plugin modules.
"""

from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class JepaSweeper(Sweeper):
    """Grids, lists of points and Optuna searches whose jobs live in folders named after what they compute."""

    def __init__(self, *, check: str | None = None) -> None:
        """Args:
        check: dotted path of a function that raises ConfigError for a composed configuration no job could run.
        """
        self.check = check
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`sweep`."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run, continue or extend the sweep that these task overrides describe.

        Raises:
            SystemExit: 2 for a bad configuration, 1 where jobs failed, 130 where a signal stopped the sweep.
        """
        from jepa.sweep import _core

        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        context = _core.Context(
            config=self.config,
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            check=self.check,
        )
        return _core.main(context, arguments)
