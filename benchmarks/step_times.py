"""Whole train steps, data included, as ratios to the yardstick; and how far each is from what the machine could do.

    python benchmarks/step_times.py               # every model, B = 32 and 256, fp32, and bf16 where the CPU has it
    python benchmarks/step_times.py --models vicreg --batch-sizes 32 --threads 1 --clock cpu
    python benchmarks/step_times.py --models vicreg --compile           # and with torch.compile
    python benchmarks/step_times.py --models vicreg --profile           # where the time of a step goes

A step is what the trainer does: draw a batch, losses, gradients, update, sums for the record. The floor of a step is
the time that its counted products would take at the rates that this machine is measured to reach: those of convolutions
at a 3×3 convolution's, all others at a square matrix product's. (Products with the zeros of a padding count,
though kernels skip some of them.) What the original takes is known from the same machine
type: 1.9 yardsticks for VICReg at B=32, 1.4-1.5 at B=256, 12.8 for RSSM at B=32.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import yardstick
from harness import MODELS, Case, Timings, arguments, make_single, measure, spread, start, table, train_step
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from jepa.training import processor, runtime
from jepa.training.trainer import Trainer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# (model, B, precision): yardsticks a whole step may take.
AIMS = {
    **{(model, 32, "fp32"): 0.95 for model in ("vicreg", "simclr")},
    **{(model, 256, "fp32"): 0.5 for model in ("vicreg", "simclr")},
    **{(model, 32, "bf16"): 0.55 for model in ("vicreg", "simclr")},
    **{(model, 256, "bf16"): 0.3 for model in ("vicreg", "simclr")},
    ("rssm", 32, "fp32"): 3.2,
    ("rssm", 32, "bf16"): 1.6,
}
OPERATORS_SHOWN = 16
HEADER = [
    *("model", "B", "precision", "ms", "sequences/s", "yardsticks", "aim", "data", "GFLOP", "floor, yardsticks"),
    "step / floor",
]


def main() -> None:
    parser = arguments(__doc__, repeats=7)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 256])
    precisions = ["fp32"] if processor.crawls_in_bf16() else list(DTYPES)  # a step of bf16 would take seconds there
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), default=precisions)
    parser.add_argument("--compile", action="store_true", help="compiled as well, and how long that takes")
    parser.add_argument("--profile", action="store_true", help="where the time of a step goes, instead of ratios")
    options = parser.parse_args()
    start(options, "Train steps")
    if options.profile:
        for batch_size in options.batch_sizes:
            for model in options.models:
                print(f"### {model}, B={batch_size}\n\n{profile_table(model, batch_size, options)}\n", flush=True)
        return
    rates = {precision: machine_rates(DTYPES[precision], options.clock) for precision in options.precisions}
    print(rates_table(rates))
    print("\n" + table(HEADER, []), flush=True)
    for batch_size in options.batch_sizes:
        for model in options.models:
            for row in model_rows(model, batch_size, options, rates):
                print(f"| {' | '.join(row)} |", flush=True)


def model_rows(
    model: str, batch_size: int, options: argparse.Namespace, rates: dict[str, dict[str, float]]
) -> list[list[str]]:
    """The rows of one model at one batch size: a row for each precision, measured beside one yardstick."""
    size = f"dataset.batch_size={batch_size}"
    trainers = {precision: make_single(model, size, f"precision={precision}") for precision in options.precisions}
    flops = {precision: count_flops(trainer) for precision, trainer in trainers.items()}
    if options.compile:
        compiled = {
            f"{precision} compiled": make_single(model, size, f"precision={precision}", "trainer.compile=true")
            for precision in options.precisions
        }
        report_compilation(model, batch_size, compiled)
        trainers |= compiled
    any_trainer = next(iter(trainers.values()))
    cases = [
        yardstick.case(any_trainer.next_batch().states.flatten(0, 1)),
        Case("data", any_trainer.next_batch),
        *(Case(precision, train_step(trainer)) for precision, trainer in trainers.items()),
    ]
    calls = max(1, 64 // batch_size)
    timings = measure(cases, repeats=options.repeats, calls=calls, clock=options.clock)
    if timings.busy > 0.2:
        print(f"({model}, B={batch_size}: others used up to {timings.busy:.0%} of the machine)", file=sys.stderr)
    return [
        _row(model, batch_size, name, timings, flops[name.split()[0]], rates[name.split()[0]]) for name in trainers
    ]


def _row(
    model: str,
    batch_size: int,
    name: str,
    timings: Timings,
    flops: dict[str, float],
    rates: dict[str, float],
) -> list[str]:
    floor = sum(flops[kind] / rates[kind] for kind in flops)
    data = [value / step for value, step in zip(timings.seconds["data"], timings.seconds[name], strict=True)]
    aim = AIMS.get((model, batch_size, name.split()[0]))
    return [
        model,
        str(batch_size),
        name,
        timings.milliseconds(name),
        f"{batch_size / timings.median(name):.0f}",
        timings.ratio(name, yardstick.NAME),
        "" if aim is None else f"≤ {aim}",
        f"{sorted(data)[len(data) // 2]:.1%}",
        f"{sum(flops.values()) / 1e9:.1f}",
        f"{floor / timings.median(yardstick.NAME):.2f}",
        spread([value / floor for value in timings.seconds[name]], digits=2),
    ]


# --- where the time goes -------------------------------------------------------------------------------------------


def profile_table(model: str, batch_size: int, options: argparse.Namespace, *, steps: int = 10) -> str:
    """The operators that a step spends most time in, by shares of the step, a column for each precision."""
    runtime.keep_freed_memory()
    shares = {precision: operator_shares(model, batch_size, precision, steps) for precision in options.precisions}
    names = sorted(set().union(*shares.values()), key=lambda name: -sum(one.get(name, 0.0) for one in shares.values()))
    rows = [[name, *(f"{one.get(name, 0.0):.1%}" for one in shares.values())] for name in names[:OPERATORS_SHOWN]]
    others = (sum(one.get(name, 0.0) for name in names[OPERATORS_SHOWN:]) for one in shares.values())
    return table(["operator", *shares], [*rows, ["all others", *(f"{share:.1%}" for share in others)]])


def operator_shares(model: str, batch_size: int, precision: str, steps: int) -> dict[str, float]:
    """By operator the share of the step's time that is spent in itself, not in what it calls."""
    step = train_step(make_single(model, f"dataset.batch_size={batch_size}", f"precision={precision}"))
    for _ in range(3):
        step()
    for _ in range(2):  # the first recording claims memory as it goes, and what it records is slower for it
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            for _ in range(steps):
                step()
    own = {event.key: event.self_cpu_time_total for event in recorded.key_averages()}
    return {name: seconds / sum(own.values()) for name, seconds in own.items()}


# --- the floor -----------------------------------------------------------------------------------------------------


def count_flops(trainer: Trainer) -> dict[str, float]:
    """Floating-point operations of one step's products: of convolutions, and of all others."""
    program = trainer.program
    model, program._model = program._model, program.method  # counted as written, not as compiled
    with FlopCounterMode(display=False) as counter:
        train_step(trainer)()
    program._model = model
    counts = counter.get_flop_counts()["Global"]
    convolutions = sum(count for operator, count in counts.items() if "conv" in str(operator))
    return {"convolutions": float(convolutions), "matrices": float(sum(counts.values()) - convolutions)}


def machine_rates(dtype: torch.dtype, clock: str) -> dict[str, float]:
    """Floating-point operations a second that this machine reaches, forward, the best of several tries."""
    size = 1536
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    maps = torch.randn(544, 64, 7, 7).to(dtype).to(memory_format=torch.channels_last)
    kernel = torch.randn(64, 64, 3, 3).to(dtype)
    flops = {"convolutions": 2.0 * maps.numel() * kernel[0].numel(), "matrices": 2.0 * size**3}
    with torch.no_grad():
        return {
            "convolutions": flops["convolutions"] / _shortest(lambda: F.conv2d(maps, kernel, padding=1), clock),
            "matrices": flops["matrices"] / _shortest(lambda: left @ right, clock),
        }


def _shortest(run: Callable[[], Any], clock: str) -> float:
    timings = measure([Case("", run)], repeats=15, clock=clock, tries=2)
    return min(timings.seconds[""])


def rates_table(rates: dict[str, dict[str, float]]) -> str:
    """The machine's rates."""
    rows = [[precision, *(f"{value / 1e9:.0f}" for value in kinds.values())] for precision, kinds in rates.items()]
    return table(["GFLOP/s reached", "3×3 convolution", "square matrix product"], rows)


def report_compilation(model: str, batch_size: int, trainers: dict[str, Trainer]) -> None:
    """Compile each step, and print how long its first two calls take."""
    runtime.keep_freed_memory()
    for precision, trainer in trainers.items():
        started = time.perf_counter()
        for _ in range(2):
            train_step(trainer)()
        seconds = time.perf_counter() - started
        print(f"(compiling {model}, B={batch_size}, {precision}: {seconds:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
