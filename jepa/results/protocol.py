"""The report of ``+sweep=protocol``: for each cell the trials, and the best trial's parameters on the test stream.

A cell is a method on a data set. Its trials were judged on the validation stream. Its final runs were judged on the
test stream, and have the winner's values of all searched keys. The winner is the best trial that has final runs: a
search may keep the preset's own values. Configurations alone say which run is what, so archives are read too.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jepa.config.names import short_names
from jepa.results.axes import axis_value
from jepa.results.collect import Collection
from jepa.results.records import Run, parse_override
from jepa.results.reference import HARDLY, HARDLY_TRAINED
from jepa.results.searches import cell_name
from jepa.results.tables import COUNT, Row, Table, metric_names, sign_of, sort_rows
from jepa.store.result import is_number

STREAM, RATE = "probe.judge_stream", "optimizer.base_lr"
FAR_BELOW = 0.1  # a learning rate below this share of its neighbours' median is marked
COLUMNS = ("trials", "validation_best", "validation_median")

FOOTNOTE = (
    "validation_best, validation_median: over a cell's finished trials, judged on the validation stream",
    "the metric: n final runs with the winner's parameters and new seeds, judged on the test stream",
    f"remark: {HARDLY} (the encoder's weights moved by less than {HARDLY_TRAINED:g} of their norm); low learning rate "
    f"(below {FAR_BELOW:g} of the median in the better half of the trials of the method's other cells)",
)


@dataclass(frozen=True)
class Cell:
    """A method on a data set. trials: all of them, best first, unfinished last. finals: of ``winner``."""

    name: tuple[Any, ...]
    trials: tuple[Run, ...]
    winner: Run
    finals: tuple[Run, ...]
    searched: tuple[str, ...]
    metric: str

    @property
    def finished(self) -> list[Run]:
        """The finished trials with the metric, best first."""
        return [run for run in self.trials if run.status == "finished" and is_number(run.value(self.metric))]

    @property
    def better_half(self) -> list[Run]:
        """The better half of the finished trials, rounded up."""
        return self.finished[: (len(self.finished) + 1) // 2]


def protocol_cells(found: Collection, runs: Sequence[Run], metric: str) -> list[Cell]:
    """The cells among ``runs``; empty if no run was judged on the validation stream."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.config:
            groups.setdefault(cell_name(run, _planned(found, run)), []).append(run)
    cells = []
    for name, group in groups.items():
        trials = [run for run in group if run.value(STREAM) == "validation"]
        if not trials:
            continue
        planned = _planned(found, trials[0])
        searched = tuple(key for key in planned if len({str(axis_value(run, key)) for run in trials}) > 1)
        ordered = tuple(sorted(trials, key=lambda run: _order(run, metric)))
        tested = [run for run in group if run.value(STREAM) == "test"]
        finals = [tuple(run for run in tested if _same(run, trial, searched)) for trial in ordered]
        place = next((place for place, runs_of in enumerate(finals) if runs_of), 0)
        cells.append(Cell(name, ordered, ordered[place], finals[place], searched, metric))
    return cells


def _is_of_search(found: Collection, run: Run) -> bool:
    plan = found.plans.get(os.path.dirname(run.folder))
    return plan is not None and plan.search


def _planned(found: Collection, run: Run) -> tuple[str, ...]:
    """The axes of the sweep that ``run`` is a job of; those of other sweeps are fixed here."""
    plan = found.plans.get(os.path.dirname(run.folder))
    return () if plan is None else tuple(dict.fromkeys(plan.axes))


def protocol_table(found: Collection, runs: Sequence[Run], metric: str) -> Table | None:
    """A row for each cell; None if no run, or only those of a grid, were judged on the validation stream."""
    cells = protocol_cells(found, runs, metric)
    if not any(cell.finals or _is_of_search(found, cell.winner) for cell in cells):
        return None
    searched = {key for cell in cells for key in cell.searched}
    overridden = dict.fromkeys(
        parse_override(text)[0] for cell in cells for run in cell.trials for text in run.overrides
    )
    axes = ["model", *(key for key in overridden if key.startswith("dataset") and key not in searched)]
    rows = []
    for cell in cells:
        told = _told(cell, cells)
        shown = cell.finals or (Run(cell.trials[0].folder, "pending"),)
        runs_of = tuple(replace(run, fields={**run.fields, **told}) for run in shown)
        rows.append(Row(tuple(axis_value(cell.trials[0], key) for key in axes), runs_of))
    finals = [run for row in rows for run in row.runs]
    metrics = metric_names(finals) | {metric}
    verdict = ("verdict",) if any(run.fields.get("verdict") for run in finals) else ()
    columns = (*COLUMNS, metric, COUNT, *verdict, "winner", "remark")
    return sort_rows(Table(tuple(axes), columns, tuple(rows), False, metrics), axes)


def left_out_line(found: Collection, runs: Sequence[Run], metric: str) -> list[str]:
    """A line with the number of runs that the report does not show, such as those of a grid in the same folder."""
    shown = {run.folder for cell in protocol_cells(found, runs, metric) for run in (*cell.trials, *cell.finals)}
    others = sum(run.folder not in shown for run in runs if run.config)
    if not others:
        return []
    some = "1 run is" if others == 1 else f"{others} runs are"
    return [f"not shown: {some} neither a trial nor a final run of a winner; --runs lists all, --where chooses"]


def low_learning_rate(cell: Cell, cells: Sequence[Cell]) -> bool:
    """Whether the winner's learning rate is far below its neighbours'.

    The neighbours are the better halves of the trials of the other cells of the method. Far below: less than FAR_BELOW
    times the median of their learning rates. A cell without neighbours is not marked.
    """
    model = cell.trials[0].choices.get("model")
    others = [other for other in cells if other is not cell and other.trials[0].choices.get("model") == model]
    rates = [float(rate) for other in others for run in other.better_half if is_number(rate := run.value(RATE))]
    own: Any = cell.winner.value(RATE)
    return bool(rates) and is_number(own) and float(own) < FAR_BELOW * statistics.median(rates)


def _told(cell: Cell, cells: Sequence[Cell]) -> dict[str, Any]:
    """The values of a row that its final runs do not have themselves."""
    done, count = cell.finished, len(cell.trials)
    told: dict[str, Any] = {"trials": f"{len(done)}" if len(done) == count else f"{len(done)} of {count}"}
    if not done:
        return told
    best, values = cell.winner, [float(run.value(cell.metric)) for run in done]
    names = short_names(cell.searched)
    winner = [f"{names[key]}={_shown(axis_value(best, key))}" for key in cell.searched]
    moved = [float(run.metrics["weights_moved"]) for run in (best, *cell.finals) if "weights_moved" in run.metrics]
    remarks = [HARDLY] if moved and statistics.mean(moved) < HARDLY_TRAINED else []
    remarks += ["low learning rate"] if low_learning_rate(cell, cells) else []
    return {
        **told,
        "validation_best": values[0],
        "validation_median": statistics.median(values),
        "winner": f"{' '.join(winner)} ({best.name})",
        **({"remark": ", ".join(remarks)} if remarks else {}),
    }


def _order(run: Run, metric: str) -> tuple[bool, float]:
    value = run.value(metric)
    counts = run.status == "finished" and is_number(value)
    return not counts, sign_of(metric) * float(value) if counts else 0.0


def _same(run: Run, other: Run, keys: Sequence[str]) -> bool:
    return all(axis_value(run, key) == axis_value(other, key) for key in keys)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
