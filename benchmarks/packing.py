"""What packing costs and saves: operators, memory and time of a job's step in a pack of J, beside the job alone.

    python benchmarks/packing.py                     # VICReg and RSSM, J = 2, 4, 8; operators for J = 32 too
    python benchmarks/packing.py --models vicreg --jobs 8 --threads 1

Operators that compute are counted as PyTorch dispatches them (views and allocations are not): on a GPU each is a kernel
launch or a few. The original launches about 2 800
kernels for a VICReg step and 6 700 for an RSSM step.
Times are of steps interleaved in one process, so that the machine's moods hit all alike. Memory a job is what the
launcher plans with (``bytes_per_job``); beside it, what was measured: by how much the largest size of a process that
trains a vmapped pack of --memory-jobs exceeds that of one that trains a job alone, for each job more.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from harness import make_trainer
from torch.utils._python_dispatch import TorchDispatchMode

from jepa.packing.pack import bytes_per_job
from jepa.packing.program import EXECUTORS
from jepa.training.loop import Trainee
from jepa.training.runtime import prepare

ORIGINAL_LAUNCHES = {"vicreg": 2800, "rssm": 6700}


class CountOperators(TorchDispatchMode):
    """Counts the operators that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aliases = [value.alias_info for value in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        self.count += not is_view and "empty" not in func._schema.name
        return func(*args, **(kwargs or {}))


def operators(trainer: Trainee) -> int:
    """Operators of one whole step, data included."""
    trainer.advance()
    with CountOperators() as counter:
        trainer.advance()
    return counter.count


def step_seconds(trainers: dict[str, Trainee], repeats: int) -> dict[str, list[float]]:
    """Seconds of a step of each trainer, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(repeats):
        for name, trainer in trainers.items():
            started = time.perf_counter()
            trainer.advance()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def peak_bytes(model: str, num_jobs: int, batch_size: int) -> int:
    """The largest resident size of a process of its own that makes three steps of a vmapped pack."""
    command = [sys.executable, __file__, "--peak", model, str(num_jobs), "--batch-size", str(batch_size)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(model: str, num_jobs: int, batch_size: int) -> None:
    """The inner process of :func:`peak_bytes`."""
    trainer = make_trainer(model, f"dataset.batch_size={batch_size}", num_jobs=num_jobs)
    for _ in range(3):
        trainer.advance()
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: ru_maxrss would be at least what the parent held when it started this process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(1024 * int(line.split()[1]))
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on a Mac


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vicreg", "rssm"])
    parser.add_argument("--jobs", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument(
        "--count-jobs", nargs="+", type=int, default=[32], help="J for which operators alone are counted"
    )
    parser.add_argument("--memory-jobs", type=int, default=5, help="J of the pack whose memory is measured")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=2, metavar=("MODEL", "J"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    prepare(device=torch.device("cpu"), threads=options.threads, precision="fp32")
    if options.peak:
        print_peak(options.peak[0], int(options.peak[1]), options.batch_size)
        return
    print(f"\n## Packs\n\ntorch {torch.__version__}, {torch.get_num_threads()} threads, B={options.batch_size}\n")
    print("| model | J | executor | operators a job-step | of the original's | time a job-step / alone |")
    print("|---|---|---|---|---|---|")
    memory = [report(model, options) for model in options.models]
    print("\n| model | MB a job, planned | measured |\n|---|---|---|")
    print("\n".join(memory))


def report(model: str, options: argparse.Namespace) -> str:
    """Print the rows of one model; the row of its memory."""
    size = f"dataset.batch_size={options.batch_size}"
    alone = make_trainer(model, size, "dataset.static_noise=0.5")
    trainers = {"alone": alone}
    for num_jobs in options.jobs:
        for executor in EXECUTORS:
            trainers[f"{num_jobs} {executor}"] = make_trainer(model, size, num_jobs=num_jobs, executor=executor)
    counts = {name: operators(trainer) for name, trainer in trainers.items()}
    seconds = step_seconds(trainers, options.repeats)
    for name, trainer in trainers.items():
        num_jobs = trainer.program.num_jobs
        ratios = [ours / num_jobs / one for ours, one in zip(seconds[name], seconds["alone"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}…{max(ratios):.2f})"
        print_row(model, num_jobs, trainer.program.executor if num_jobs > 1 else "", counts[name], spread)
    planned = bytes_per_job(alone.plan)
    del trainers
    for num_jobs in options.count_jobs:
        for executor in EXECUTORS[:2]:
            trainer = make_trainer(model, size, num_jobs=num_jobs, executor=executor)
            print_row(model, num_jobs, executor, operators(trainer), "")
            del trainer
    more = options.memory_jobs - 1
    peaks = [peak_bytes(model, num_jobs, options.batch_size) for num_jobs in (1, options.memory_jobs)]
    return f"| {model} | {planned / 1e6:.0f} | {(peaks[1] - peaks[0]) / more / 1e6:.0f} |"


def print_row(model: str, num_jobs: int, executor: str, count: int, spread: str) -> None:
    """One row of the table."""
    original = ORIGINAL_LAUNCHES.get(model)
    share = "" if original is None else f"1/{original / (count / num_jobs):.0f}"
    print(f"| {model} | {num_jobs} | {executor} | {count / num_jobs:.0f} | {share} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
