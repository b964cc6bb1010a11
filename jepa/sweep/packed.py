"""The plugin class of ``hydra/launcher=packed``. It imports little, because Hydra loads every plugin at each start.

No ``from __future__ import annotations`` here: Hydra reads the annotations of plugin modules.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from jepa.errors import check_choice, check_count

EXECUTORS = ("measured", "vmap", "mixed", "loop")  # as in jepa.training.program, whose import would load torch


class PackedLauncher(Launcher):
    """Trains jobs that differ only in numbers as one batched program. Other jobs go into separate packs."""

    def __init__(
        self,
        *,
        pack_size: int | None,
        num_workers: int,
        executor: str | None,
        common_random_numbers: bool,
    ) -> None:
        """``conf/hydra/launcher/packed.yaml`` explains the arguments.

        Raises:
            ConfigError: an argument has an invalid value.
        """
        self.pack_size = None if pack_size is None else check_count("hydra.launcher.pack_size", pack_size)
        self.num_workers = check_count("hydra.launcher.num_workers", num_workers)
        self.executor = None if executor is None else check_choice("hydra.launcher.executor", executor, EXECUTORS)
        self.common_random_numbers = common_random_numbers
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments for :meth:`launch`. Hydra or the project's sweeper calls this first."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs in packs, each pack in a separate process. Returns one JobReturn for each job, in order."""
        from jepa.packing.pack import PackOptions
        from jepa.sweep import packed_core

        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        return packed_core.launch(
            loader=self.hydra_context.config_loader,
            config=self.config,
            task=self.task_function,
            options=PackOptions(self.pack_size, self.executor, self.common_random_numbers),
            num_workers=self.num_workers,
            job_overrides=job_overrides,
            initial_job_idx=initial_job_idx,
        )
