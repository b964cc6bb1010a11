"""``--show``: all data of one run: folder, status, differences from its sweep, metrics, and its command."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from jepa.errors import nearest
from jepa.results.axes import differences
from jepa.results.notes import warnings_of
from jepa.results.records import ResultsError, Run
from jepa.results.reference import HARDLY, levels, run_reference
from jepa.results.render import format_cell
from jepa.results.tables import METRICS
from jepa.results.verdict import FIELDS, learnt_lines
from jepa.store.layout import RUN_LOG

_FIRST = (
    "seed",
    "trial",
    "config_hash",
    "objective",
    "objective_metric",
    "epochs_trained",
    "epochs_total",
    "device",
    "started",
    "finished",
    "versions",
    "git_commit",
    "code",
    "code_commit",
    "code_fingerprint",
)
_ELSEWHERE = frozenset(
    {"command", "error", "remedy", "verdict", "verdict_reason", "reference", "warnings", "sweep", "format", *FIELDS}
)


def find_run(runs: Sequence[Run], wanted: str) -> Run:
    """Find the run with the folder ``wanted``, or with a folder name or config hash that begins with ``wanted``.

    Raises:
        ResultsError: no run or several runs fit.
    """
    exact = [run for run in runs if wanted.rstrip("/") in (run.folder, run.name, run.fields.get("config_hash"))]
    found = exact or [run for run in runs if any(name.startswith(wanted) for name in _callable_by(run))]
    if len(found) == 1:
        return found[0]
    if found:
        folders = ", ".join(run.folder for run in found[:5]) + (", ..." if len(found) > 5 else "")
        raise ResultsError(f"--show {wanted}: could be {folders}: write more of it")
    close = nearest(wanted, {name for run in runs for name in _callable_by(run)})
    raise ResultsError(f"--show {wanted}: no such run" + (f"; did you mean {close}?" if close else ""))


def _callable_by(run: Run) -> list[str]:
    return [run.name, run.name.rpartition("-")[2], str(run.fields.get("config_hash", run.name))]


def run_lines(run: Run, axes: Sequence[str]) -> list[str]:
    """All data of one run, as lines. axes: the keys in which the runs of its sweep differ."""
    lines = [f"{run.name}: {run.status}{_verdict_words(run)}"]
    lines += [f"warning: {text}" for text in warnings_of(run)]
    lines += learnt_lines({**run.fields, "metrics": run.metrics, "reference": run_reference(run)})
    lines.append("")
    facts: dict[str, Any] = {"folder": run.folder}
    facts.update((key, run.fields[key]) for key in _FIRST if key in run.fields)
    rest = sorted(key for key in run.fields if key not in facts and key not in _ELSEWHERE)
    facts.update((key, run.fields[key]) for key in rest)
    facts["log"] = _log(run.folder)
    facts["command"] = run.fields.get("command")
    facts["error"] = run.fields.get("error")
    facts["remedy"] = run.fields.get("remedy")
    lines += _listing(
        {key.replace("_", " "): format_cell(value, exact=True) for key, value in facts.items() if value is not None}
    )
    apart = {key: _spelt(value) for key, value in differences(run, axes).items()}
    lines += _section("what sets it apart in its sweep", apart)
    if run.overrides:
        lines += ["", "what it changes in the configuration's defaults:", *("  " + text for text in run.overrides)]
    lines += _section("metrics", {key: format_cell(value, measured=True) for key, value in sorted(run.metrics.items())})
    for metric in METRICS:
        beside = {name: format_cell(value, measured=True) for name, value in levels(run_reference(run), metric)}
        lines += _section(f"to compare {metric} with", beside) if metric in run.metrics else []
    return lines


def _verdict_words(run: Run) -> str:
    """``, `` and the verdict, or ``, no verdict: `` and the reason; empty if the run records neither."""
    verdict, reason = run.fields.get("verdict"), run.fields.get("verdict_reason")
    words = f", {verdict}" if verdict else f", no verdict: {reason}" if reason else ""
    return f"{words}, {HARDLY}" if run.fields.get("training") == HARDLY else words


def override_words(differences: Mapping[str, Any]) -> str:
    """Values as command-line overrides, for example ``model=vicreg dataset.static_noise=1.25 seed=2``."""
    return " ".join(f"{key}={_spelt(value)}" for key, value in differences.items())


def _spelt(value: Any) -> str:
    """A setting in full precision, in the spelling of the command line."""
    return "null" if value is None else repr(value) if isinstance(value, float) else format_cell(value, exact=True)


def _log(folder: str) -> str | None:
    path = f"{folder}/{RUN_LOG}"
    return path if os.path.exists(path) else None


def _section(title: str, values: Mapping[str, str]) -> list[str]:
    return ["", f"{title}:", *("  " + line for line in _listing(values))] if values else []


def _listing(values: Mapping[str, str]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in values.items()]
