"""Runs an hour: a grid of 16 VICReg jobs at B = 32, by launcher and precision, beside the original's time for it.

    python benchmarks/grid.py                      # an hour on two cores: six launchers
    python benchmarks/grid.py --launchers auto joblib

Each launcher runs the whole command as a user types it: start-up, composition, normalisation, training, probing, files.
Beside each, in the same minutes, the yardstick (menet5 alone, plain eager forward and backward, all cores) is timed. On
two cores the original's VICReg step takes 1.9 of it, and in two single-thread processes, the original at its best, it
makes 5.5 steps in the time of 4.2: that, times the steps of 16 jobs, is what the original would need for training
alone, its start-up and its 60 epochs of probing not counted.

Both are scaled to runs of the paper's length from what a step and what a run's fixed part take: a grid is run twice,
with few steps and with more, and the difference is the steps'. (With fewer than a hundred steps the scatter of a run's
fixed part, probing above all, drowns that difference.) At the paper's length ``auto`` compiles, so it does here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time

from jepa.sweep.devices import cores

ORIGINAL_STEP = 1.9 * 4.2 / 5.5  # yardsticks a VICReg step at B = 32, in two single-thread processes on two cores
JOBS = 16
BATCH_SIZE = 32
PAPER_STEPS = 31_200  # 100 epochs of 312 steps
LAUNCHERS = {
    "basic": ["hydra/launcher=basic"],
    "joblib": ["hydra/launcher=joblib"],
    "packed": ["hydra/launcher=packed", f"hydra.launcher.num_workers={cores()}"],
    "joblib bf16": ["hydra/launcher=joblib", "precision=bf16"],
    "packed bf16": ["hydra/launcher=packed", f"hydra.launcher.num_workers={cores()}", "precision=bf16"],
    "auto": ["hydra/launcher=auto", "trainer.compile=true"],
}


def grid_seconds(launcher: str, steps: int) -> float:
    """Wall time of the grid: 8 noise strengths, 2 seeds, ``steps`` steps each."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "jepa.run", "--multirun", *LAUNCHERS[launcher]),
            "model=vicreg",
            "dataset.static_noise=0,0.25,0.5,0.75,1,1.25,1.5,2",
            "seed=0,1",
            f"dataset.batch_size={BATCH_SIZE}",
            f"dataset.size={BATCH_SIZE * steps}",
            *("trainer.epochs=1", "trainer.warmup_epochs=0.5", "plots=false", "progress=none"),
            f"hydra.sweep.dir={folder}/grid",
        ]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        return time.perf_counter() - started


def yardstick_seconds() -> float:
    """Median time of one yardstick in a process of its own."""
    import torch
    from yardstick import yardstick

    one_pass = yardstick(torch.randn(17 * BATCH_SIZE, 1, 28, 28))
    times = []
    for _ in range(8):
        started = time.perf_counter()
        one_pass()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launchers", nargs="+", default=list(LAUNCHERS), choices=list(LAUNCHERS))
    parser.add_argument(
        "--steps", type=int, default=120, help="steps of the longer grid's runs; the shorter has a sixth"
    )
    options = parser.parse_args()
    few, many = max(2, options.steps // 6), options.steps
    print(f"{JOBS} jobs, B={BATCH_SIZE}, {cores()} cores; {few} and {many} steps a run\n")
    print("| launcher | ms a step, all cores | s a run besides | original's training / ours, paper's length |")
    print("|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for launcher in options.launchers:
        with context.Pool(1) as pool:
            before = pool.apply(yardstick_seconds)
        short, long = grid_seconds(launcher, few), grid_seconds(launcher, many)
        with context.Pool(1) as pool:
            after = pool.apply(yardstick_seconds)
        step = (long - short) / (many - few) / JOBS
        fixed = max(0.0, short / JOBS - few * step)
        original = ORIGINAL_STEP * (before + after) / 2
        ratio = PAPER_STEPS * original / (PAPER_STEPS * step + fixed)
        print(f"| {launcher} | {1000 * step:.0f} | {fixed:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
