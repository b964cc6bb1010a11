"""Whatever is typed or stands in a sweep file: it runs, or is refused in a line or two, and nothing is left behind."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
from hypothesis import HealthCheck, given, seed, settings

from jepa.config import search_path
from jepa.sweep import auto

QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
# The slow tests try other commands each time; a failure is found again with FUZZ_SEED=<what was printed>.
SEED = int(os.environ.get("FUZZ_SEED", random.randrange(2**32)))


def in_ci(examples: int) -> Callable[[Any], Any]:
    """The same examples every time."""
    return settings(max_examples=examples, derandomize=True, **QUIET)  # type: ignore[arg-type]


def at_random(examples: int) -> Callable[[Any], Any]:
    """Other examples every time; the seed is printed where one fails."""
    chosen = settings(max_examples=examples, print_blob=True, **QUIET)  # type: ignore[arg-type]
    return lambda test: seed(SEED)(chosen(test))


@pytest.fixture(autouse=True)
def _untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run without earlier results times a few real steps; here nothing is trained."""
    monkeypatch.setattr("jepa.sweep.report.seconds_per_sequence", lambda configs, *, threads: {})


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    print(f"FUZZ_SEED={SEED}")
    before = commands.peak_kib()
    yield
    assert commands.peak_kib() - before < commands.MEMORY_KIB


def try_command(words: list[str], folder: Path) -> None:
    commands.check_ending(commands.in_process([*words, "dry_run=true"]), folder)


def try_file(content: bytes, folder: Path, sweeps: Path) -> None:
    (sweeps / "drawn.yaml").write_bytes(content)
    commands.check_ending(commands.in_process(["+sweep=drawn", "dry_run=true"]), folder)


@pytest.fixture
def sweeps(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sweep files in the place of ``sweeps/``."""
    folder = tmp_path_factory.mktemp("sweeps")
    for module in (search_path, auto):
        monkeypatch.setattr(module, "sweeps_dir", lambda: folder)
    return folder


@in_ci(190)
@given(words=commands.COMMANDS)
def test_any_run_ends_well(in_tmp: Path, words: list[str]) -> None:
    try_command(words, in_tmp)


@in_ci(50)
@given(words=commands.COMMANDS)
def test_any_sweep_ends_well(in_tmp: Path, words: list[str]) -> None:
    try_command(["--multirun", *words], in_tmp)


@in_ci(60)
@given(content=commands.FILES)
def test_any_sweep_file_ends_well(in_tmp: Path, sweeps: Path, content: bytes) -> None:
    try_file(content, in_tmp, sweeps)


@pytest.mark.parametrize("text", commands.YAML_TEXTS, ids=range(len(commands.YAML_TEXTS)))
def test_malformed_files_are_named(in_tmp: Path, sweeps: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    try_file(text.encode(), in_tmp, sweeps)


@pytest.mark.parametrize("value", ["1e308", "'x'", "null", "[1]", "{a: 1}", "-1", "99999999999999999999", "''"])
@pytest.mark.slow
def test_every_key_with_every_awkward_value(in_tmp: Path, value: str) -> None:
    for key in commands.known_keys():
        try_command([f"{key}={value}"], in_tmp)


@pytest.mark.slow
@at_random(1800)
@given(words=commands.COMMANDS)
def test_any_run_ends_well_at_random(in_tmp: Path, words: list[str]) -> None:
    try_command(words, in_tmp)


@pytest.mark.slow
@at_random(600)
@given(words=commands.COMMANDS)
def test_any_sweep_ends_well_at_random(in_tmp: Path, words: list[str]) -> None:
    try_command(["--multirun", *words], in_tmp)


@pytest.mark.slow
@at_random(600)
@given(content=commands.FILES)
def test_any_sweep_file_ends_well_at_random(in_tmp: Path, sweeps: Path, content: bytes) -> None:
    try_file(content, in_tmp, sweeps)


def in_a_process(words: list[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jepa.run", *words],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **environment},
    )
    ended = commands.Ended(done.returncode, done.stdout.decode(), done.stderr.decode(), 0.0)
    commands.check_ending(ended, folder)


@pytest.mark.parametrize(
    "words",
    [
        ["dataset.noise=±1"],
        ["seed=日本"],
        ["--multirun", "seed=range(0,1000000000000)"],
        ["model.encoder=null", "dry_run=true"],
    ],
    ids=str,
)
def test_errors_are_printable_where_only_ascii_is(in_tmp: Path, words: list[str]) -> None:
    in_a_process(words, in_tmp, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")


@pytest.mark.slow
@at_random(40)
@given(words=commands.COMMANDS)
def test_any_command_ends_well_in_a_process_of_its_own(in_tmp: Path, words: list[str]) -> None:
    typed = [word for word in words if "\0" not in word and word.isprintable()]
    in_a_process([*typed, "dry_run=true"], in_tmp)
