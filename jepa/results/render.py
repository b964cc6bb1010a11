"""Tables as text: aligned plain lines, one for each row, or a table by rich on a terminal."""

from __future__ import annotations

import math
import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

from jepa.config.names import short_names
from jepa.results.intervals import Summary
from jepa.results.tables import COUNT, METRICS, UNFINISHED, Table
from jepa.store.result import is_number
from jepa.terminal import encodable

MISSING = "–"
_NARROWEST_CUT = 12
_GAP = 2  # characters between two columns in rich's tables
_DIGITS = range(3, 7)  # significant digits of a setting: the fewest that distinguish the column's values
_FIRST_TO_GO = ("epochs_trained", "encoder_rmse_px")  # dropped early if the terminal is too narrow
_LAST_TO_GO = (*METRICS[:1], "verdict", "status", COUNT, UNFINISHED, "seed", "model", "folder")
_STYLES = {"tracks": "green", "knows only the start": "yellow", "ignores the dot": "red", "hardly trained": "red"}
_STYLES |= {"found": "red", "not found": "green"}


def format_number(value: float) -> str:
    """Three significant digits; whole numbers and numbers from 1000 on without decimals."""
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return str(int(value))
    if 1e-4 <= abs(value) < 1e3:
        return f"{value:.{decimals(value)}f}"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.2e}"


def decimals(value: float) -> int:
    """The number of decimals that show three significant digits of ``value``."""
    return max(0, 2 - math.floor(math.log10(abs(value)))) if value else 2


def format_measured(value: float) -> str:
    """As :func:`format_number`, but whole numbers below 100 get two decimals too."""
    return f"{value:.2f}" if value == int(value) and abs(value) < 1e2 else format_number(float(value))


def format_summary(summary: Summary) -> str:
    """For example ``5.57 ± 0.12``; only the mean if there is no interval."""
    mean, half = format_measured(summary.mean), summary.half_width
    if half is None:
        return mean
    places = len(mean.rpartition(".")[2]) if "." in mean and "e" not in mean else 0
    rounded = f"{half:.{places}f}"
    exact = "e" in mean or not float(rounded) or half > 1e6
    return f"{mean} ± {f'{half:.1g}' if exact else rounded}"


def format_cell(cell: Any, *, exact: bool = False, measured: bool = False) -> str:
    """The text of one cell. exact: the cell is a setting, shown with up to six digits. measured: it is a metric."""
    if cell is None:
        return MISSING
    if isinstance(cell, Summary):
        return format_summary(cell)
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, (int, float)) and is_number(cell):
        if measured and isinstance(cell, float):
            return format_measured(cell)
        return f"{cell:.6g}" if exact and isinstance(cell, float) else format_number(cell)
    if isinstance(cell, list):
        return " ".join(format_cell(item, measured=True) for item in cell)
    return str(cell).replace("\n", " ")


def format_settings(cells: Sequence[Any]) -> list[str]:
    """The settings of one column. Each number has the fewest digits, at least three, that distinguish it."""
    distinct = {cell for cell in cells if isinstance(cell, float)}
    texts: dict[float, str] = {}
    for digits in _DIGITS:
        ambiguous = Counter(_setting(value, digits) for value in distinct)
        for value in distinct - texts.keys():
            text = _setting(value, digits)
            if ambiguous[text] == 1 or digits == _DIGITS[-1]:
                texts[value] = text
    return [texts[cell] if isinstance(cell, float) else format_cell(cell, exact=True) for cell in cells]


def _setting(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e7 else text


def text_columns(table: Table, stream: TextIO | None = None) -> tuple[list[str], list[list[str]], list[bool]]:
    """(headers, the cells of each column as text, whether each column has numbers), in the encoding of ``stream``."""
    keys = [*table.axes, *table.columns]
    short = short_names(keys)
    columns: list[list[str]] = []
    numeric: list[bool] = []
    for key in keys:
        cells = [table.cell(row, key) for row in table.rows]
        measured = key in table.metrics
        texts = [format_cell(cell, measured=True) for cell in cells] if measured else format_settings(cells)
        if measured and table.per_run:
            finished = [bool(row.finished) for row in table.rows]
            texts = [text if ok or text == MISSING else f"({text})" for text, ok in zip(texts, finished, strict=True)]
        texts = texts if stream is None else [encodable(text, stream) for text in texts]
        is_numeric = any(isinstance(cell, Summary) or is_number(cell) for cell in cells)
        columns.append(_aligned(texts) if is_numeric else texts)
        numeric.append(is_numeric)
    return [short[key] for key in keys], columns, numeric


def table_lines(header: Sequence[str], body: Sequence[Sequence[str]], *, markdown: bool) -> list[str]:
    """A table in aligned text, or in Markdown."""
    rows = [header, *body]
    widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
    padded = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in rows]
    if not markdown:
        return ["  ".join(row).rstrip() for row in padded]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _aligned(texts: Sequence[str]) -> list[str]:
    """Pad numbers so that their decimal points and their ``±`` are aligned."""
    sign = " ± " if any("±" in text for text in texts) else " +- "
    means = _on_point([text.partition(sign)[0] for text in texts])
    if not any(sign in text for text in texts):
        return means
    halves = _on_point([text.partition(sign)[2] for text in texts])
    blank = " " * len(sign)
    return [f"{mean}{sign if half.strip() else blank}{half}" for mean, half in zip(means, halves, strict=True)]


def _on_point(texts: Sequence[str]) -> list[str]:
    parts = [text.partition(".") for text in texts]
    before = max(len(part[0]) for part in parts)
    after = max(len(part[1] + part[2]) for part in parts)
    return [part[0].rjust(before) + (part[1] + part[2]).ljust(after) for part in parts]


def plain_lines(table: Table, stream: TextIO | None = None) -> list[str]:
    """The table as lines: a header, then one line for each row. Columns are two spaces apart. No text is cut."""
    headers, columns, numeric = text_columns(table, stream)
    padded = []
    for header, column, is_numeric in zip(headers, columns, numeric, strict=True):
        width = max(map(len, [header, *column]))
        padded.append([text.rjust(width) if is_numeric else text.ljust(width) for text in [header, *column]])
    return ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]


def print_table(table: Table, stream: TextIO, keep: Sequence[str] = ()) -> None:
    """Write the table: with rich on a terminal, as plain lines elsewhere.

    On a narrow terminal, words are cut, but numbers are not. Columns that still do not fit are left out, and a line
    below the table names them.

    Args:
        keep: columns that the user asked for; they are left out last.
    """
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        stream.write("\n".join(plain_lines(table, stream)) + "\n")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=stream)
    headers, columns, numeric = text_columns(table, stream)
    names = dict(zip([*table.axes, *table.columns], range(len(headers)), strict=True))
    folded = [_folded(header, max(map(len, column))) for header, column in zip(headers, columns, strict=True)]
    widths = [max(map(len, [*lines, *column])) for lines, column in zip(folded, columns, strict=True)]
    kept = _kept(table, names, widths, numeric, console.width, keep)
    fitted = dict(zip(kept, _fitted([widths[i] for i in kept], [numeric[i] for i in kept], console.width), strict=True))
    shown = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for i in kept:
        shown.add_column("\n".join(folded[i]), justify="right" if numeric[i] else "left", no_wrap=True, width=fitted[i])
        if headers[i] == "folder":
            columns[i] = [_tail(text, fitted[i]) for text in columns[i]]
    for cells in zip(*(columns[i] for i in kept), strict=True):
        shown.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in cells))
    console.print(shown)
    left_out = [name for name, i in names.items() if i not in kept]
    if left_out:
        print_lines([f"no room for {', '.join(left_out)}: --columns chooses, --csv has all"], stream)


def print_lines(lines: Sequence[str], stream: TextIO) -> None:
    """Write the lines. On a terminal, lines that are too long are broken between words."""
    width = shutil.get_terminal_size().columns if stream.isatty() else 0
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        broken = textwrap.wrap(line, width, subsequent_indent=indent + "  ", break_long_words=False) if width else []
        stream.write("\n".join(broken or [line]) + "\n")


def _kept(
    table: Table, names: dict[str, int], widths: list[int], numeric: list[bool], total: int, keep: Sequence[str]
) -> list[int]:
    """The indices of the columns that fit. The least important columns are dropped first."""
    kept = list(names.values())
    smallest = [
        width if is_numeric else min(width, _NARROWEST_CUT) for width, is_numeric in zip(widths, numeric, strict=True)
    ]
    missing = {axis: sum(row.point[place] is None for row in table.rows) for place, axis in enumerate(table.axes)}
    sparse = sorted((axis for axis in missing if missing[axis]), key=lambda axis: -missing[axis])
    order = dict.fromkeys((*sparse, *_FIRST_TO_GO, *reversed(table.columns), *reversed(table.axes)))
    order = dict.fromkeys((*(name for name in order if name not in _LAST_TO_GO), *reversed(_LAST_TO_GO)))
    order = dict.fromkeys((*(name for name in order if name not in keep), *keep))
    for name in order:
        if sum(smallest[i] for i in kept) + _GAP * (len(kept) - 1) <= total or len(kept) == 1:
            break
        if name in names:
            kept.remove(names[name])
    return kept


def _fitted(widths: Sequence[int], numeric: Sequence[bool], total: int) -> list[int]:
    """Reduce ``widths`` to the terminal's width. The widest column of words (usually the folder) is reduced first."""
    fitted = list(widths)
    excess = sum(fitted) + _GAP * (len(fitted) - 1) - total
    words = [place for place, is_numeric in enumerate(numeric) if not is_numeric]
    while excess > 0 and words:
        widest = max(words, key=lambda place: fitted[place])
        if fitted[widest] <= _NARROWEST_CUT:
            break
        fitted[widest] -= 1
        excess -= 1
    return fitted


def _tail(text: str, width: int) -> str:
    """The end of a path, which distinguishes it from other paths."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]


def _folded(header: str, width: int) -> list[str]:
    """Break ``header`` after underscores into lines about as wide as its column."""
    lines = [""]
    for part in header.replace("_", "_ ").split(" "):
        if lines[-1] and len(lines[-1] + part) > max(width, 8):
            lines.append("")
        lines[-1] += part
    return lines
