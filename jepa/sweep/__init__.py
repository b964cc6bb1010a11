"""Sweeps that never lose work: a Hydra sweeper over grids and Optuna searches, and what the launchers need.

Light on purpose: ``register`` is called at every start of ``jepa.run``; Optuna, joblib and rich are imported when a
sweep needs them.
"""

from __future__ import annotations

from collections.abc import Sequence


def register() -> None:
    """Make Hydra know this project's plugins and the resolvers of the presets; a second call changes nothing."""
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
    """The command line with what depends on this machine filled in, and a line to say so (:mod:`jepa.sweep.auto`)."""
    from jepa.sweep.auto import choose

    return choose(arguments)
