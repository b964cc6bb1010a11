"""Composes the configuration of an earlier run again, with today's defaults and components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from jepa.config.arguments import prepare
from jepa.config.compose import compose, config_hash, scientific_config
from jepa.files import PathLike
from jepa.store.config import flat


def compose_again(config: Mapping[str, Any], overrides: Sequence[str], config_dir: PathLike | None) -> DictConfig:
    """Compose the configuration of an earlier run. Where defaults have changed, the run's own values are kept.

    Args:
        config, overrides: as ``jepa.store.config`` reads them from the run's folder.
        config_dir: the folder of yaml files that ``--config-dir`` named; None: there was none.

    Raises:
        ConfigError: ``config_dir`` is no folder.
    """
    cfg = compose(prepare(list(overrides)), with_hydra=True, further=config_dir)
    stored = OmegaConf.create(dict(config))
    if config_hash(stored) != config_hash(cfg):
        known = flat(scientific_config(cfg))
        for key, value in flat(scientific_config(stored)).items():
            if key in known and known[key] != value and not key.endswith("_target_"):
                OmegaConf.update(cfg, key, value)
    return cfg


def moved_to(cfg: DictConfig, device: str, *, is_cuda: bool) -> DictConfig:
    """``cfg`` for a model that was trained before and is used on ``device``, which may differ from that of training."""
    changes: dict[str, Any] = {"device": device, "init_from": None}
    if not is_cuda:
        changes["trainer.cuda_graph"] = False
        if cfg.precision == "tf32":
            changes["precision"] = "fp32"
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value)
    return cfg
