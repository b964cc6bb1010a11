"""The store: names of files in one place, what is missing, damaged or older told apart, and the lock."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import pytest

from jepa.files import Damaged
from jepa.store import layout
from jepa.store.config import FORMAT, format_of, read_config, read_overrides, write_config
from jepa.store.locks import Lock, is_free
from jepa.store.result import counted, read_result, write_result
from jepa.store.run_folder import Unusable, inspect, occupied
from jepa.store.sweep import read_plan, read_state

PACKAGE = Path(__file__).resolve().parents[2] / "jepa"
NAMES = {layout.OVERRIDES, layout.METRICS, layout.RESULT, layout.RUN_LOG, layout.PROBE, layout.MOVED_ASIDE}
NAMES |= {layout.LAST, layout.PREVIOUS, layout.LEASE, layout.SWEEP, layout.JOURNAL, layout.STUDY}
RESULT: dict[str, Any] = {
    "status": "finished",
    "objective": 1.5,
    "objective_metric": "prediction_rmse_px",
    "metrics": {"prediction_rmse_px": 1.5, "encoder_rmse_px": 0.5, "loss/total": None},
    "config": {"seed": 0},
}


def test_names_of_files_stand_in_one_module() -> None:
    strays = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value}"
        for path in PACKAGE.rglob("*.py")
        if path != Path(layout.__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in NAMES
    ]
    assert strays == []


# --- results ---------------------------------------------------------------------------------------------------------


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    write_result(tmp_path, RESULT)
    found = read_result(tmp_path)
    assert found is not None and found.items() >= {**RESULT, "format": FORMAT}.items()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "cannot be read (JSONDecodeError)"),
        ("[" * 100_000, "cannot be read (RecursionError)"),
        ("[]", "does not say how the run ended"),
        ('{"status": "done", "metrics": {}}', "does not say how the run ended"),
        ('{"status": "finished"}', "has no metrics or no configuration"),
        ('{"status": "finished", "metrics": {}, "config": 3}', "has no metrics or no configuration"),
        ('{"status": "pruned",\n  "metrics": {},\n  "checksum": "0123456789"\n}\n', "does not match its checksum"),
    ],
)
def test_a_damaged_result_is_no_missing_one(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / layout.RESULT
    path.write_text(content)
    with pytest.raises(Damaged) as caught:
        read_result(tmp_path)
    assert (caught.value.path, caught.value.reason) == (path, reason) and str(caught.value) == f"{path}: {reason}"
    with pytest.raises(Unusable, match="rerun=true") as refused:
        inspect(tmp_path, {})
    assert refused.value.problem == f"result.json {reason}"


def test_a_result_that_is_a_folder_or_leads_nowhere_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / layout.RESULT).mkdir()
    (tmp_path / layout.RESULT).symlink_to("nowhere")
    for folder in (tmp_path, tmp_path / "a"):
        with pytest.raises(Damaged, match="cannot be read"):
            read_result(folder)


@pytest.mark.parametrize(
    ("error", "reason"),
    [("the loss was not finite by step 3", "not_finite"), ("MemoryError: no memory left", "error"), (None, "error")],
)
def test_a_result_of_an_earlier_version_gets_the_fields_it_lacks(
    error: str | None, reason: str, tmp_path: Path
) -> None:
    (tmp_path / layout.RESULT).write_text(json.dumps({"status": "failed", "error": error}))
    assert read_result(tmp_path) == {"status": "failed", "error": error, "metrics": {}, "format": 1, "reason": reason}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (None, ("finished", 1.5, None)),
        ("encoder_rmse_px", ("finished", 0.5, None)),
        ("loss/total", ("failed", None, "not_finite")),
        ("other", ("failed", None, "no_metric")),
    ],
)
def test_a_run_without_the_number_that_counts_has_failed(metric: str | None, expected: tuple[Any, ...]) -> None:
    found = counted(RESULT, metric)
    assert (found["status"], found["objective"], found.get("reason")) == expected
    assert RESULT["objective"] == 1.5 and RESULT["status"] == "finished"


# --- configurations and sweeps ---------------------------------------------------------------------------------------


def test_a_configuration_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_config(tmp_path) is None and read_overrides(tmp_path) is None
    config = {"seed": 1, "optimizer": {"base_lr": 1e-05, "name": "1e-5", "none": None, "list": [1, 2.5, True]}}
    write_config(tmp_path, config, ["seed=1", "optimizer.name='1e-5'"])
    assert read_config(tmp_path) == config
    assert read_overrides(tmp_path) == ["seed=1", "optimizer.name='1e-5'"]
    (tmp_path / layout.OVERRIDES).write_text("seed: 1")
    with pytest.raises(Damaged, match=r"overrides\.yaml: does not hold what a run writes there"):
        read_overrides(tmp_path)


def test_a_configuration_without_a_result_tells_its_format() -> None:
    assert format_of({"dataset": {"_target_": "jepa.data.stream.MovingDots"}}) == 1
    assert format_of({"dataset": {"_target_": "jepa.data.moving_dots.MovingDots"}}) == format_of({}) == FORMAT


def test_a_sweep_without_its_file_is_no_damaged_one(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    (tmp_path / layout.SWEEP).write_text("7")
    with pytest.raises(Damaged, match=r"sweep\.json: does not hold what a sweep writes there"):
        read_state(tmp_path)
    state = {"axes": {"+model/encoder@model.encoder": ["a"]}, "jobs": {"x": 3}}
    (tmp_path / layout.SWEEP).write_text(json.dumps(state))
    plan = read_plan(tmp_path)
    assert plan is not None and plan.axes == ("model/encoder",) and plan.jobs[0].name == "x" and not plan.search


# --- the lock --------------------------------------------------------------------------------------------------------


def test_a_lock_excludes_other_threads_and_other_locks_on_its_file(tmp_path: Path) -> None:
    lock, beside = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert lock.acquire(0) and not lock.acquire(0) and not beside.acquire(0) and not is_free(lock.path)
    lock.release()
    assert is_free(lock.path) and beside.acquire(0)
    beside.release()
    total, most, inside = 0, 0, 0

    def work(own: Lock) -> None:
        nonlocal total, most, inside
        for _ in range(20):
            with own:
                inside += 1
                most = max(most, inside)
                total += 1
                inside -= 1

    threads = [threading.Thread(target=work, args=(own,)) for own in (lock, lock, beside, Lock(tmp_path / "lock"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (total, most, inside) == (80, 1, 0)


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    held, waiting = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert held.acquire(0)
    threading.Timer(0.2, held.release).start()
    started = time.monotonic()
    assert waiting.acquire(10.0)
    assert 0.1 < time.monotonic() - started < 5.0
    waiting.release()


def test_a_kill_frees_the_folder_of_a_run_at_once(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from jepa.store.run_folder import occupied\n"
    code += "with occupied(Path(sys.argv[1]), config={'seed': 1}, overrides=[], aside=False):\n"
    code += "    print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert not is_free(tmp_path / layout.LOCK)
    process.kill()
    process.communicate()
    assert is_free(tmp_path / layout.LOCK)
    with occupied(tmp_path, config={"seed": 1}, overrides=[], aside=False):
        assert not is_free(tmp_path / layout.LOCK)
    assert (tmp_path / layout.LOCK).exists()  # a run's mark: see jepa.results.run_files


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, **_: object) -> bool:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    with Lock(tmp_path / "lock"), Lock(tmp_path / "lock"):
        pass
