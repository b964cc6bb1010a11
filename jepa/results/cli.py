"""The command ``python -m jepa.results``: show tables, figures and details of runs from their files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from jepa.errors import nearest
from jepa.results.archiving import archive_runs
from jepa.results.arguments import check_arguments, parse_arguments
from jepa.results.axes import varying_axes
from jepa.results.collect import Collection, collect
from jepa.results.export import export_rows, run_mapping, write_csv, write_json, write_parquet, write_text
from jepa.results.notes import (
    aside_line,
    code_line,
    comparison_lines,
    damage_lines,
    format_line,
    scale_line,
    summary_line,
    warning_lines,
)
from jepa.results.plots import CURVE_PLOTS, draw
from jepa.results.protocol import FOOTNOTE, left_out_line, protocol_table
from jepa.results.query import compile_condition
from jepa.results.records import Names, ResultsError, Run
from jepa.results.render import format_cell, print_lines, print_table, table_lines, text_columns
from jepa.results.show import find_run, run_lines
from jepa.results.streams import guarded
from jepa.results.study_output import draw_study, tabulate_study
from jepa.results.tables import (
    COUNT,
    METRICS,
    UNFINISHED,
    Table,
    best_rows,
    build_table,
    counted,
    metric_names,
    sort_rows,
    without_constants,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Returns:
        The exit code: 0; 2 for an invalid request; 1 if the output cannot be written; 130 if the user interrupts.
    """
    return guarded(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    try:
        arguments = parse_arguments(argv)
    except SystemExit as end:  # argparse has printed the error or the help
        return int(end.code or 0)
    try:
        _answer(arguments)
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _answer(arguments: argparse.Namespace) -> None:
    check_arguments(arguments)
    found = collect(arguments.folders)
    runs = _chosen(found.runs, arguments.where)
    if arguments.archive:
        print(archive_runs(found, runs, arguments.archive))
    elif arguments.show or (found.single and not _makes_files(arguments)):
        _show(found, find_run(runs, arguments.show) if arguments.show else runs[0], arguments.json)
    elif arguments.figure:
        draw_study(found, runs, arguments, metric=_metric(runs, Names(runs), arguments.metric))
        _warn(damage_lines(found, runs))
    elif arguments.table:
        tabulate_study(found, runs, arguments)
        _warn(damage_lines(found, runs))
    elif arguments.plot:
        arguments.runs = False
        metric = _metric(runs, Names(runs), None if arguments.plot in CURVE_PLOTS else arguments.metric)
        draw(found, runs, arguments, metric=metric, make_table=lambda keys: _table(found, runs, arguments, keys))
        _warn(damage_lines(found, runs))
    else:
        _tabulate(found, runs, arguments)


def _makes_files(arguments: argparse.Namespace) -> bool:
    wanted = (arguments.plot, arguments.figure, arguments.table, arguments.csv, arguments.parquet)
    return any(wanted)


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _chosen(runs: Sequence[Run], where: str | None) -> list[Run]:
    if not where:
        return list(runs)
    condition = compile_condition(where, Names(runs))
    chosen = [run for run in runs if condition.holds(run)]
    if not chosen:
        raise ResultsError(
            f"--where {where!r}: none of {len(runs)} runs matches{_values_hint(runs, condition.equalities)}"
        )
    return chosen


def _values_hint(runs: Sequence[Run], equalities: Sequence[tuple[str, str]]) -> str:
    for key, text in equalities:
        values = sorted({format_cell(run.value(key), exact=True) for run in runs})
        if text not in values:
            close = nearest(text, values)
            listed = ", ".join(values[:8]) + (", ..." if len(values) > 8 else "")
            return f"; {key} has the values {listed}" + (f"; did you mean {close!r}?" if close else "")
    return ""


# --- tables ---------------------------------------------------------------------------------------------------------


def _tabulate(found: Collection, runs: list[Run], arguments: argparse.Namespace) -> None:
    own = arguments.runs or arguments.columns or arguments.best or arguments.sort  # the user chose rows or columns
    metric = _metric(runs, Names(runs), arguments.metric)
    protocol = None if own else protocol_table(found, runs, metric)
    others = left_out_line(found, runs, metric) if protocol else []
    table = protocol or _table(found, runs, arguments)
    written = [path for path in (arguments.csv, arguments.json, arguments.parquet, arguments.markdown) if path]
    chosen = _columns(table, Names(runs), arguments.columns) if arguments.columns else []
    shown = table if chosen or protocol else without_constants(table)
    if written:
        rows = export_rows(table)
        for path, write in (
            (arguments.csv, write_csv),
            (arguments.json, write_json),
            (arguments.parquet, write_parquet),
        ):
            if path:
                write(path, rows)
    if arguments.markdown:
        headers, columns, _ = text_columns(shown)
        body = [[cell.strip() for cell in row] for row in zip(*columns, strict=True)]
        write_text(arguments.markdown, table_lines(headers, body, markdown=True))
    damage = damage_lines(found, runs)
    if "-" in written:
        _warn([*others, *damage])
        return
    print(summary_line(found, runs, counted(run.status for run in runs)))
    print()
    print_table(shown, sys.stdout, keep=chosen)
    _footer(table, sys.stdout)
    print_lines(FOOTNOTE if protocol else [], sys.stdout)
    notes = [*others, *scale_line(runs), *aside_line(found), *code_line(runs), *format_line(runs), *damage]
    if notes:
        print_lines(["", *notes], sys.stdout)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


def _table(
    found: Collection, runs: list[Run], arguments: argparse.Namespace, further_axes: Sequence[str] = ()
) -> Table:
    names = Names(runs)
    axes = list(dict.fromkeys((*_axes(found, runs), *further_axes)))
    table = build_table(runs, axes, per_run=arguments.runs)
    if arguments.columns:
        table = table.with_columns(_columns(table, names, arguments.columns))
    if arguments.best:
        keys = [names.resolve(key) for key in arguments.best.split(",")]
        table = best_rows(table, keys, _metric(runs, names, arguments.metric))
    searches = found.plans and all(plan.search for plan in found.plans.values())
    sort = arguments.sort or ("objective" if searches else "")
    keys = [part for part in sort.split(",") if part]
    return sort_rows(table, [("-" if key[0] == "-" else "") + _column(names, key.lstrip("-")) for key in keys])


def _axes(found: Collection, runs: Sequence[Run]) -> list[str]:
    return varying_axes(runs, [axis for plan in found.plans.values() for axis in plan.axes])


def _column(names: Names, name: str) -> str:
    return name if name in (COUNT, UNFINISHED) else names.resolve(name)


def _columns(table: Table, names: Names, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    added = [_column(names, word.lstrip("+")) for word in words]
    usual = table.columns if any(word.startswith("+") for word in words) else ()
    return list(dict.fromkeys((*usual, *added)))


def _metric(runs: Sequence[Run], names: Names, asked: str | None) -> str:
    """The full name of the metric that the user asks for; by default the metric that the runs minimise.

    Raises:
        ResultsError: ``asked`` is not a metric.
    """
    measured = metric_names(runs)
    if asked:
        metric = names.resolve(asked)
        if metric not in measured:
            raise ResultsError(f"--metric {asked}: not a number that runs measure")
        return metric
    objectives = {str(run.fields["objective_metric"]) for run in runs if run.fields.get("objective_metric")}
    return objectives.pop() if len(objectives) == 1 and objectives <= measured else METRICS[0]


def _footer(table: Table, stream: TextIO) -> None:
    lines = []
    if table.averaged:
        lines.append("mean ± half of the 95 % interval (Student's t) over n runs that differ in their seed")
    if table.per_run and any(not row.finished and table.cell(row, c) for row in table.rows for c in table.metrics):
        lines.append("in parentheses: what runs that did not finish had reached")
    lines += [*comparison_lines(table), *warning_lines(table)]
    if lines:
        print_lines(["", *lines], stream)


def _show(found: Collection, run: Run, json_path: str | None) -> None:
    siblings = [other for other in found.runs if os.path.dirname(other.folder) == os.path.dirname(run.folder)]
    axes = _axes(found, siblings)
    if json_path:
        write_json(json_path, run_mapping(run, axes))
    else:
        print("\n".join(run_lines(run, axes)))
