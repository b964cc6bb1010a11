"""How a run ends: its outcome, and the entries of ``result.json``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jepa.errors import error_words
from jepa.provenance import timestamp
from jepa.results.reference import training_words, verdict
from jepa.results.verdict import background_words, shortcut_words
from jepa.training.plan import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its status (finished, failed, pruned), its metrics, and the number that a search minimises.

    error, reason: why the run failed: a line for people, and a word for programs ("not_finite", "disk_full", "error").
    """

    status: str
    objective: float
    metrics: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    reason: str | None = None


def result_of(
    plan: Plan,
    outcome: Outcome,
    record: Mapping[str, Any],
    *,
    step: int,
    reference: Mapping[str, Any] | None,
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    """The entries of ``result.json``, for :func:`jepa.store.result.write_result`.

    Args:
        record: the run's provenance, as ``plan.record()`` begins it.
        step: the last step that was trained.
        reference: as :func:`reference_lines` returns them.
        warnings: of the last probe.
    """
    metrics = outcome.metrics
    words, no_verdict = verdict(metrics, reference, warnings)
    return {
        "status": outcome.status,
        "objective": outcome.objective,
        "objective_metric": plan.config.objective,
        "verdict": words,
        "verdict_reason": no_verdict,
        "background": background_words(metrics),
        "shortcut": shortcut_words(metrics),
        "training": training_words(metrics),
        "warnings": list(warnings),
        "metrics": metrics,
        "reference": reference,
        **record,
        "epochs_trained": step / plan.dataset.steps_per_epoch,
        "epochs_total": plan.config.trainer.epochs,
        "finished": timestamp(),
        "error": outcome.error,
        "reason": outcome.reason,
    }


def reference_lines(plan: Plan, metrics: Mapping[str, Any], context_frames: int | None) -> dict[str, Any] | None:
    """The environment's reference lines; None where there are none, or no location error to compare with them.

    context_frames: number of leading frames that predictions depend on. With more than one, the lines give no verdict.
    """
    if "prediction_rmse_px" not in metrics:
        return None
    try:
        lines = plan.dataset.reference_lines()
    except Exception as error:  # the result is kept without its reference lines
        log.warning("the reference lines could not be computed, the run goes on without them: %s", error_words(error))
        return None
    if lines is not None and context_frames is not None and context_frames > 1:
        lines["no_verdict"] = f"the predictor is shown {context_frames} frames, the lines hold for one"
    return lines
