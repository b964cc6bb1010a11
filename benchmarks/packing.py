"""What packing costs and saves: operators, memory and time of a job's step in a pack of J, beside the job alone.

    python benchmarks/packing.py                     # VICReg and RSSM, J = 1, 2, 4, 8; operators for J = 32 too
    python benchmarks/packing.py --models vicreg --jobs 1 8 --threads 1

Operators that compute are counted as PyTorch dispatches them (views and allocations are not): on a GPU each is a kernel
launch or a few. The original launches about 2 800 kernels for a VICReg step and 6 700 for an RSSM step (issue 3).
Times are medians of steps interleaved in one process, so that the machine's moods hit all alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jepa.config import compose, register
from jepa.packing import bytes_per_job
from jepa.run_plan import build_spec, make_plan
from jepa.runtime import prepare
from jepa.trainer import Trainer

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


def make_trainer(model: str, num_jobs: int, executor: str, batch_size: int, folder: Path, *extra: str) -> Trainer:
    """A trainer of ``num_jobs`` jobs that differ in seed and noise, at the published sizes."""
    overrides = [f"model={model}", f"dataset.batch_size={batch_size}", "progress=none", "device=auto", *extra]
    specs = []
    for job in range(num_jobs):
        texts = [*overrides, f"seed={job}", f"dataset.static_noise={0.5 + 0.1 * job}", f"folder={folder / str(job)}"]
        specs.append(replace(build_spec(make_plan(compose(texts, with_hydra=True)), resume=False), sinks=()))
    return Trainer(specs, executor=executor)


def operators(trainer: Trainer) -> int:
    """Operators of one whole step, data included."""
    trainer._one_step()
    with CountOperators() as counter:
        trainer._one_step()
    return counter.count


def step_seconds(trainers: dict[str, Trainer], repeats: int) -> dict[str, list[float]]:
    """Seconds of a step of each trainer, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(repeats):
        for name, trainer in trainers.items():
            _synchronize(trainer)
            started = time.perf_counter()
            trainer._one_step()
            _synchronize(trainer)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def _synchronize(trainer: Trainer) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vicreg", "rssm"])
    parser.add_argument("--jobs", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument(
        "--count-jobs", nargs="+", type=int, default=[32], help="J for which operators alone are counted"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    register()
    prepare(device=torch.device("cpu"), threads=options.threads, precision="fp32")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, B={options.batch_size}\n")
    print("| model | J | executor | operators a job-step | of the original's | time a job-step / alone | MB a job |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            report(model, options, Path(folder))


def report(model: str, options: argparse.Namespace, folder: Path) -> None:
    """The rows of one model."""
    kinds = {"alone": (1, "loop")}
    kinds |= {f"{n} {e}": (n, e) for n in options.jobs if n > 1 for e in ("vmap", "loop")}
    trainers = {name: make_trainer(model, n, e, options.batch_size, folder) for name, (n, e) in kinds.items()}
    counts = {name: operators(trainer) for name, trainer in trainers.items()}
    seconds = step_seconds(trainers, options.repeats)
    megabytes = bytes_per_job(trainers["alone"].jobs[0].spec) / 1e6
    alone = statistics.median(seconds["alone"])
    for name, (num_jobs, executor) in kinds.items():
        ratios = [value / num_jobs / alone for value in seconds[name]]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print_row(model, num_jobs, executor, counts[name], spread, f"{megabytes:.0f}")
    del trainers
    for num_jobs in options.count_jobs:
        trainer = make_trainer(model, num_jobs, "vmap", options.batch_size, folder)
        print_row(model, num_jobs, "vmap", operators(trainer), "", f"{megabytes:.0f}")


def print_row(model: str, num_jobs: int, executor: str, count: int, spread: str, megabytes: str) -> None:
    """One row of the table."""
    original = ORIGINAL_LAUNCHES.get(model)
    share = "" if original is None else f"1/{original / (count / num_jobs):.0f}"
    print(
        f"| {model} | {num_jobs} | {executor} | {count / num_jobs:.0f} | {share} | {spread} | {megabytes} |", flush=True
    )


if __name__ == "__main__":
    main()
