"""``--figure`` and ``--table``: write the study's figure and its data, and print the study's table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jepa.results import leaderboard
from jepa.results.backend import prepare_matplotlib
from jepa.results.collect import Collection
from jepa.results.export import replace_file, write_csv, write_json, write_text
from jepa.results.notes import summary_line
from jepa.results.records import Run
from jepa.results.render import print_lines, table_lines
from jepa.results.study import cell_rows, cells, dots_rows, scale_words
from jepa.results.tables import counted
from jepa.results.tables_study import dots_records, dots_table


def draw_study(found: Collection, runs: Sequence[Run], arguments: argparse.Namespace, *, metric: str) -> None:
    """Draw figure 3 into every ``--out``, and write its data as csv beside the first one or into ``--csv``."""
    prepare_matplotlib()
    from jepa.results.figures_study import noise_figure

    chosen = cells(runs, metric)
    finished = sum(run.status == "finished" for run in runs)
    unfinished = "" if finished == len(runs) else f"{finished} of {len(runs)} runs finished"
    heading = " · ".join(filter(None, (arguments.where, scale_words([run for cell in chosen for run in cell.runs]))))
    figure = noise_figure(chosen, metric=metric, heading=" · ".join(filter(None, (heading, unfinished))))
    paths = arguments.out or [os.path.join(found.folders[0], f"{arguments.figure}.png")]
    for path in paths:
        replace_file(path, lambda temporary: figure.savefig(temporary, dpi=160))
        print(f"wrote {path}")
    table = arguments.csv or f"{os.path.splitext(paths[0])[0]}.csv"
    write_csv(table, cell_rows(chosen, metric))
    if table != "-":
        print(f"wrote {table}")


class Printed(NamedTuple):
    """A table as it is printed, and as it is written."""

    header: list[str]
    body: list[list[str]]
    notes: list[str]
    records: list[dict[str, Any]]


def tabulate_study(found: Collection, runs: Sequence[Run], arguments: argparse.Namespace) -> None:
    """Print the table that ``--table`` names, and write it where ``--csv``, ``--json`` and ``--markdown`` say."""
    printed = TABLES[arguments.table](runs)
    for path, write in ((arguments.csv, write_csv), (arguments.json, write_json)):
        if path:
            write(path, printed.records)
    if arguments.markdown:
        lines = [*table_lines(printed.header, printed.body, markdown=True), "", "; ".join(printed.notes) + "."]
        write_text(arguments.markdown, lines)
    if "-" in (arguments.csv, arguments.json, arguments.markdown):
        return
    print(summary_line(found, runs, counted(run.status for run in runs)))
    print_lines(["", *table_lines(printed.header, printed.body, markdown=False), "", *printed.notes], sys.stdout)


def _table_1(runs: Sequence[Run]) -> Printed:
    rows = dots_rows(runs)
    notes = ["RMSE of the prediction probe / 28, by dot; ± half of the 95 % interval (Student's t) over n seeds"]
    notes += filter(None, [scale_words([run for row in rows for run in row.runs])])
    return Printed(*dots_table(rows), notes, dots_records(rows))


def _leaderboard(runs: Sequence[Run]) -> Printed:
    rows = leaderboard.standings(runs)
    return Printed(*leaderboard.table(rows), leaderboard.notes(rows), leaderboard.records(rows))


TABLES: dict[str, Callable[[Sequence[Run]], Printed]] = {"leaderboard": _leaderboard, "table1": _table_1}
