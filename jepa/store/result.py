"""Read and write ``result.json``: the end of a run and its final metrics. No other module does.

``status`` is ``finished``, ``pruned`` or ``failed``. ``reason`` is the kind of failure: ``not_finite``, ``no_metric``,
``disk_full``, ``died`` (the process was killed) or ``error``. ``format`` is the number of the configuration format. A
result without ``format`` has format 1.
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
    """The result in ``folder``; None if there is none.

    ``metrics`` is always a mapping. Missing entries ``format`` and ``reason`` (from earlier versions) are added.

    Raises:
        Damaged: the file cannot be read, or its content is not a result.
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
        error = str(result.get("error"))  # earlier versions recorded no reason
        result["reason"] = "not_finite" if "not finite" in error or "not a finite" in error else "error"
    return result


def write_result(folder: PathLike, result: Mapping[str, Any]) -> None:
    """Write ``result`` with a checksum, atomically: a reader finds either the earlier result or this one."""
    write_sealed_json(Path(folder, RESULT), {"format": FORMAT, **result})


def counted(result: dict[str, Any], metric: str | None = None) -> dict[str, Any]:
    """``result`` as a sweep counts it: a finished run without a finite objective counts as failed.

    Args:
        metric: the metric that the sweep minimises. Its value becomes ``objective``, also if the run had another
            objective. None: the run's own objective.
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
    """The value of ``metric`` in ``result``; None if it is missing or not finite."""
    own = result.get("objective_metric") == metric and "objective" in result
    value = result["objective"] if own else metric_value(result["metrics"], metric or "")
    return float(value) if is_number(value) else None


def metric_value(metrics: Mapping[str, Any], name: str) -> Any:
    """The metric ``name``, or one entry of a metric that is a list: ``prediction_rmse_px_per_dot.2``. None: missing."""
    stem, _, place = name.rpartition(".")
    values = metrics.get(stem)
    if name not in metrics and isinstance(values, list) and place.isdigit() and int(place) < len(values):
        return values[int(place)]
    return metrics.get(name)


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number. Booleans, NaN and infinities are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
