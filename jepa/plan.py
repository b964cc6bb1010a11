"""``python -m jepa.plan FOLDER planner=cem``: plans with finished runs, prints a table, writes ``planning.json``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.config.messages import explain
from jepa.config.search_path import group_options
from jepa.errors import ConfigError, check_choice, check_count, check_folder, nearest, printable
from jepa.files import Damaged
from jepa.flags import FlagParser
from jepa.store import layout
from jepa.store.planning import add_planning, read_planning
from jepa.terminal import forgive
from jepa.training import openmp

if TYPE_CHECKING:
    from jepa.api import Run
    from jepa.planning.planner import Planned, Planner

_EPILOG = """\
examples:
  python -m jepa.plan outputs/runs/vicreg-1e07bc3a24                      # planner=cem
  python -m jepa.plan outputs/runs/idm-* planner=cem,inverse,oracle       # several runs, several planners
  python -m jepa.plan RUN planner=gradient plan/cost=probe plan.cost.goal=told   # the original's way
  python -m jepa.plan RUN plan.num_episodes=300 plan.cost.at=last         # other conventions
  python -m jepa.plan RUN --config-dir myconf extensions=[mypkg] planner=mine    # a planner of your own
docs/planning.md explains tasks, conventions and numbers.
"""
_COLUMNS = ("planner", "overlay", "1.9 px end", "ever", "1.4 px end", "ever", "px", "near", "middle", "far", "s")


def main() -> None:
    """The command line."""
    forgive()
    sys.exit(command_line(sys.argv[1:]))


def command_line(words: Sequence[str]) -> int:
    """Answer one command line.

    Returns:
        The exit code: 0; 2 for a bad configuration, or a run that cannot be planned with.
    """
    try:
        arguments = _parser().parse_intermixed_args(words)
    except SystemExit as end:  # argparse has said why, or has printed the help
        return int(end.code or 0)
    openmp.shorten_spin()
    try:
        _plan_all(arguments)
    except Exception as error:
        explained = explain(error, _known_keys(words), words)
        if explained is None:
            raise
        print(f"error: {printable(str(explained))}", file=sys.stderr)
        return 2
    return 0


def _parser() -> FlagParser:
    parser = FlagParser(
        prog="python -m jepa.plan",
        description="Plan with finished runs. Every run's folder gets planning.json and pictures.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="+", metavar="FOLDER or key=value", help="runs, planner=, and keys of plan")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N, mps or auto")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of yaml files; planners of your own in its plan/")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: torch's choice")
    return parser


def _plan_all(arguments: argparse.Namespace) -> None:
    """Check all runs and planners; then plan."""
    own = arguments.config_dir
    folders, planners, overrides = _told(arguments.words, own)
    from jepa.prepare import make_planner

    made = {name: make_planner([f"plan={name}", *overrides], own) for name in planners}
    if arguments.threads is not None:
        import torch

        torch.set_num_threads(check_count("--threads", arguments.threads, maximum=1024))
    from jepa import api

    runs = [api.load(folder, arguments.device, config_dir=own) for folder in folders]
    for run in runs:
        _check_files(run.folder)
        for planner, _ in made.values():
            run.check_planner(planner)
    for run in runs:
        _plan_one(run, made)


def _check_files(folder: Path) -> None:
    """Raise ConfigError if ``planning.json`` in ``folder`` could not be written at the end."""
    check_folder("FOLDER", folder)
    try:
        read_planning(folder)
    except Damaged as damage:
        raise ConfigError(f"{damage}; move it away") from damage


def _told(words: Sequence[str], own: str | None) -> tuple[list[str], list[str], list[str]]:
    """Folders, planners and overrides of a command line. own: a folder of further yaml files."""
    folders = [word for word in words if "=" not in word or os.path.isdir(word)]
    overrides = [word for word in words if word not in folders and not word.startswith("planner=")]
    chosen = _named_planners(words)
    if not folders:
        raise ConfigError("no run is named: python -m jepa.plan FOLDER planner=cem")
    for word in overrides:
        key, _, value = word.lstrip("+").partition("=")
        if not key.startswith(("plan.", "plan/")) and key != "extensions":
            close = nearest(key, ("planner", "extensions"))
            hint = f"; did you mean '{close}={value}'?" if close else ""
            raise ConfigError(f"{word}: must be a key of plan, such as plan.num_episodes=60, or planner=NAME{hint}")
    for folder in folders:
        _check_run(folder)
    options = group_options("plan")
    options += [] if own is None else sorted(path.stem for path in Path(own).glob("plan/*.yaml"))
    for name in chosen:
        check_choice("planner", name, options)
    return folders, chosen or ["cem"], overrides


def _check_run(folder: str) -> None:
    """Check that ``folder`` holds a run.

    Raises:
        ConfigError: it does not; names the runs in it, or the nearest folder.
    """
    path = Path(folder)
    if any((path / name).is_file() for name in (layout.RESULT, layout.CONFIG)):
        return
    words = f"{folder}: holds no run (neither {layout.RESULT} nor {layout.CONFIG})"
    if path.is_dir():
        inner = sorted(str(one) for one in path.iterdir() if (one / layout.CONFIG).is_file())
        raise ConfigError(words + (f"; it holds the runs {', '.join(inner[:5])}" if inner else ""))
    beside = [str(one) for one in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest(folder, beside)
    raise ConfigError(words + (f"; did you mean {close!r}?" if close else ""))


def _named_planners(words: Sequence[str]) -> list[str]:
    return [name for word in words if word.startswith("planner=") for name in word[len("planner=") :].split(",")]


def _known_keys(words: Sequence[str]) -> list[str]:
    """The keys of the planners that ``words`` name, for hints; of ``planner=cem`` if they name none."""
    from jepa.config.keys import known_keys

    known = set(group_options("plan"))
    planners = [name for name in _named_planners(words) if name in known] or ["cem"]
    return list(dict.fromkeys(key for name in planners for key in known_keys([f"plan={name}"])))


def _plan_one(run: Run, planners: Mapping[str, tuple[Planner, dict[str, Any]]]) -> None:
    """Plan with one run; write its files after each planner, and print its table."""
    from jepa.training.planning import draw

    found: dict[str, Planned] = {}
    for name, (planner, settings) in planners.items():
        found[name] = run.planned(planner, settings)
        add_planning(run.folder, {name: found[name].record})
    print(f"{run.folder}")
    print("\n".join(table({name: planned.record for name, planned in found.items()})))
    name, planned = next(iter(found.items()))
    pictures = draw(run.folder, planned)
    shown = f"; pictures of {name}: {', '.join(path.name for path in pictures)}" if pictures else ""
    print(f"written: {run.folder / 'planning.json'}{shown}")


def table(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The lines of the table: a line for each planner and overlay, the floor, the conventions and the warnings."""
    rows = [
        _row(name, overlay, numbers) for name, one in records.items() for overlay, numbers in one["overlays"].items()
    ]
    first = next(iter(records.values()))
    rows.append(_row("(random)", "", first["random"]))
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in [_COLUMNS, *rows]]
    lines.append(
        f"{first['episodes']} episodes of {first['steps']} steps, list {first['list_version']} of seed "
        f"{first['goal_seed']}; near, middle, far: share within 1.9 px at the end; px: mean distance at the end"
    )
    for name, one in records.items():
        numbers = one["overlays"]["same"]
        if numbers["model_steps"]:
            lines.append(
                f"{name}: {numbers['model_steps_per_episode']:.0f} predicted steps an episode, "
                f"{numbers['cpu_seconds']:.1f} s of processor time, {numbers['predictor_share']:.0%} of the time in "
                f"the predictor; cost {one['cost']}, horizon {one['horizon']}, a new plan after {one['replan_every']}"
            )
    texts = {text: None for one in records.values() for text in one["warnings"]}
    return lines + [f"warning: {text}" for text in texts]


def _row(name: str, overlay: str, numbers: Mapping[str, Any]) -> tuple[str, ...]:
    everything = numbers["all"]
    shares = [f"success_{key}" for key in ("1.9px_end", "1.9px_ever", "1.4px_end", "1.4px_ever")]
    kinds = [f"{numbers[kind]['success_1.9px_end']:.2f}" if kind in numbers else "" for kind in _COLUMNS[7:10]]
    return (
        name,
        overlay,
        *(f"{everything[key]:.2f}" for key in shares),
        f"{everything['distance_px']:.2f}",
        *kinds,
        f"{numbers['seconds']:.1f}",
    )


if __name__ == "__main__":
    main()
