"""How torch's CPU threads wait for each other, and how many cores other processes use. Does not import torch."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# How often a waiting thread of GNU OpenMP checks before it sleeps. GNU's default, 300 000, costs nothing on an idle
# machine. On a busy machine the spinning threads occupy the cores that the awaited thread needs.
SPIN_COUNT = 1000
_STAT = Path("/proc/stat")


def shorten_spin() -> None:
    """Let waiting threads of this process and its children sleep soon. Variables that the user has set stay as set.

    GNU OpenMP reads the variable when torch loads it, so the call has no effect once torch has been imported.
    ``python benchmarks/busy.py`` measures what the setting saves.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "torch" not in sys.modules:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


class OtherProcesses:
    """Measures how many cores other processes have used since this object was made."""

    def __init__(self) -> None:
        self._began = _usage()

    def cores(self) -> float | None:
        """Cores used by other processes, on average; None where the system is not Linux."""
        now = _usage()
        if now is None or self._began is None or now[0] <= self._began[0]:
            return None
        elapsed, used, own = (after - before for after, before in zip(now, self._began, strict=True))
        return max(0.0, (used - own) / elapsed)


def busy_words(other_cores: float | None, threads: int, cores: int) -> str | None:
    """One line for the screen if other processes slow the run down, else None.

    Args:
        other_cores: from :meth:`OtherProcesses.cores`.
        threads: number of threads of the run.
        cores: number of cores of the machine.
    """
    if other_cores is None or other_cores + min(threads, cores) <= cores + 0.5:
        return None
    return f"this machine is busy: other processes use {other_cores:.1f} of its {cores} cores; the run will be slower"


def _usage() -> tuple[float, float, float] | None:
    """Clock time, CPU time of all processes, and CPU time of this process and its children, in s; None: not Linux."""
    try:
        words = _STAT.read_text(encoding="ascii").split()[1:9]
        user, nice, system, _, _, irq, softirq, _ = map(int, words)
    except (OSError, ValueError):
        return None
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return time.perf_counter(), (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), mine
