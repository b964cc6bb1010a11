"""The command ``python -m jepa.results``: show tables, figures and details of runs from their files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from jepa.errors import nearest
from jepa.flags import FlagParser
from jepa.results.archiving import archive_runs
from jepa.results.axes import varying_axes
from jepa.results.collect import Collection, collect
from jepa.results.export import check_ending, export_rows, run_mapping, write_csv, write_json, write_parquet, write_text
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
from jepa.results.plots import CURVE_PLOTS, PLOTS, draw
from jepa.results.protocol import FOOTNOTE, left_out_line, protocol_table
from jepa.results.query import compile_condition
from jepa.results.records import Names, ResultsError, Run
from jepa.results.render import format_cell, print_lines, print_table, table_lines, text_columns
from jepa.results.show import find_run, run_lines
from jepa.results.streams import guarded
from jepa.results.study_output import TABLES, draw_study, tabulate_study
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

PICTURES = ("png", "pdf", "svg")
_EXAMPLES = """\
examples:
  python -m jepa.results outputs/fixed_uniform --where "model in (vicreg, simclr) and static_noise>=1" --sort -rmse
  python -m jepa.results outputs/fixed_uniform --runs --csv runs.csv
  python -m jepa.results outputs/fixed_uniform --plot static_noise --out rmse.png --out rmse.pdf
  python -m jepa.results outputs/fixed_uniform --plot epoch --metric loss/total --out curves.png
  python -m jepa.results outputs/search --plot trials --out trials.png
  python -m jepa.results outputs/figure3 --figure figure3
  python -m jepa.results outputs/table1 --table table1 --markdown table1.md
  python -m jepa.results outputs/runs --show 3fa2
  python -m jepa.results outputs/fixed_uniform --archive studies/fixed_uniform
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Returns:
        The exit code: 0; 2 for an invalid request; 1 if the output cannot be written; 130 if the user interrupts.
    """
    return guarded(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    try:
        arguments = _parser().parse_args(_joined_sort(argv))
    except SystemExit as end:  # argparse has printed the error or the help
        return int(end.code or 0)
    try:
        _answer(arguments)
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> FlagParser:
    parser = FlagParser(
        prog="python -m jepa.results",
        description="Look at runs, while they run or after: a table, one row for each combination of what varies.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "folders",
        nargs="*",
        default=["outputs"],
        metavar="FOLDER",
        help="a sweep's folder, one that holds several, or a run's (default: outputs)",
    )
    rows = parser.add_argument_group("rows and columns").add_argument
    rows("--where", metavar="EXPR", help='only runs that match, e.g. "model=vicreg and (noise>1 or seed in (0, 1))"')
    rows("--runs", "--seeds", action="store_true", help="one row a run, instead of means over seeds")
    rows("--sort", metavar="KEY", help="order of rows: key[,key...]; -KEY descends")
    rows("--best", metavar="KEYS", help="for each combination of these axes only the row with the best --metric")
    rows("--columns", metavar="KEYS", help="what to show beside the axes: key[,key...]; +KEY adds to the usual ones")
    rows("--show", metavar="HASH", help="everything on one run: the beginning of its hash or of its folder's name")
    files = parser.add_argument_group("files ('-' is standard output)").add_argument
    files("--csv", metavar="FILE", help="write the rows as csv")
    files("--json", metavar="FILE", help="write the rows (with --show: the run) as json")
    files("--markdown", metavar="FILE", help="write the table in Markdown")
    files("--parquet", metavar="FILE", help="write the rows as parquet (needs pyarrow)")
    files(
        "--archive",
        metavar="FOLDER",
        help="write the results into FOLDER/archive.jsonl, a few kB a run; they are added to those that are there",
    )
    figures = parser.add_argument_group("figures").add_argument
    figures("--plot", metavar="KEY", help=f"draw the metric against an axis, or one of {', '.join(PLOTS)}")
    figures("--figure", choices=["figure3"], help="a figure of the study and its csv, into FOLDER or --out")
    figures("--table", choices=[*TABLES], help="a table of the study, beside the published numbers, or the leaderboard")
    figures("--leaderboard", dest="table", action="store_const", const="leaderboard", help="the benchmark's table")
    figures("--metric", metavar="KEY", help="what is drawn, and what is best (default: what the runs minimise)")
    figures("--by", metavar="KEYS", help="one line for each value (default: the model)")
    figures("--panel", metavar="KEY", help="one panel for each value")
    figures("--out", metavar="FILE", action="append", default=[], help=".png, .pdf or .svg; may be given again")
    return parser


def _joined_sort(argv: Sequence[str]) -> list[str]:
    """Rewrite ``--sort -KEY`` as ``--sort=-KEY``, because argparse takes ``-KEY`` for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] == "--sort":
            joined[-1] = f"--sort={word}"
        else:
            joined.append(word)
    return joined


def _answer(arguments: argparse.Namespace) -> None:
    _check(arguments)
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


def _check(arguments: argparse.Namespace) -> None:
    if arguments.plot and not arguments.out:
        raise ResultsError(f"--plot {arguments.plot}: name the file with --out, e.g. --out figure.png")
    if sum(map(bool, (arguments.plot, arguments.figure, arguments.table))) > 1:
        raise ResultsError("--plot, --figure and --table: choose one")
    for path in arguments.out:
        if not (arguments.plot or arguments.figure):
            raise ResultsError(f"--out {path}: say what to draw with --plot, e.g. --plot static_noise")
        check_ending("--out", path, PICTURES)


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
