"""How long `python -m jepa.run --help` takes, beside Python alone and beside importing Hydra and torch.

    python benchmarks/startup.py

Help, composed configurations and dry runs do without torch, whose import takes longer than all the rest; the benchmark
stops with an error if that is no longer so.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from harness import spread, table

LIMIT = 1.5  # seconds for --help
JEPA = [sys.executable, "-m", "jepa.run"]
CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import hydra": [sys.executable, "-c", "import hydra"],
    "import torch": [sys.executable, "-c", "import torch"],
    "jepa.run --help": [*JEPA, "--help"],
    "jepa.run --cfg job": [*JEPA, "--cfg", "job"],
    "jepa.results --help": [sys.executable, "-m", "jepa.results", "--help"],
}
WITHOUT_TORCH = [name for name in CASES if name.startswith("jepa")]


def seconds(command: list[str]) -> float:
    """Wall time of a command that must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def imports_torch(command: list[str]) -> bool:
    """Whether the command imports torch on its way."""
    told = subprocess.run([command[0], "-X", "importtime", *command[1:]], check=True, capture_output=True, text=True)
    return any(line.rsplit("|", 1)[-1].strip() == "torch" for line in told.stderr.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="rounds; of the medians and spreads")
    options = parser.parse_args()
    guilty = [name for name in WITHOUT_TORCH if imports_torch(CASES[name])]
    if guilty:
        raise SystemExit(f"error: torch is imported by: {', '.join(guilty)}")
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(options.repeats):
        for name, command in CASES.items():
            times[name].append(seconds(command))
    print("\n## Start-up\n")
    rows = []
    for name, values in times.items():
        ratios = [value / torch for value, torch in zip(values, times["import torch"], strict=True)]
        rows.append([f"`{name}`", spread(values, digits=2), spread(ratios, digits=2)])
    print(table(["command", "s", "of importing torch"], rows))
    median = statistics.median(times["jepa.run --help"])
    print(f"\n`--help` without torch: {median:.2f} s, {'within' if median <= LIMIT else 'beyond'} {LIMIT} s")


if __name__ == "__main__":
    main()
