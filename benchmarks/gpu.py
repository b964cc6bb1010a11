"""One GPU in ten minutes: rates, kernels and runs an hour of single runs and of packs, at the paper's settings.

    python benchmarks/gpu.py                              # VICReg and RSSM, B = 32 and 256, J = 1, 8, 32, 128
    python benchmarks/gpu.py --minutes 3 --models vicreg --jobs 1 32

Prints, for each case: kernels a job-step (from torch's profiler), job-steps a second, the share of the card's measured
matmul rate that a job-step's (counted) floating-point operations make, and runs an hour of 100 epochs of 10 000
sequences. A case that would not fit in memory, or in the time that is left, is named and left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from harness import make_trainer
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from jepa.config import register
from jepa.packing import bytes_per_job, free_bytes
from jepa.runtime import prepare
from jepa.trainer import Trainer

PAPER_SEQUENCES = 1_000_000  # of one run: 100 epochs of 10 000
SECONDS_PER_CASE = 5.0
ORIGINAL_LAUNCHES = {"vicreg": 2800, "rssm": 6700}


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Floating-point operations a second of a square product: the yardstick of a card."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            left @ right
        torch.cuda.synchronize()
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - started))
    return best


def count_kernels(trainer: Trainer) -> int:
    """Kernels that one step launches, data included."""
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        trainer._one_step()
        torch.cuda.synchronize()
    return sum(event.count for event in recorded.key_averages() if event.self_device_time_total > 0)


def count_flops(trainer: Trainer) -> int:
    """Floating-point operations of one step of one job, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        trainer._one_step()
    return counter.get_total_flops()


def steps_per_second(trainer: Trainer) -> float:
    """Steps a second once warm."""
    for _ in range(5):
        trainer._one_step()
    torch.cuda.synchronize()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS_PER_CASE:
        for _ in range(5):
            trainer._one_step()
        torch.cuda.synchronize()
        steps += 5
    return steps / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vicreg", "rssm"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 256])
    parser.add_argument("--jobs", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "tf32", "bf16"], choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device here; benchmarks/packing.py counts operators without one")
    device = torch.device("cuda")
    deadline = time.monotonic() + 60 * options.minutes
    register()
    rates = {}
    for precision in options.precisions:
        prepare(device=device, threads=None, precision=precision)
        rates[precision] = matmul_rate(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    print("matmul: " + ", ".join(f"{name} {rate / 1e12:.0f} TFLOP/s" for name, rate in rates.items()) + "\n")
    print("| model | B | precision | J | kernels a job-step | job-steps/s | of matmul rate | runs/hour |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            for batch_size in options.batch_sizes:
                for precision in options.precisions:
                    prepare(device=device, threads=None, precision=precision)
                    for num_jobs in options.jobs:
                        if time.monotonic() > deadline:
                            raise SystemExit(f"(stopped after {options.minutes:g} minutes)")
                        print(case(model, batch_size, precision, num_jobs, rates[precision], Path(folder)), flush=True)
                        torch.cuda.empty_cache()


def case(model: str, batch_size: int, precision: str, num_jobs: int, rate: float, folder: Path) -> str:
    """One row of the table."""
    head = f"| {model} | {batch_size} | {precision} | {num_jobs} |"
    single = make_trainer(model, 1, "vmap", batch_size, folder, f"precision={precision}")
    if num_jobs * bytes_per_job(single.jobs[0].spec) > free_bytes(torch.device("cuda")):
        return f"{head} does not fit in memory | | | |"
    flops = count_flops(single)
    trainer = make_trainer(model, num_jobs, "vmap", batch_size, folder, f"precision={precision}")
    trainer._one_step()
    kernels = count_kernels(trainer) / num_jobs
    job_steps = num_jobs * steps_per_second(trainer)
    of_original = (
        f" (1/{ORIGINAL_LAUNCHES[model] / kernels:.0f} of the original's)" if model in ORIGINAL_LAUNCHES else ""
    )
    runs = 3600 * job_steps * batch_size / PAPER_SEQUENCES
    return f"{head} {kernels:.0f}{of_original} | {job_steps:.0f} | {job_steps * flops / rate:.1%} | {runs:.0f} |"


if __name__ == "__main__":
    main()
