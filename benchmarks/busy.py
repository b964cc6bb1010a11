"""The throughput of a default run on an idle machine, and beside other processes that keep its cores busy.

    python benchmarks/busy.py
    python benchmarks/busy.py --busy 0 2 8 --set OMP_WAIT_POLICY=passive --set OMP_NUM_THREADS=1

Each ``--set`` adds a row: the same run with that environment variable (several joined by commas), beside the program's
own choice. Rows take turns, so that a drift of the machine's speed meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness import spread, table

WAITING_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="numbers of other busy processes")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE[,NAME=VALUE]", dest="settings")
    parser.add_argument("--steps", type=int, default=40, help="train steps a run, of which the second half counts")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; of the medians and spreads")
    options = parser.parse_args()
    rows = ["", *options.settings]
    rates: dict[tuple[str, int], list[float]] = {(row, busy): [] for row in rows for busy in options.busy}
    for _ in range(options.repeats):
        for row, busy in rates:
            with busy_processes(busy):
                rates[row, busy].append(sequences_per_second(_variables(row), options.steps))
    print("\n## A default run beside busy processes: sequences a second\n")
    header = ["", *(f"{busy} busy processes" if busy else "idle" for busy in options.busy)]
    body = [
        [row or "as it comes", *(spread(rates[row, busy], digits=0) for busy in options.busy)] for row in rows
    ]
    print(table(header, body))


def sequences_per_second(variables: Mapping[str, str], steps: int) -> float:
    """Median rate over the second half of a run of ``steps`` steps, in sequences a second."""
    every = max(1, steps // 8)
    kept = {name: value for name, value in os.environ.items() if name not in WAITING_VARIABLES}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jepa.run", f"folder={folder}/run", "progress=none", "plots=false"]
        command += [f"dataset.size={32 * steps}", "trainer.epochs=1", "trainer.warmup_epochs=0"]
        command += [f"trainer.log_every_steps={every}", "probe.fit_sequences=600", "probe.judge_sequences=100"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**kept, **variables})
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["kind"] == "train"]
    return statistics.median(record["sequences_per_second"] for record in records[len(records) // 2 :])


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """``count`` processes that never wait, while the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _variables(row: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in row.split(",") if part)


if __name__ == "__main__":
    main()
