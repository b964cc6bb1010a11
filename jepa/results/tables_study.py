"""Table 1 of the study as text, Markdown and rows for csv: the error for three dots beside the published one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jepa.results.intervals import Summary
from jepa.results.study import DOTS, DotsRow, centre_over_image

_NONE = "–"
_CENTRE = "always the centre"


def dots_table(rows: Sequence[DotsRow]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows, as text, with a last row for always answering the centre."""
    scales = len({row.scale for row in rows}) > 1
    header = [*(["scale"] if scales else []), "method", "n", *(word for dot in DOTS for word in (dot, "published"))]
    body = [[*([row.scale or _NONE] if scales else []), row.method, str(len(row.runs)), *_numbers(row)] for row in rows]
    centre = [word for value in centre_over_image([run for row in rows for run in row.runs])
              for word in (_shown(value), "")]  # fmt: skip
    body.append([*([""] if scales else []), _CENTRE, "", *centre])
    return header, body


def dots_records(rows: Sequence[DotsRow]) -> list[dict[str, Any]]:
    """One flat mapping for each method, in full precision."""
    records = []
    for row in rows:
        record: dict[str, Any] = {"scale": row.scale, "method": row.method, "n": len(row.runs)}
        for dot, ours, published in zip(DOTS, row.ours, row.published, strict=True):
            mean, half_width, _ = ours if ours is not None else (None, None, 0)
            record |= {dot: mean, f"{dot}_ci95": half_width, f"{dot}_published": published}
        records.append(record | {"folders": [run.folder for run in row.runs]})
    return records


def _numbers(row: DotsRow) -> list[str]:
    pairs = zip(row.ours, row.published, strict=True)
    return [word for ours, published in pairs for word in (_summary(ours), _shown(published))]


def _summary(value: Summary | None) -> str:
    if value is None:
        return _NONE
    return f"{value.mean:.3f}" + ("" if value.half_width is None else f" ± {value.half_width:.3f}")


def _shown(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"
