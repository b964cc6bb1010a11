"""One GPU in ten minutes: rates, kernels and runs an hour of single runs and of packs, at the paper's settings.

    python benchmarks/gpu.py                              # VICReg and RSSM, B = 32 and 256, J = 1, 8, 32, 128
    python benchmarks/gpu.py --minutes 3 --models vicreg --jobs 1 32
    python benchmarks/gpu.py --steps plain compiled replayed    # compiling takes minutes
    python benchmarks/gpu.py --device cpu --models vicreg --batch-sizes 32 --jobs 1 2    # to try the script

Prints for each case: which executor the pack's own measurement chose, with the milliseconds of a step of each; kernels
a job-step (from torch's profiler; operators without a GPU), job-steps a second, the share of the card's measured
matmul rate that a job-step's (counted) floating-point operations make, runs an hour of 100 epochs of 10 000
sequences, and that as a multiple of the original's: it is taken to need no more than the time of its launches
(counted: 2 800 a VICReg step, 6 700 an RSSM step), at this machine's measured time for one. A case that would not fit
in memory, or in the time that is left, is named and left out; one that fails says why.
"""

from __future__ import annotations

import argparse
import time

import torch
from harness import make_trainer, table, train_step
from packing import ORIGINAL_LAUNCHES
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from jepa.packing.executors import choose_executor
from jepa.packing.pack import bytes_per_job, free_bytes
from jepa.packing.trainer import PackTrainer
from jepa.training.loop import Trainee
from jepa.training.runtime import prepare, wait

PAPER_SEQUENCES = 1_000_000  # of one run: 100 epochs of 10 000
SECONDS_PER_CASE = 2.0
# How a step runs: as it is written, by torch.compile, or recorded as a CUDA graph.
STEPS = {"plain": [], "compiled": ["trainer.compile=true"], "replayed": ["trainer.cuda_graph=true"]}
COLUMNS = [
    *("model", "B", "precision", "J", "step", "executor, ms", "kernels a job-step", "job-steps/s", "of matmul rate"),
    *("runs/hour", "times the original"),
]


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square product: the yardstick of a card."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        wait(device)
        started = time.perf_counter()
        for _ in range(10):
            left @ right
        wait(device)
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - started))
    return best


def launch_seconds(device: torch.device, launches: int = 5000) -> float:
    """Seconds from one tiny kernel to the next, launched by PyTorch: the shortest of several tries."""
    number = torch.zeros(1, device=device)
    tries = []
    for _ in range(5):
        wait(device)
        started = time.perf_counter()
        for _ in range(launches):
            number.add_(1)
        wait(device)
        tries.append((time.perf_counter() - started) / launches)
    return min(tries)


def count_kernels(trainer: Trainee) -> int:
    """Kernels that one step launches, data included."""
    activity = ProfilerActivity.CUDA if trainer.plan.device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as recorded:
        train_step(trainer)()
        wait(trainer.plan.device)
    if trainer.plan.device.type == "cuda":
        return sum(event.count for event in recorded.key_averages() if event.self_device_time_total > 0)
    return sum(event.count for event in recorded.key_averages() if event.key.startswith("aten::"))


def count_flops(trainer: Trainee) -> int:
    """Floating-point operations of one step of one job, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        train_step(trainer)()
    return counter.get_total_flops()


def steps_per_second(trainer: Trainee) -> float:
    """Steps a second once warm."""
    step = train_step(trainer)
    for _ in range(5):
        step()
    wait(trainer.plan.device)
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS_PER_CASE:
        for _ in range(5):
            step()
        wait(trainer.plan.device)
        steps += 5
    return steps / (time.perf_counter() - started)


def chosen_executor(trainer: Trainee) -> str:
    """Let the trainer's program choose; the executor, and milliseconds of a step by each."""
    if not isinstance(trainer, PackTrainer):
        return ""
    generators = [job.model_generator for job in trainer.jobs]
    noise = trainer._train_noise(generators)
    seconds = choose_executor(trainer.program, trainer.next_batch(), noise)
    shown = ", ".join(f"{name} {1e3 * value:.1f}" for name, value in seconds.items())
    return f"{trainer.program.executor} ({shown})"


def dtype_of(precision: str) -> torch.dtype:
    """The type of the products' factors."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def rows_of(
    model: str, batch_size: int, precision: str, num_jobs: int, options: argparse.Namespace, rate: float, launch: float
) -> list[str]:
    """The table's rows of one pack, one for each way to run its step."""
    device = torch.device(options.device)
    overrides = [f"dataset.batch_size={batch_size}", f"precision={precision}"]
    head = f"| {model} | {batch_size} | {precision} | {num_jobs} |"
    single = make_trainer(model, *overrides, device=options.device)
    if num_jobs * bytes_per_job(single.plan) > free_bytes(device):
        return [f"{head} does not fit in memory | | | | | | |"]
    flops = count_flops(single)
    rows = []
    for name in options.steps:
        try:
            trainer = make_trainer(model, *overrides, *STEPS[name], num_jobs=num_jobs, device=options.device)
            executor = chosen_executor(trainer)
            train_step(trainer)()
            kernels = count_kernels(trainer) / num_jobs if name != "replayed" else None
            job_steps = num_jobs * steps_per_second(trainer)
        except RuntimeError as error:  # out of memory, a step that cannot be recorded: the other cases are still wanted
            rows.append(f"{head} {name} | {str(error).partition(chr(10))[0]} | | | | | |")
            continue
        original = 1 / (launch * ORIGINAL_LAUNCHES[model]) if model in ORIGINAL_LAUNCHES else None
        cells = [
            name,
            executor,
            "" if kernels is None else f"{kernels:.0f}",
            f"{job_steps:.0f}",
            f"{job_steps * flops / rate:.1%}",
            f"{3600 * job_steps * batch_size / PAPER_SEQUENCES:.1f}",
            "" if original is None else f"{job_steps / original:.1f}",
        ]
        rows.append(f"{head} {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vicreg", "rssm"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 256])
    parser.add_argument("--jobs", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "tf32", "bf16"], choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--steps", nargs="+", default=["plain", "replayed"], choices=list(STEPS))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device here; benchmarks/packing.py counts operators without one")
    if device.type != "cuda":
        options.precisions = [name for name in options.precisions if name != "tf32"]
        options.steps = [name for name in options.steps if name != "replayed"]
    deadline = time.monotonic() + 60 * options.minutes
    rates = {}
    for precision in options.precisions:
        prepare(device=device, threads=None, precision=precision)
        rates[precision] = matmul_rate(device, dtype_of(precision))
    launch = launch_seconds(device)
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}, torch {torch.__version__}")
    print("matmul: " + ", ".join(f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in rates.items()))
    print(f"one launch: {1e6 * launch:.1f} microseconds")
    print("\n" + table(COLUMNS, []))
    for model in options.models:
        for batch_size in options.batch_sizes:
            for precision in options.precisions:
                prepare(device=device, threads=None, precision=precision)
                for num_jobs in options.jobs:
                    if time.monotonic() > deadline:
                        raise SystemExit(f"(stopped after {options.minutes:g} minutes)")
                    rows = rows_of(model, batch_size, precision, num_jobs, options, rates[precision], launch)
                    print("\n".join(rows), flush=True)
                    if device.type == "cuda":
                        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
