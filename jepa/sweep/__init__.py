"""Sweeps that can be interrupted and continued: a Hydra sweeper for grids and Optuna searches, and launcher support.

Every start of ``jepa.run`` calls :func:`register`, so this module imports little. Optuna, joblib and rich are imported
when a sweep needs them.
"""

from __future__ import annotations

from collections.abc import Sequence


def register() -> None:
    """Register this project's Hydra plugins and the resolvers that the presets use. A second call changes nothing."""
    from hydra.core.plugins import Plugins
    from omegaconf import OmegaConf

    from jepa.sweep.devices import cores, threads_per_job
    from jepa.sweep.packed import PackedLauncher
    from jepa.sweep.plugin import JepaSweeper

    Plugins.instance().register(JepaSweeper)
    Plugins.instance().register(PackedLauncher)
    OmegaConf.register_resolver("jepa.cores", cores, replace=True)
    OmegaConf.register_resolver("jepa.threads_per_job", threads_per_job, replace=True)


def prepare_arguments(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Replace ``hydra/launcher=auto`` by settings for this machine; see :mod:`jepa.sweep.auto`.

    Returns:
        The arguments, and a line that reports the settings chosen; None where nothing was chosen.
    """
    from jepa.sweep.auto import choose

    return choose(arguments)
