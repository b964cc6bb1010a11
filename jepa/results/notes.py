"""The lines below a table: damaged and omitted runs, the code that made the results, and reference values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from jepa.results.collect import Collection
from jepa.results.records import Run
from jepa.results.reference import common_levels, run_reference
from jepa.results.study import scale_words
from jepa.results.tables import Table
from jepa.store.config import FORMAT

_MOST_NAMED = 5


def summary_line(found: Collection, runs: Sequence[Run], counts: str) -> str:
    """For example ``fixed_uniform: 24 runs: 20 finished, 3 running``. counts: the text after the last colon."""
    amount = f"{len(runs)} of {len(found.runs)}" if len(runs) != len(found.runs) else f"{len(runs)}"
    return f"{found.title}: {amount} run{'s' if len(found.runs) != 1 else ''}: {counts}"


def damage_lines(found: Collection, runs: Sequence[Run]) -> list[str]:
    """A line for each damaged run with the file and the remedy, and for each unreadable file of a sweep."""
    damaged = [run for run in runs if run.status == "damaged"]
    lines = [f"damaged: {damage_of(run)}" for run in damaged[:_MOST_NAMED]]
    if len(damaged) > _MOST_NAMED:
        lines.append(
            f"damaged: {len(damaged) - _MOST_NAMED} more; --where status=damaged --runs --columns error,folder"
        )
    return lines + [f"damaged: {note}" for note in found.notes]


def damage_of(run: Run) -> str:
    """The damage of a run, and the remedy."""
    return f"{run.folder}: {run.fields.get('error')}; {run.fields.get('remedy')}"


def aside_line(found: Collection) -> list[str]:
    """A line with the number of runs left out because the same configuration was run again."""
    if not found.aside:
        return []
    some = "1 earlier run that was" if found.aside == 1 else f"{found.aside} earlier runs that were"
    return [f"not counted: {some} moved aside by rerun=true"]


def scale_line(runs: Sequence[Run]) -> list[str]:
    """A line with the scale of the runs, or with their scales and the number of runs of each."""
    words = scale_words(runs)
    return [words] if words else []


def code_line(runs: Sequence[Run]) -> list[str]:
    """A line with the number of results that other or unknown code made, if any, and how to leave these results out."""
    counts = Counter(run.fields["code"] for run in runs if "code" in run.fields)
    total = sum(counts.values())
    if not counts["other"] and counts["unknown"] in (0, total):
        return []
    unknown = f" and {counts['unknown']} by unknown code" if counts["unknown"] else ""
    return [
        f"{counts['other']} of {total} results were made by other code than this version's{unknown}: "
        "--where code=current leaves them out, rerun=true runs one again"
    ]


def format_line(runs: Sequence[Run]) -> list[str]:
    """A line with the number of runs whose configuration has an older format, if any."""
    older = sum(run.fields.get("format", FORMAT) < FORMAT for run in runs)
    if not older:
        return []
    return [f"{older} of {len(runs)} runs have a configuration of the older format: the same command makes a new run"]


def comparison_lines(table: Table) -> list[str]:
    """Lines with reference values for the table's RMSE, or a line that the runs differ in their environment."""
    references = [run_reference(run) for row in table.rows for run in row.finished]
    lines: list[str] = []
    for metric in (column for column in table.columns if "_rmse_px" in column):
        levels = common_levels(references, metric)
        if levels is None:
            return ["no RMSE to compare with: these runs differ in their environment; choose with --where"]
        if levels:
            lines.append(f"  {metric}: " + " · ".join(f"{name} {value:.2f}" for name, value in levels))
    return ["RMSE to compare with, in px:", *lines] if lines else []


def warning_lines(table: Table) -> list[str]:
    """A line with the number of runs that have warnings, and the first warning."""
    warned = [run for row in table.rows for run in row.runs if warnings_of(run)]
    if not warned:
        return []
    some = "1 run has a warning" if len(warned) == 1 else f"{len(warned)} runs have warnings"
    return [f"{some} ({warned[0].name}): {warnings_of(warned[0])[0]}"]


def warnings_of(run: Run) -> list[str]:
    """The run's warnings, a sentence each."""
    try:
        return [str(text) for text in json.loads(run.fields.get("warnings", "[]"))]
    except (TypeError, ValueError):  # the field is not the JSON list that a run writes
        return [str(run.fields["warnings"])]
