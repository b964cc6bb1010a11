"""``result.json``: how a run ended and what it measured. Its only reader and its only writer.

``status`` is ``finished``, ``pruned`` or ``failed``. ``reason`` tells kinds of failure apart: ``not_finite``,
``no_metric``, ``disk_full``, ``died`` (the process was killed) or ``error``. ``format`` counts the forms that
configurations have had; a result without that entry is of the first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa.files import Damaged, PathLike, read_json, write_sealed_json
from jepa.store.config import FORMAT
from jepa.store.layout import RESULT

STATUSES = ("finished", "failed", "pruned")
DONE = ("finished", "pruned")


def read_result(folder: PathLike) -> dict[str, Any] | None:
    """The result in ``folder``; None where there is none.

    Its metrics are a mapping. A result of an earlier version gets the entries ``format`` and ``reason``.

    Raises:
        Damaged: the file cannot be read, or does not hold what a run writes there.
    """
    path = Path(folder, RESULT)
    try:
        result = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(result, dict) or result.get("status") not in STATUSES:
        raise Damaged("does not say how the run ended", path)
    if result["status"] == "failed" and not isinstance(result.get("metrics"), dict):
        result["metrics"] = {}
    if not isinstance(result.get("metrics"), dict) or not isinstance(result.get("config", {}), dict):
        raise Damaged("has no metrics or no configuration", path)
    result.setdefault("format", 1)
    if result["status"] == "failed" and "reason" not in result:
        error = str(result.get("error"))  # results from before reasons were recorded
        result["reason"] = "not_finite" if "not finite" in error or "not a finite" in error else "error"
    return result


def write_result(folder: PathLike, result: Mapping[str, Any]) -> None:
    """Write ``result`` with a checksum; a reader finds the earlier result or this one, never a part."""
    write_sealed_json(Path(folder, RESULT), {"format": FORMAT, **result})


def counted(result: dict[str, Any], metric: str | None = None) -> dict[str, Any]:
    """``result`` as a sweep counts it: without a finite number to minimise, a finished run has failed.

    Args:
        metric: what is minimised: ``objective`` is then that metric's value, whatever the run was asked for. None: the
            metric that the run was asked for.
    """
    asked = result.get("objective_metric")
    metric = asked if metric is None else metric
    result = {**result, "objective": objective_value(result, metric), "objective_metric": metric}
    if result["status"] != "finished" or result["objective"] is not None:
        return result
    if metric in result["metrics"] or metric == asked:
        error, reason = "the objective is not a finite number", "not_finite"
    else:
        error, reason = f"the result has no metric {metric!r}", "no_metric"
    return {**result, "status": "failed", "error": result.get("error") or error, "reason": reason}


def objective_value(result: Mapping[str, Any], metric: str | None) -> float | None:
    """The number in ``result`` that a search for ``metric`` minimises; None where it is missing or not finite."""
    own = result.get("objective_metric") == metric and "objective" in result
    value = result["objective"] if own else result["metrics"].get(metric)
    return float(value) if is_number(value) else None


def is_number(value: object) -> bool:
    """Whether ``value`` is a number that a mean can be taken of (booleans are not, NaN and infinities are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
