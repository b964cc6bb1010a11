"""``hydra/launcher=packed`` as Hydra sees it: thin, so that nobody pays for it who does not use it.

No ``from __future__ import annotations`` here: Hydra reads the annotations of plugin modules.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from jepa.errors import check_choice, check_count

EXECUTORS = ("measured", "vmap", "mixed", "loop")  # of jepa.training.program, which would bring torch with it


class PackedLauncher(Launcher):
    """Trains jobs that differ in numbers alone as one batched program; the others go to packs of their own."""

    def __init__(
        self,
        *,
        pack_size: int | None,
        num_workers: int,
        executor: str | None,
        common_random_numbers: bool,
    ) -> None:
        """All arguments as in ``conf/hydra/launcher/packed.yaml``; ConfigError for a value that cannot be used."""
        self.pack_size = None if pack_size is None else check_count("hydra.launcher.pack_size", pack_size)
        self.num_workers = check_count("hydra.launcher.num_workers", num_workers)
        self.executor = None if executor is None else check_choice("hydra.launcher.executor", executor, EXECUTORS)
        self.common_random_numbers = common_random_numbers
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra, or by our sweeper, before :meth:`launch`."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs in packs, each pack in a process of its own; one return a job, in order."""
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
