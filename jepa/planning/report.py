"""The numbers of played episodes: success, distance, budget; plain values for ``result.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from jepa.planning.episodes import Played
from jepa.planning.goals import DISTANCES, RADII_PX

STRICT, RADIUS = RADII_PX


def numbers(played: Played, kinds: Tensor) -> dict[str, Any]:
    """Success by radius, *at the end* and *ever* (after the start), over all episodes and by distance of the goal.

    kinds: [B], the index of each goal's distance in DISTANCES.
    """
    distances, kinds = played.distances.cpu(), kinds.cpu()
    groups = {"all": torch.ones_like(kinds, dtype=torch.bool)}
    groups |= {name: kinds == index for index, name in enumerate(DISTANCES) if bool((kinds == index).any())}
    return {
        **{name: _group(distances[:, rows]) for name, rows in groups.items()},
        "model_steps": played.evaluations,
        "model_steps_per_episode": played.evaluations / distances.shape[1],
        "seconds": played.seconds,
        "cpu_seconds": played.cpu_seconds,
        "predictor_share": played.predictor_seconds / played.seconds if played.seconds else 0.0,
    }


def _group(distances: Tensor) -> dict[str, Any]:
    """The numbers of some episodes. distances: [N+1, B], px."""
    end, nearest = distances[-1], distances[1:].amin(0)
    found: dict[str, Any] = {"episodes": distances.shape[1], "start_distance_px": float(distances[0].mean())}
    for radius in RADII_PX:
        found[f"success_{radius}px_end"] = float((end < radius).double().mean())
        found[f"success_{radius}px_ever"] = float((nearest < radius).double().mean())
    found["distance_px"] = float(end.mean())
    found["distance_px_median"] = float(end.median())
    return found


def metrics(overlays: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The numbers that ``result.json`` holds among its metrics, from :func:`numbers` by overlay of the goal frame.

    ``planning_success`` is the share of episodes within 1.9 px at the end, with the goal frame under the same overlay;
    names that end in ``_other`` are those under another overlay. ``planning_failure`` is 1 - ``planning_success``, for
    searches, which minimise.
    """
    found: dict[str, float] = {}
    for overlay, measured in overlays.items():
        suffix = "" if overlay == "same" else f"_{overlay}"
        everything = measured["all"]
        found[f"planning_success{suffix}"] = everything[f"success_{RADIUS}px_end"]
        found[f"planning_success_ever{suffix}"] = everything[f"success_{RADIUS}px_ever"]
        found[f"planning_success_strict{suffix}"] = everything[f"success_{STRICT}px_end"]
        found[f"planning_success_strict_ever{suffix}"] = everything[f"success_{STRICT}px_ever"]
        found[f"planning_distance_px{suffix}"] = everything["distance_px"]
        for name in DISTANCES:
            if name in measured:
                found[f"planning_success_{name}{suffix}"] = measured[name][f"success_{RADIUS}px_end"]
        found[f"planning_failure{suffix}"] = 1 - everything[f"success_{RADIUS}px_end"]
    return found


METRIC_NAMES = tuple(
    f"planning_{name}{suffix}"
    for suffix in ("", "_other")
    for name in (
        *("success", "success_ever", "success_strict", "success_strict_ever", "distance_px"),
        *(f"success_{name}" for name in DISTANCES),
        "failure",
    )
)
