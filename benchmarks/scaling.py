"""What a step costs as its sizes grow: jobs in a pack J, sequences a batch B, frames T, embedding size D.

    python benchmarks/scaling.py                            # VICReg
    python benchmarks/scaling.py --models rssm --threads 1

One size is changed at a time. Printed: the step's time over that of the base (J=1, B=32, T=17, D=512), interleaved with
it in one process, and sequences a second. A slope of one would be a time that grows as the size does.
"""

from __future__ import annotations

import argparse
import math

from harness import Case, arguments, make_single, measure, start, table, train_step

from jepa.training.trainer import Trainer

BASE = {"J": 1, "B": 32, "T": 17, "D": 512}
KEYS = {"B": "dataset.batch_size", "T": "dataset.num_steps", "D": "model.encoder.embedding_size"}
GRID = {"J": [2, 4, 8], "B": [8, 64, 128, 256], "T": [5, 9, 33], "D": [64, 128, 256, 1024]}


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--models", nargs="+", default=["vicreg"])
    options = parser.parse_args()
    start(options, "Cost as sizes grow")
    for model in options.models:
        rows = [row for size, values in GRID.items() for row in size_rows(model, size, values, options)]
        print(table([model, "time / base", "slope", "sequences/s"], rows) + "\n", flush=True)


def size_rows(model: str, size: str, values: list[int], options: argparse.Namespace) -> list[list[str]]:
    """The rows of one size, measured beside the base."""
    cases = {f"{size}={value}": {**BASE, size: value} for value in (BASE[size], *values)}
    base, *others = cases
    timings = measure(
        [Case(name, train_step(trainer_of(model, sizes))) for name, sizes in cases.items()],
        repeats=options.repeats,
        clock=options.clock,
    )
    rows = []
    for name in others:
        growth = cases[name][size] / BASE[size]
        slope = math.log(timings.median(name) / timings.median(base)) / math.log(growth)
        rate = cases[name]["J"] * cases[name]["B"] / timings.median(name)
        rows.append([name, timings.ratio(name, base), f"{slope:.2f}", f"{rate:.0f}"])
    return rows


def trainer_of(model: str, sizes: dict[str, int]) -> Trainer:
    """A trainer of these sizes; on a CPU a pack's jobs take turns, as the launcher has it."""
    overrides = [f"{key}={sizes[size]}" for size, key in KEYS.items()]
    return make_single(model, *overrides, num_jobs=sizes["J"], executor="loop")


if __name__ == "__main__":
    main()
