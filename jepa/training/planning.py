"""Plans with the model of a run that has just been trained and judged (``plan=cem``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from jepa.data.normalization import Normalizer
from jepa.errors import error_words
from jepa.methods.base import Method
from jepa.planning.frozen import FrozenModel
from jepa.planning.planner import Planned, Planner
from jepa.planning.world import dot_world
from jepa.results.backend import prepare_matplotlib
from jepa.store import layout
from jepa.training.plan import Plan
from jepa.training.step import autocast

log = logging.getLogger(__name__)


def plan_after_training(
    plan: Plan, weights: Mapping[str, Tensor], normalizer: Normalizer | None, maps: Mapping[str, Mapping[str, Any]]
) -> Planned:
    """Plan with a copy of the trained model, as ``python -m jepa.plan`` does. ``plan.planner`` is not None.

    weights: the model's tensors by name. maps: the fitted probes of the run.
    """
    assert plan.planner is not None and plan.config.plan is not None
    method = plan.build_method()
    method.load_state_dict(dict(weights))
    return plan_with(plan.planner, plan.config.plan, plan, method, normalizer, maps)


def draw(folder: Path, planned: Planned) -> list[Path]:
    """Draw the pictures of the first episodes into ``folder``/plots. If drawing fails, log a warning."""
    try:
        prepare_matplotlib()
        from jepa.planning.pictures import draw_planning

        return draw_planning(folder / layout.PLOTS, planned.played, planned.record["solver"])
    except Exception as error:
        log.warning("the pictures of planning could not be drawn: %s", error_words(error))
        return []


def plan_with(
    planner: Planner,
    settings: Mapping[str, Any],
    plan: Plan,
    method: Method,
    normalizer: Normalizer | None,
    maps: Mapping[str, Mapping[str, Any]] | None,
) -> Planned:
    """Plan with ``method``, a model of the run ``plan``.

    settings: the configuration of ``planner``. normalizer, maps: of the run; maps may be None.

    Raises:
        ConfigError: this run cannot be planned with.
    """
    planner.check(plan.dataset, method, f"model={plan.config.choices.get('model')}")
    device, precision = plan.device, plan.config.precision
    model = FrozenModel(
        method.to(device).eval().requires_grad_(False),
        environment=dot_world(plan.dataset),
        normalizer=normalizer,
        maps=maps,
        seed=plan.config.seed,
        device=device,
        autocast=lambda: autocast(device, precision),
    )
    return planner.plan(model, settings)
