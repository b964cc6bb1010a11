"""How torch's CPU threads wait for each other, and how much of the machine other processes use. Torch-free."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# Turns that a thread of GNU OpenMP spins before it sleeps. GNU's own value, 300 000, costs nothing on an idle machine.
# Beside other busy processes the spinning threads take the cores that the thread they wait for needs.
SPIN_COUNT = 1000
_STAT = Path("/proc/stat")


def shorten_spin() -> None:
    """Let waiting threads of this process, and of those it starts, sleep soon. Settings of the user's own stay.

    GNU OpenMP reads the variable when it is loaded: after torch has been imported the call changes nothing here.
    ``python benchmarks/busy.py`` measures what the setting does.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "torch" not in sys.modules:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


class OtherProcesses:
    """Measures how many cores other processes have used since it was made."""

    def __init__(self) -> None:
        self._began = _usage()

    def cores(self) -> float | None:
        """Cores used by other processes, on average; None where the system does not say (not Linux)."""
        now = _usage()
        if now is None or self._began is None or now[0] <= self._began[0]:
            return None
        elapsed, used, own = (after - before for after, before in zip(now, self._began, strict=True))
        return max(0.0, (used - own) / elapsed)


def busy_words(other_cores: float | None, threads: int, cores: int) -> str | None:
    """One line for the screen where other processes slow a run of ``threads`` threads down; None where they do not.

    Args:
        other_cores: from :meth:`OtherProcesses.cores`.
        threads: that the run computes with.
        cores: of the machine, as far as this process may use them.
    """
    if other_cores is None or other_cores + min(threads, cores) <= cores + 0.5:
        return None
    return f"this machine is busy: other processes use {other_cores:.1f} of its {cores} cores; the run will be slower"


def _usage() -> tuple[float, float, float] | None:
    """Seconds by the clock, processor seconds of all processes, and of this one and its children; None: not Linux."""
    try:
        words = _STAT.read_text(encoding="ascii").split()[1:9]
        user, nice, system, _, _, irq, softirq, _ = map(int, words)
    except (OSError, ValueError):
        return None
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return time.perf_counter(), (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), mine
