"""Runs an hour: a grid of 16 VICReg jobs at B = 32, by launcher and precision, beside the original's time for it.

    python benchmarks/grid.py        # most of an hour on two cores: six launchers, four where bf16 is not to be had
    python benchmarks/grid.py --launchers auto joblib

Each launcher runs the whole command as a user types it: start-up, composition, normalisation, training, probing, files.
The time of a step is the median over the jobs' own records, all but each job's first ones, in which a step is compiled
or memory is claimed for the first time. What is left of the wall time is the runs' fixed part. Both are scaled to runs
of the paper's length, at which ``auto`` compiles the step; so it does here.

Beside each, in the same minutes, the yardstick (menet5 alone, plain eager forward and backward, all cores) is timed. On
two cores the original's VICReg step takes 1.9 of it, and in two single-thread processes, the original at its best, it
makes 5.5 steps in the time of 4.2: that, times the steps of 16 jobs, is what the original would need for training
alone, its start-up and its 60 epochs of probing not counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jepa.sweep.devices import cores
from jepa.training import processor

ORIGINAL_STEP = 1.9 * 4.2 / 5.5  # yardsticks a VICReg step at B = 32, in two single-thread processes on two cores
JOBS = 16
BATCH_SIZE = 32
PAPER_STEPS = 31_200  # 100 epochs of 312 steps
RECORD_STEPS = 20  # steps between two records of a job
FIRST_RECORDS = 2  # of each job, which do not count
LAUNCHERS = {
    "basic": ["hydra/launcher=basic"],
    "joblib": ["hydra/launcher=joblib"],
    "packed": ["hydra/launcher=packed", f"hydra.launcher.num_workers={cores()}"],
    "joblib bf16": ["hydra/launcher=joblib", "precision=bf16"],
    "packed bf16": ["hydra/launcher=packed", f"hydra.launcher.num_workers={cores()}", "precision=bf16"],
    "auto": ["hydra/launcher=auto", "trainer.compile=true"],
}


def run_grid(launcher: str, steps: int) -> tuple[float, float]:
    """Wall seconds of the grid, 8 noise strengths and 2 seeds; seconds of a job's step on all cores."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "jepa.run", "--multirun", *LAUNCHERS[launcher]),
            "model=vicreg",
            "dataset.static_noise=0,0.25,0.5,0.75,1,1.25,1.5,2",
            "seed=0,1",
            f"dataset.batch_size={BATCH_SIZE}",
            f"dataset.size={BATCH_SIZE * steps}",
            f"trainer.log_every_steps={RECORD_STEPS}",
            *("trainer.epochs=1", "trainer.warmup_epochs=0.5", "plots=false", "progress=none"),
            f"hydra.sweep.dir={folder}/grid",
        ]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        seconds = time.perf_counter() - started
        step = statistics.median(step_seconds(Path(folder) / "grid"))
    return seconds, step if launcher == "basic" else step / cores()


def step_seconds(grid: Path) -> list[float]:
    """Seconds of a step, of every record that counts; packed jobs share the time in their records."""
    found = []
    for path in grid.rglob("metrics.jsonl"):
        records = [record for record in map(json.loads, path.read_text().splitlines()) if record["kind"] == "train"]
        found += [BATCH_SIZE / record["sequences_per_second"] for record in records[FIRST_RECORDS:]]
    return found


def yardstick_seconds() -> float:
    """Median time of one yardstick in a process of its own, on all cores."""
    import torch
    from yardstick import yardstick

    one_pass = yardstick(torch.randn(17 * BATCH_SIZE, 1, 28, 28))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        one_pass()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in LAUNCHERS if "bf16" not in name or not processor.crawls_in_bf16()]
    parser.add_argument("--launchers", nargs="+", default=usual, choices=list(LAUNCHERS))
    parser.add_argument("--steps", type=int, default=120, help="of a run")
    options = parser.parse_args()
    least = (FIRST_RECORDS + 1) * RECORD_STEPS
    if options.steps < least:
        parser.error(f"--steps {options.steps}: at least {least}, for a record that counts")
    print(f"{JOBS} jobs, B={BATCH_SIZE}, {cores()} cores, {options.steps} steps a run\n")
    print("| launcher | step on all cores, yardsticks | s a run besides | original's training / ours |")
    print("|---|---:|---:|---:|")
    context = multiprocessing.get_context("spawn")
    for launcher in options.launchers:
        with context.Pool(1) as pool:
            before = pool.apply(yardstick_seconds)
        seconds, step = run_grid(launcher, options.steps)
        with context.Pool(1) as pool:
            yardstick = (before + pool.apply(yardstick_seconds)) / 2
        fixed = max(0.0, seconds / JOBS - options.steps * step)
        ratio = PAPER_STEPS * ORIGINAL_STEP * yardstick / (PAPER_STEPS * step + fixed)
        print(f"| {launcher} | {step / yardstick:.2f} | {fixed:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
