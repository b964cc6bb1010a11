"""``--plot``: choose the figure, and draw it from the runs that were found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jepa.errors import nearest
from jepa.results.axes import SEED
from jepa.results.backend import prepare_matplotlib
from jepa.results.collect import Collection
from jepa.results.export import replace_file
from jepa.results.records import Names, ResultsError, Run
from jepa.results.searches import SearchRuns, searches_in
from jepa.results.study import scale_words
from jepa.results.tables import METRICS, Table, metric_names, telling_axes

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

SEARCH_PLOTS = ("trials", "importance", "slice", "parallel")
CURVE_PLOTS = ("epoch", "step", "frame")
TRANSFER = "transfer"
PARETO = "pareto"
LEADERBOARD = "leaderboard"
PLOTS = (*SEARCH_PLOTS, *CURVE_PLOTS, TRANSFER, PARETO, LEADERBOARD)


def draw(
    found: Collection,
    runs: Sequence[Run],
    arguments: argparse.Namespace,
    *,
    metric: str,
    make_table: Callable[[Sequence[str]], Table],
) -> None:
    """Draw the figure of ``--plot`` and write it to every ``--out``.

    Args:
        metric: the metric to draw, unless the figure chooses its own.
        make_table: builds the table of means of the runs, given further keys to use as axes.
    """
    prepare_matplotlib()
    kind = arguments.plot
    if kind in SEARCH_PLOTS:
        figure = _search_figure(searches_in(found, runs), kind, metric)
    elif kind in CURVE_PLOTS:
        figure = _curves(runs, arguments, metric, make_table)
    elif kind == TRANSFER:
        figure = _transfer_figure(runs, arguments, make_table)
    elif kind == PARETO:
        figure = _pareto_figure(arguments, make_table)
    elif kind == LEADERBOARD:
        figure = _leaderboard_figure(runs, arguments)
    else:
        figure = _axis_figure(found, runs, arguments, metric, make_table)
    words = scale_words(runs)
    if words:
        figure.supxlabel(words, x=0.99, ha="right", fontsize=7, color="#666666")
    for path in arguments.out:
        replace_file(path, lambda temporary: figure.savefig(temporary, dpi=160))
        print(f"wrote {path}")


def _search_figure(searches: Sequence[SearchRuns], kind: str, metric: str) -> Figure:
    from jepa.results import figures_search

    if kind == "importance":
        return _importance_figure(searches, metric)
    draw_kind: dict[str, Any] = {
        "trials": figures_search.trials_figure,
        "slice": figures_search.slice_figure,
        "parallel": figures_search.parallel_figure,
    }
    figure: Figure = draw_kind[kind](searches, metric=metric)
    return figure


def _importance_figure(searches: Sequence[SearchRuns], metric: str) -> Figure:
    from jepa.results.figures_search import importance_figure
    from jepa.results.importance import Unexplained, importances

    found: list[tuple[SearchRuns, dict[str, float]]] = []
    skipped: list[str] = []
    method = ""
    for search in searches:
        try:
            shares, method, _ = importances(search.runs, search.axes, metric)
        except Unexplained as error:
            if len(searches) == 1:
                raise
            skipped.append(f"{search.title}: {error.reason}")
            continue
        found.append((search, shares))
        if len(searches) > 1:
            print(f"{search.title}:")
        for key, share in sorted(shares.items(), key=lambda item: -item[1]):
            print(f"{share:.3f}  {key}")
    if not found:
        raise ResultsError(f"--plot importance: {skipped[0]}" if skipped else "--plot importance: no runs")
    for words in skipped:
        print(f"left out: {words}")
    return importance_figure(found, metric=metric, method=method)


def _curves(
    runs: Sequence[Run], arguments: argparse.Namespace, metric: str, make_table: Callable[[Sequence[str]], Table]
) -> Figure:
    from jepa.results.figures_curves import curves_figure

    _, panel, by = _chosen_keys(runs, arguments)
    table = _with_axes(runs, make_table, [*by, *([panel] if panel else [])])
    rest = [axis for axis in table.axes if axis not in (panel, *by)]
    if not by or by == [SEED]:
        by = [*telling_axes(table, rest, [panel, *by]), *by]
    return curves_figure(
        table,
        x=arguments.plot,
        by=by,
        panel=panel,
        metric=arguments.metric,
        objective=metric,
        title=arguments.where or "",
    )


def _transfer_figure(
    runs: Sequence[Run], arguments: argparse.Namespace, make_table: Callable[[Sequence[str]], Table]
) -> Figure:
    from jepa.results.figures_transfer import transfer_figure

    return transfer_figure(make_table([]), runs, metric=arguments.metric or METRICS[0], title=arguments.where or "")


def _pareto_figure(arguments: argparse.Namespace, make_table: Callable[[Sequence[str]], Table]) -> Figure:
    from jepa.results.figures_pareto import pareto_figure

    return pareto_figure(make_table([]), title=arguments.where or "")


def _leaderboard_figure(runs: Sequence[Run], arguments: argparse.Namespace) -> Figure:
    from jepa.results.figures_leaderboard import leaderboard_figure
    from jepa.results.leaderboard import standings

    return leaderboard_figure(standings(runs), title=arguments.where or "")


def _axis_figure(
    found: Collection,
    runs: Sequence[Run],
    arguments: argparse.Namespace,
    metric: str,
    make_table: Callable[[Sequence[str]], Table],
) -> Figure:
    from jepa.results.figures import metric_figure
    from jepa.results.figures_search import slice_figure

    names, panel, by = _chosen_keys(runs, arguments)
    x = _plotted(names, arguments.plot)
    table = _with_axes(runs, make_table, [x, *by, *([panel] if panel else [])])
    if x not in table.axes:
        varying = ", ".join(table.axes) or "nothing"
        raise ResultsError(f"--plot {arguments.plot}: does not vary here; what varies: {varying}")
    rest = telling_axes(table, [axis for axis in table.axes if axis not in (x, panel, *by)], [x, panel, *by])
    searches = [search for search in searches_in(found, runs) if x in search.axes]
    several = len(rest) > 1 or len(searches) > 1
    if searches and not (by or panel or arguments.best) and several and _all_searches(found, runs):
        return slice_figure(searches, metric=metric, keys=[x])  # each trial differs in the other keys too: no lines
    if not by or by == [SEED]:
        by = [*(rest if len(rest) == 1 else [axis for axis in rest if axis == "model"]), *by]
    return metric_figure(table, x=x, by=by, panel=panel, metric=metric, title=arguments.where or "")


def _all_searches(found: Collection, runs: Sequence[Run]) -> bool:
    folders = {run.folder.rpartition("/")[0] for run in runs}
    return all(folder in found.plans and found.plans[folder].search for folder in folders)


def _plotted(names: Names, asked: str) -> str:
    """The full name of the key that ``--plot`` names. Raises ResultsError, with the nearest plot or key."""
    try:
        return names.resolve(asked)
    except ResultsError:
        close = nearest(asked, (*PLOTS, *names.short()))
        if close not in PLOTS:
            raise  # it names the nearest key
        figures = ", ".join(PLOTS)
        raise ResultsError(f"--plot {asked}: no such key or figure ({figures}); did you mean {close!r}?") from None


def _chosen_keys(runs: Sequence[Run], arguments: argparse.Namespace) -> tuple[Names, str | None, list[str]]:
    """The known names, the full name of the key in ``--panel``, and the full names of the keys in ``--by``."""
    names = Names(runs)
    by = [names.resolve(key.strip()) for key in (arguments.by or "").split(",") if key.strip()]
    return names, names.resolve(arguments.panel) if arguments.panel else None, by


def _with_axes(runs: Sequence[Run], make_table: Callable[[Sequence[str]], Table], keys: Sequence[str]) -> Table:
    """The table with further axes: the ``keys`` that its rows would otherwise average over, such as the seed.

    Raises ResultsError for a measured number, which cannot be an axis.
    """
    for key in keys:
        if key in metric_names(runs):
            raise ResultsError(f"{key}: a measured number; what is drawn is chosen with --metric")
    table = make_table([])
    mixed = [key for key in keys if any(len({str(run.value(key)) for run in row.runs}) > 1 for row in table.rows)]
    return make_table(mixed) if mixed else table
