"""The full names of the keys of a configuration, to suggest the nearest spelling of an unknown key."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from jepa.config.compose import compose
from jepa.config.search_path import groups

log = logging.getLogger(__name__)


def all_keys(cfg: DictConfig) -> list[str]:
    """The full names of every key of ``cfg``, groups of keys included."""
    found: list[str] = []

    def walk(node: DictConfig, path: str) -> None:
        for key in node:
            name = f"{path}{key!s}"
            found.append(name)
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
                walk(child, f"{name}.")

    if OmegaConf.is_dict(cfg):
        walk(cfg, "")
    return found


def known_keys(arguments: Sequence[str]) -> list[str]:
    """The full names of all keys of the configuration, with the groups that ``arguments`` choose."""
    words = (text for text in arguments if text.lstrip("+").partition("=")[0].partition("@")[0] in groups())
    chosen = [text if "=[" in text else text.split(",")[0] for text in words]
    for overrides in (tuple(chosen), ()):
        try:
            return list(_composed_keys(overrides))
        except Exception:  # the chosen groups themselves may be wrong
            log.debug("cannot compose %s", overrides, exc_info=True)
    return []


@functools.lru_cache(maxsize=32)
def _composed_keys(overrides: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(all_keys(compose(list(overrides), with_hydra=True)))
