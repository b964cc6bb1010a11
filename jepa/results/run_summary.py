"""The short table at the end of a run: each probe's error beside its reference lines, then what the run learnt."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from jepa.estimate import clock
from jepa.results.reference import HARDLY, reference_of
from jepa.results.verdict import learnt_lines


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """The short table at the end of a run.

    For each probe the table lists the probe's RMSE, marked ">", and its reference lines, worst first. With several
    dots, each dot has a column. Below the table stand the probe's other targets, the warnings and the verdict.

    result: as in ``result.json``. Metrics that are missing or not finite are left out.
    """
    metrics = result["metrics"]
    reference = reference_of(result.get("reference"), result.get("config", {}).get("dataset", {}))
    dots = _dot_names(metrics, reference)
    columns = [f"{name:>{max(8, len(name) + 1)}}" for name in (*dots, "all" if dots else "")]
    lines = [f"{'RMSE of the location, px':<42}{''.join(columns)}".rstrip()]
    frames = len(metrics.get("prediction_rmse_px_per_step") or [])
    first = metrics.get("judged_from_frame", 0)
    judged = f"frames {first} to {frames - 1}" if first else f"all {frames} frames" if frames else "all frames"
    covered = {"prediction": judged, "encoder": f"frame {first}"}
    own = {"prediction": ["prediction probe", "own head"], "encoder": ["encoder probe"]}
    for probe, labels in own.items():
        rows = [_own_row(label, metrics, len(dots)) for label in labels]
        rows = [row for row in rows if any(map(math.isfinite, row.errors))]
        if not rows:
            continue
        rows += [_line_row(line, len(dots)) for line in (reference[probe]["lines"] if reference else [])]
        lines.append(f"{probe}, {covered[probe]}")
        lines += [row.text([len(column) for column in columns]) for row in sorted(rows, key=_Row.rank)]
    lines += _other_targets(metrics, result.get("config", {}).get("probe", {}).get("targets", {}))
    if metrics.get("train_seconds"):
        lines.append(f"trained for {clock(metrics['train_seconds'])}")
    lines += [f"warning: {text}" for text in result.get("warnings") or []]
    if result.get("verdict"):
        lines.append(f"verdict{' on the action dot' if dots else ''}: {result['verdict']}")
    elif result.get("verdict_reason"):
        lines.append(f"no verdict: {result['verdict_reason']}")
    if result.get("training") == HARDLY:
        lines.append(f"{HARDLY}: the encoder's weights moved by {metrics['weights_moved']:.2g} of their norm")
    learnt = learnt_lines({**result, "reference": reference})
    return [*lines, *([f"learnt: {learnt[0]}", *learnt[1:]] if learnt else [])]


class _Row(NamedTuple):
    """A row of the table. errors: in px, of each dot if there are several, then of all dots."""

    mark: str
    label: str
    errors: list[float]

    def rank(self) -> float:
        return -next(error for error in reversed(self.errors) if math.isfinite(error))

    def text(self, widths: Sequence[int]) -> str:
        cells = (f"{error:.2f}" if math.isfinite(error) else "-" for error in self.errors)
        columns = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{self.mark} {self.label:<40}{''.join(columns)}"


def _own_row(label: str, metrics: Mapping[str, Any], num_dots: int) -> _Row:
    name = label.removesuffix(" probe").removeprefix("own ")  # its name in the metrics
    per_dot = (metrics.get(f"{name}_rmse_px_per_dot") or [None] * num_dots)[:num_dots]
    return _Row(">", label, [_finite(value) for value in (*per_dot, metrics.get(f"{name}_rmse_px"))])


def _line_row(line: Mapping[str, Any], num_dots: int) -> _Row:
    per_dot = (line.get("per_dot_px") or [None] * num_dots)[:num_dots]
    return _Row(" ", line["name"], [_finite(value) for value in (*per_dot, line["rmse_px"])])


def _dot_names(metrics: Mapping[str, Any], reference: Mapping[str, Any] | None) -> list[str]:
    """The names of the dots if there are several; an empty list for one dot."""
    count = len(metrics.get("prediction_rmse_px_per_dot") or [])
    known = (reference or {}).get("dots") or ()
    return [known[dot] if dot < len(known) else f"dot {dot + 1}" for dot in range(count)] if count > 1 else []


def _other_targets(metrics: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """One line for each target except location: "start: prediction rmse_px 7.54, r2 0.31 · encoder …"."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in names if name != "location"}
    for metric, value in metrics.items():
        probe, _, rest = metric.partition("_")
        name = max((name for name in found if rest.startswith(f"{name}_")), key=len, default=None)
        if probe in ("prediction", "encoder") and name is not None and isinstance(value, float):
            found[name].setdefault(probe, []).append(f"{rest[len(name) + 1 :]} {value:.2f}")
    shown = {name: [f"{probe} {', '.join(words)}" for probe, words in by.items()] for name, by in found.items()}
    return [f"{name}: {' · '.join(words)}" for name, words in shown.items() if words]


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan
