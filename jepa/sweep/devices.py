"""The CPU cores and the GPU that a job may use."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from jepa.errors import ConfigError
from jepa.store.locks import Lock


def cores() -> int:
    """The number of CPU cores that this process may use: its affinity, limited by a container's quota."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return available


def threads_per_job(n_jobs: int) -> int:
    """Threads for each of ``n_jobs`` concurrent processes: an equal share of the cores, at least 1.

    OMP_NUM_THREADS, if set by the user or the cluster, is the upper limit.

    Args:
        n_jobs: joblib's number of processes; a negative number gives one thread for each process.

    Raises:
        ConfigError: ``n_jobs`` is 0.
    """
    if n_jobs < 0:
        return 1
    if n_jobs == 0:
        raise ConfigError("hydra.launcher.n_jobs=0: must be a count, or -1 for one process a core")
    share = max(1, cores() // n_jobs)
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is one number per level of nesting
    return min(share, int(told)) if told.isdecimal() and int(told) > 0 else share


def visible_gpus() -> list[str]:
    """The GPUs that jobs may use, by their names in ``CUDA_VISIBLE_DEVICES``. CUDA is not initialised."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name.strip() for name in told.split(",") if name.strip() and name.strip() != "-1"]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(index) for index, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


@contextlib.contextmanager
def dealt_gpu(gpus: list[str], num_workers: int, folder: Path) -> Iterator[str | None]:
    """Hold one place on the GPU with the fewest jobs while a job runs; None with fewer than two GPUs.

    A place is a file lock, so the place of a killed worker is free at once.

    Args:
        gpus: names of the devices, from :func:`visible_gpus`.
        num_workers: concurrent jobs on this machine. Each device has ``num_workers / len(gpus)`` places, rounded up.
        folder: holds the lock files. All workers of this machine must share the folder.
    """
    if len(gpus) < 2:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    rounds = -(-num_workers // len(gpus))
    for place in range(rounds):
        for gpu in gpus:
            lock = Lock(folder / f"{gpu.replace('/', '_')}.{place}")
            if lock.acquire(0):
                try:
                    yield gpu
                finally:
                    lock.release()
                return
    yield None  # no place is free, because more jobs run than planned: the job chooses its device itself
