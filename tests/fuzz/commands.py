"""Random command lines and sweep files, and what must hold for each of them.

Keys and options are found in the composed configuration, so a key that is added to conf/ is attacked from then on.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from omegaconf import DictConfig

import jepa.run
from jepa.config.compose import compose
from jepa.config.keys import all_keys
from jepa.config.search_path import SWEEP_GROUP, group_options, groups

SECONDS = 5.0  # of the processor, for one command
STUCK_S = 30.0  # of the processor: a command that never ends
LINES = 3
MEMORY_KIB = 2 * 2**20  # that all commands together may add to the process

# --- what is tried -------------------------------------------------------------------------------------------------

AWKWARD = [
    *("true", "null", "0", "-1", "1.5", "1e308", "-1e308", "1e-320", "nan", "inf", "-inf", "99999999999999999999"),
    *(
        "''",
        "[]",
        "{}",
        "[1,2]",
        "{a: 1}",
        "[[1],[2]]",
        "[null]",
        "{a: {b: [1]}}",
        "[[[[[[[[1]]]]]]]]",
        "[",
        "{",
        "'",
        '"',
    ),
    *("${seed}", "${nope}", "${", "${model}", "${oc.env:HOME}", "${oc.env:NOPE}", "${jepa.hash:}", "${folder}", "???"),
    *(
        "a b",
        "a=b",
        "1,2",
        "1,2,3",
        "a,b",
        ",",
        "range(0,3)",
        "range(0,1e12)",
        "range(1,0)",
        "range(0,1,0)",
        "range(a)",
    ),
    *(
        "choice(1,2)",
        "choice()",
        "interval(0,1)",
        "interval(1,0)",
        "glob(*)",
        "shuffle(1,2,3)",
        "sort(3,1)",
        "int(3.2)",
    ),
    *(
        "float(x)",
        "str(1)",
        "extend_list(1)",
        "tag(log,interval(0,1))",
        "\\",
        "$HOME",
        "%s",
        "~",
        "é",
        "日本",
        "\u202e",
    ),
    *("\ud800", "\0", "\n", "\t", "a" * 5000, "9" * 5000, "a/b/../..", "/dev/null", "/etc/passwd", "-", "--help", "#"),
    *("0x10", "1_000", "1e3", "01", "+1", ".5", "5.", "True", "NULL", "yes", "1e400", "-0.0", "512-512", "0-0", "-1-1"),
]
TEXTS = st.text(max_size=12)
PLAIN = st.one_of(
    st.sampled_from(AWKWARD),
    st.integers().map(str),
    st.integers(min_value=-3, max_value=70000).map(str),
    st.floats().map(repr),
    TEXTS,
)
NESTED = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"))
VALUES = st.one_of(PLAIN, PLAIN, NESTED)


@functools.cache
def known_keys() -> list[str]:
    """Every key that some choice of options has; Hydra's own are those that a run or a sweep is placed by."""
    found: dict[str, None] = {}
    choices: list[list[str]] = [["logger=wandb"], ["logger=[csv,tensorboard]"]]
    for group in (
        "dataset",
        "dataset/texture",
        "model",
        "optimizer",
        "probe",
        "model/encoder",
        "model/predictor",
        "model/projector",
        "hydra/launcher",
    ):
        choices += [[f"{group}={option}"] for option in group_options(group)]
    for overrides in choices:
        try:
            config = compose(overrides, with_hydra=True)
        except Exception:  # a launcher that is not installed
            continue
        assert isinstance(config, DictConfig)
        found.update(dict.fromkeys(all_keys(config)))
    ours = [key for key in found if not key.startswith("hydra.") and key != "hydra"]
    placed = [key for key in found if key.startswith(("hydra.run", "hydra.sweep", "hydra.launcher"))]
    return sorted(ours) + sorted(placed)


@functools.cache
def options() -> list[str]:
    """``group=option`` for every option of every group; of the sweep files two small ones."""
    found = [f"{group}={option}" for group in our_groups() for option in group_options(group) if group != SWEEP_GROUP]
    return [*found, "sweep=seeds", "sweep=search"]


@functools.cache
def our_groups() -> list[str]:
    """Groups but those of Hydra: its own sweepers write before they are told that this is a dry run."""
    return [group for group in groups() if not group.startswith("hydra/")]


@st.composite
def words(draw: st.DrawFn) -> str:
    """One word of a command line: mostly a known key with some value."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from(options()))
    if kind == 1:
        return draw(st.sampled_from(our_groups())) + "=" + draw(VALUES)
    if kind == 2:
        return draw(TEXTS.filter(lambda text: not text.startswith("-"))) + draw(st.sampled_from(["", "=", "=1"]))
    prefix = draw(st.sampled_from(["", "", "", "", "", "", "+", "++", "~"]))
    return prefix + draw(st.sampled_from(known_keys())) + ("" if prefix == "~" else "=" + draw(VALUES))


COMMANDS = st.lists(words(), min_size=1, max_size=3)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["range(0,3)", "${seed}"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
)


def _of_keys(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings from known keys and groups to ``values``."""
    names = st.deferred(lambda: st.sampled_from([*known_keys(), *our_groups(), "hydra/launcher", "nope"]))
    return st.dictionaries(names, values, max_size=3)


SWEEPS = st.fixed_dictionaries(
    {},
    optional={
        "axes": st.one_of(_of_keys(st.lists(SCALARS, max_size=3)), ANYTHING),
        "zipped": st.one_of(st.lists(_of_keys(st.lists(SCALARS, min_size=2, max_size=2)), max_size=2), ANYTHING),
        "points": st.one_of(
            st.lists(_of_keys(st.one_of(SCALARS, st.lists(SCALARS, max_size=2))), max_size=3), ANYTHING
        ),
        "overrides": st.one_of(_of_keys(SCALARS), ANYTHING),
        "space": st.one_of(
            st.dictionaries(st.sampled_from(["any", "vicreg"]), _of_keys(ANYTHING), max_size=2), ANYTHING
        ),
        "n_trials": st.one_of(st.integers(-1, 5), ANYTHING),
        "name": ANYTHING,
        "max_jobs": ANYTHING,
        "sampler": ANYTHING,
        "pruner": ANYTHING,
        "defaults": ANYTHING,
        "nope": ANYTHING,
    },
)
YAML_TEXTS = [
    *(
        "a: [",
        "axes: {seed: [0, 1]",
        "axes:\n\tseed: [0]",
        "axes: {}\naxes: {}",
        "axes: !nope x",
        "axes: !!python/none x",
    ),
    *(
        "a: &a [*a]",
        "axes: &a {x: *a}",
        "- 1",
        "just text",
        "%",
        "'",
        '"\\q"',
        "@",
        "a: b: c",
        "? [1]\n: 2",
        "---\n---\n",
    ),
    *(
        "# @package nope\naxes: {}",
        "defaults: [nope]",
        "defaults: 3",
        "axes: 2020-01-01",
        "\ufeffaxes: {}",
        "null: 1",
        "1: 2",
    ),
    "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 12)),
    "axes: " + "[" * 3000,
    "axes: {seed: " + "[" * 50 + "1" + "]" * 50 + "}",
    "axes: {seed: ['${nope}']}",
]
FILES = st.one_of(
    SWEEPS.map(lambda node: yaml.safe_dump(node).encode()),
    st.sampled_from(YAML_TEXTS).map(str.encode),
    st.builds(
        lambda node, at, part: (
            (text := yaml.safe_dump(node).encode())[: at % (len(text) + 1)] + part + text[at % (len(text) + 1) :]
        ),
        SWEEPS,
        st.integers(0, 500),
        st.binary(min_size=1, max_size=3),
    ),
)

# --- what must hold ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float


def in_process(arguments: Sequence[str]) -> Ended:
    """Run a command line up to the training: composed, planned, checked, its model built."""

    def task(cfg: DictConfig) -> float:
        try:
            jepa.run.check(cfg)
        except Exception as error:  # as a single run hands its errors past Hydra
            raise jepa.run._Stopped(error) from error
        return 0.0

    out, err = io.StringIO(), io.StringIO()
    before, start = sys.argv, time.process_time()
    sys.argv = ["jepa.run"]
    stuck = signal.signal(signal.SIGPROF, _stuck)
    signal.setitimer(signal.ITIMER_PROF, STUCK_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = jepa.run.command_line(list(arguments), task)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, stuck)
        sys.argv = before
    return Ended(code, out.getvalue(), err.getvalue(), time.process_time() - start)


def _stuck(*_: object) -> None:
    raise TimeoutError(f"no end after {STUCK_S} s")


def check_ending(ended: Ended, folder: Path) -> None:
    """Exit code 0 or 2, few lines, no traceback, nothing written, and soon."""
    said = ended.out + ended.err
    assert ended.code in (0, 2), said
    assert "Traceback" not in said, said
    assert len(ended.err.splitlines()) <= LINES and len(ended.err) < 5000, said
    if ended.code == 2:
        assert "error: " in ended.err, said
        assert len(ended.out.splitlines()) <= LINES, said
    assert os.listdir(folder) == [], os.listdir(folder)
    assert ended.seconds < SECONDS, ended.seconds


def peak_kib() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
