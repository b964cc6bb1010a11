"""The plugin class of the sweeper. It imports little, because Hydra loads it at the start of every single run.

No ``from __future__ import annotations`` here: Hydra reads the annotations of plugin modules.
"""

from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class JepaSweeper(Sweeper):
    """Runs grids, lists of points and Optuna searches. A job's folder is named by the hash of its configuration."""

    def __init__(self, *, check: str | None = None) -> None:
        """Args:
        check: dotted path of a function that raises ConfigError for a composed configuration that cannot run.
        """
        self.check = check
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments for :meth:`sweep`. Hydra calls this first."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run, continue or extend the sweep that these task overrides describe.

        Raises:
            SystemExit: 2 for a bad configuration, 1 if jobs failed, 130 if a signal stopped the sweep.
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
