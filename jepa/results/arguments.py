"""The flags of ``python -m jepa.results``, and which of them go together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jepa.flags import FlagParser
from jepa.results.export import check_ending
from jepa.results.plots import PLOTS
from jepa.results.records import ResultsError
from jepa.results.study_output import TABLES

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


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of one command line; ``folders`` holds the words that are no flags.

    Raises:
        SystemExit: a flag is wrong, or help was asked for; argparse has printed the error or the help.
    """
    return _parser().parse_args(_joined_sort(argv))


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check the flags that depend on each other, before any folder is read.

    Raises:
        ResultsError: two flags exclude each other, one needs another, or a picture has an unknown ending.
    """
    if arguments.plot and not arguments.out:
        raise ResultsError(f"--plot {arguments.plot}: name the file with --out, e.g. --out figure.png")
    if sum(map(bool, (arguments.plot, arguments.figure, arguments.table))) > 1:
        raise ResultsError("--plot, --figure and --table: choose one")
    for path in arguments.out:
        if not (arguments.plot or arguments.figure):
            raise ResultsError(f"--out {path}: say what to draw with --plot, e.g. --plot static_noise")
        check_ending("--out", path, PICTURES)


def _parser() -> FlagParser:
    parser = FlagParser(
        prog="python -m jepa.results",
        description="Look at runs, while they run or after: a table, one row for each combination of what varies.",
        epilog=_EXAMPLES,
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
