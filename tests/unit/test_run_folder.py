"""What a run makes of a folder that is not empty."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa.errors import ConfigError, RunFailed
from jepa.store.run_folder import inspect, occupied

CONFIG = {"seed": 1, "model": {"sim_coeff": 2}}


def test_an_empty_folder_and_a_missing_one_hold_nothing(tmp_path: Path) -> None:
    assert not inspect(tmp_path, CONFIG).exists
    assert not inspect(tmp_path / "new", CONFIG).exists


def test_a_job_that_failed_before_it_began_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"status": "failed", "error": "out of memory"}))
    (tmp_path / "run.log").write_text("failed: out of memory\n")
    assert inspect(tmp_path, CONFIG).status == "failed"


def test_files_whose_configuration_is_lost_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match="without its config.yaml"):
        inspect(tmp_path, CONFIG)


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    with occupied(tmp_path, config=CONFIG, overrides=[], aside=False):
        pass
    with pytest.raises(ConfigError, match=r"model.sim_coeff=2 there, 3.0 here"):
        inspect(tmp_path, {"seed": 1, "model": {"sim_coeff": 3.0}})


def test_a_run_that_is_repeated_keeps_the_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with occupied(folder, config=CONFIG, overrides=[], aside=False):
        (folder / "result.json").write_text("{}")
    with occupied(folder, config=CONFIG, overrides=["seed=1"], aside=True):
        assert not (folder / "result.json").exists()
    assert (tmp_path / "run.1" / "result.json").read_text() == "{}"


def test_nobody_else_works_in_an_occupied_folder(tmp_path: Path) -> None:
    with (
        occupied(tmp_path, config=CONFIG, overrides=[], aside=False),
        pytest.raises(ConfigError, match="another process is at work"),
        occupied(tmp_path, config=CONFIG, overrides=[], aside=False),
    ):
        pass


class Crash(BaseException):
    """As if the process had been killed."""


def finished_run(folder: Path) -> dict[str, str]:
    """A finished run of CONFIG; what its files hold."""
    with occupied(folder, config=CONFIG, overrides=[], aside=False):
        (folder / "checkpoints").mkdir()
        for name in ("checkpoints/last.pt", "metrics.jsonl", "run.log", "notes.txt"):
            (folder / name).write_text(name)
        (folder / "result.json").write_text(json.dumps({"status": "finished", "metrics": {"prediction_rmse_px": 1.0}}))
    return files(folder)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "moved_aside.json")
    }


def put_in_place(monkeypatch: pytest.MonkeyPatch, operation: str, function: Callable[..., Any]) -> None:
    """Let ``os.<operation>`` be ``function``; pathlib of Python 3.10 keeps references of its own."""
    monkeypatch.setattr(os, operation, function)
    if hasattr(pathlib, "_NormalAccessor"):
        monkeypatch.setattr(pathlib._NormalAccessor, operation, staticmethod(function))


@pytest.mark.parametrize("again", ["the same command", "without rerun=true"])
@pytest.mark.parametrize("operation", ["replace", "unlink", "mkdir"])
def test_a_move_that_was_cut_short_is_completed(
    again: str, operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, operation)
    cut = 0
    for crash_at in range(1, 12):
        folder = tmp_path / str(crash_at) / "run"
        before = finished_run(folder)
        calls = iter(range(100))

        def crashing(*arguments: Any, at: int = crash_at, calls: Any = calls, **options: Any) -> Any:
            if next(calls) == at:
                raise Crash
            return real(*arguments, **options)

        put_in_place(monkeypatch, operation, crashing)
        with contextlib.suppress(Crash), occupied(folder, config=CONFIG, overrides=[], aside=True):
            cut -= 1
        cut += 1
        put_in_place(monkeypatch, operation, real)
        aside = again == "the same command"
        if not aside and inspect(folder, CONFIG).status == "finished":
            continue  # cut before anything was moved
        with occupied(folder, config=CONFIG, overrides=[], aside=aside):
            assert not (folder / "result.json").exists() and not (folder / "checkpoints").exists()
        kept = [path for path in folder.parent.iterdir() if "result.json" in files(path)]
        assert len(kept) == 1 and files(kept[0]) == before
        told = json.loads((kept[0] / "moved_aside.json").read_text())
        assert told["from"] == "run" and told["moved"].endswith("+00:00")
        assert inspect(folder, CONFIG).status is None
    assert cut > 0


def test_nothing_is_moved_out_of_a_folder_without_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with occupied(folder, config=CONFIG, overrides=[], aside=True):
        assert (folder / "thesis.tex").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", '{"status": "finished"}'),
        ("result.json", '{"status": "finished", "metrics": {"prediction_rmse_px": "3"}}'),
        ("result.json", '{"status": "fini'),
        ("result.json", "[]"),
        ("result.json", None),
        ("config.yaml", "seed: [1"),
        ("config.yaml", "- a list"),
        ("config.yaml", ""),
        ("config.yaml", "\udcff\udcfe"),
        ("config.yaml", None),
        ("overrides.yaml", None),
        ("metrics.jsonl", None),
        ("run.log", None),
        ("checkpoints", "a file"),
        ("plots", "a file"),
    ],
)
def test_what_cannot_be_read_is_named_with_a_remedy_that_works(name: str, content: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with occupied(folder, config=CONFIG, overrides=[], aside=False):
        pass
    (folder / name).unlink(missing_ok=True)
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        inspect(folder, CONFIG)
    assert str(folder / name) in str(caught.value) and "\n" not in str(caught.value)
    assert "rerun=true moves what is there aside" in str(caught.value)
    with occupied(folder, config=CONFIG, overrides=[], aside=True):
        pass
    assert inspect(folder, CONFIG).exists
    assert (tmp_path / "run.1" / name).exists()


@pytest.mark.parametrize("name", ["x" * 300, "loop/run", "a\0b", "file/run"])
def test_a_folder_that_cannot_be_is_refused_on_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="folder=") as caught,
        occupied(tmp_path / name, config=CONFIG, overrides=[], aside=bool(inspect(tmp_path / name, CONFIG))),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_folder_that_changed_after_it_was_inspected_is_left_alone(tmp_path: Path) -> None:
    earlier = inspect(tmp_path / "run", CONFIG)
    before = finished_run(tmp_path / "run")
    with (
        pytest.raises(ConfigError, match="another process has just worked in it"),
        occupied(tmp_path / "run", config=CONFIG, overrides=[], aside=False, seen=earlier.seen),
    ):
        pass
    assert files(tmp_path / "run") == before


def test_a_full_disk_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with (
        pytest.raises(RunFailed, match=f"no space left on the device of {tmp_path}"),
        occupied(tmp_path, config=CONFIG, overrides=[], aside=False),
    ):
        pass


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "checkpoints").mkdir()
    gone = [f".result.{dead.pid}-0a1b2c.json", f"checkpoints/.last.{dead.pid}-0a1b2c.pt", f".run.log.{dead.pid}.tmp"]
    kept = [f".result.{os.getpid()}-0a1b2c.json", ".hidden", f"result.{dead.pid}-0a1b2c.json"]
    old = f".config.{os.getpid()}-0a1b2c.yaml"
    for name in (*gone, *kept, old):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / old, (0, 0))
    with occupied(tmp_path, config=CONFIG, overrides=[], aside=False):
        assert not any((tmp_path / name).exists() for name in (*gone, old))
        assert all((tmp_path / name).exists() for name in kept)
