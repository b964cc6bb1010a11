"""What each kernel of jepa/kernels saves of a whole train step: the step without it, as a ratio to the step with all.

    python benchmarks/kernels.py                                   # default models, B = 32 and 256, fp32, and bf16
    python benchmarks/kernels.py --models rssm --batch-sizes 32    # one row a precision
    python benchmarks/kernels.py --models vicreg --batch-sizes 32 --precisions fp32 --jobs 4    # a batched pack
    python benchmarks/kernels.py --alone                           # what a kernel saves of the plain step, by itself
    python benchmarks/kernels.py --clock wall --threads 2          # as a run on an idle machine has it

A kernel stays in the repository if its ratio is 1.10 or more in some row, or, where another kernel does the same work
otherwise, with --alone. "plain" is the step without any kernel. The
steps are those that the trainer takes, data included. Each variant has a trainer of its own; they take their steps in
turn, in one process, so that what else the machine does hits all alike. Ratios are medians over rounds, with the
quartiles in brackets. A column is empty where the model, the precision or the pack has no use for the kernel.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Collection

from harness import Case, Timings, arguments, make_trainer, measure, start, table, train_step

from jepa.kernels import KERNELS, install
from jepa.packing.trainer import PackTrainer
from jepa.training import processor
from jepa.training.trainer import Trainer

MODELS = ("vicreg", "simclr", "idm", "rssm")
ALL, PLAIN = "all kernels", "plain"


def main() -> None:
    parser = arguments(__doc__, repeats=15)
    parser.set_defaults(threads=1, clock="cpu")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 256])
    precisions = ["fp32"] if processor.crawls_in_bf16() else ["fp32", "bf16"]
    parser.add_argument("--precisions", nargs="+", default=precisions)
    parser.add_argument("--jobs", type=int, default=1, help="J of a batched pack (executor=vmap); 1: a run alone")
    parser.add_argument("--alone", action="store_true", help="the plain step over the step with one kernel alone")
    options = parser.parse_args()
    start(options, "Kernels")
    kind = "alone" if options.alone else "without"
    columns = ["model", "J", "B", "precision", "ms, all kernels", PLAIN, *(f"{kind}: {name}" for name in KERNELS)]
    print(table(columns, []), flush=True)
    for batch_size in options.batch_sizes:
        for model in options.models:
            for precision in options.precisions:
                print(f"| {' | '.join(row(model, batch_size, precision, options))} |", flush=True)


def row(model: str, batch_size: int, precision: str, options: argparse.Namespace) -> list[str]:
    """One row of the table."""

    def trainer(names: Collection[str]) -> tuple[Trainer | PackTrainer, list[str]]:
        overrides = (f"dataset.batch_size={batch_size}", f"precision={precision}")
        made = make_trainer(model, *overrides, num_jobs=options.jobs)
        if isinstance(made, PackTrainer):
            made.program.use_kernels(names)
            return made, made.program.kernels
        return made, install(made.program.method, device=made.plan.device, precision=precision, only=names)

    everything, installed = trainer(tuple(KERNELS))
    trainers = {ALL: everything, PLAIN: trainer(())[0]}
    for name in installed:
        trainers[name] = trainer([name] if options.alone else [kernel for kernel in KERNELS if kernel != name])[0]
    cases = [Case(name, train_step(one)) for name, one in trainers.items()]
    timings = measure(cases, repeats=options.repeats, calls=max(1, 64 // batch_size), clock=options.clock, tries=1)
    ratios = {name: (PLAIN, name) if options.alone else (name, ALL) for name in installed} | {PLAIN: (PLAIN, ALL)}
    columns = [_ratio(timings, *ratios[name]) if name in ratios else "" for name in (PLAIN, *KERNELS)]
    return [model, str(options.jobs), str(batch_size), precision, timings.milliseconds(ALL), *columns]


def _ratio(timings: Timings, name: str, to: str) -> str:
    """``median (lower quartile…upper quartile)`` of the time of ``name`` over that of ``to``."""
    lower, middle, upper = statistics.quantiles(timings.ratios(name, to), n=4)
    return f"{middle:.2f} ({lower:.2f}…{upper:.2f})"


if __name__ == "__main__":
    main()
