"""How threads wait, and what is said of a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from jepa.training import openmp

SHOWN = "import os, jepa.training.openmp as o; o.shorten_spin(); print(os.environ.get('GOMP_SPINCOUNT'))"


def spin_count(prefix: str = "", **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", f"{prefix}\n{SHOWN}"]
    return subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, check=True).stdout.strip()


def test_waiting_threads_sleep_soon_unless_the_user_says_how_they_wait() -> None:
    assert spin_count() == str(openmp.SPIN_COUNT)
    assert spin_count(GOMP_SPINCOUNT="7") == "7"
    assert spin_count(OMP_WAIT_POLICY="active") == "None"


def test_nothing_is_set_where_torch_has_read_the_setting_already() -> None:
    assert spin_count("import sys; sys.modules['torch'] = sys") == "None"


@pytest.mark.parametrize(
    ("other", "threads", "cores", "said"),
    [
        (0.0, 2, 2, False),
        (0.4, 2, 2, False),
        (1.9, 2, 2, True),
        (1.0, 1, 2, False),
        (2.0, 1, 2, True),
        (None, 2, 2, False),
    ],
)
def test_a_run_is_told_of_others_only_where_they_take_cores_that_it_needs(
    other: float | None, threads: int, cores: int, said: bool
) -> None:
    words = openmp.busy_words(other, threads, cores)
    assert (words is not None) is said
    if words:
        assert f"{other:.1f} of its {cores} cores" in words


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not say what processes use")
def test_own_work_is_not_another_processs() -> None:
    before = openmp.OtherProcesses()
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.6)
        with_other = before.cores()
    finally:
        other.kill()
        other.wait()
    assert with_other is not None
    assert with_other > 0.5
    own = openmp.OtherProcesses()
    deadline = time.process_time() + 0.3
    while time.process_time() < deadline:
        pass
    now, began = openmp._usage(), own._began
    assert now is not None
    assert began is not None
    assert now[2] - began[2] >= 0.25  # counted as this process's own
