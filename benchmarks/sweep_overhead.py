"""What the sweep engine costs a job: trivial jobs through our sweeper and through stock Hydra's, side by side.

    python benchmarks/sweep_overhead.py [--jobs 200] [--repeats 2]

Both compose the project's whole configuration for every job and run the same task, which writes one small file. The
sweeps run one after another in processes of their own, taking turns; the start of the program is measured with one job
and subtracted. Printed: seconds a job (wall, and of the processor), the ratio, and our sweeper's surplus over stock
Hydra's, which is what the engine adds: aim <= 0.1 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TRIVIAL = """
import sys
from pathlib import Path
from hydra.core.hydra_config import HydraConfig
import jepa.run
from jepa.config.compose import config_hash
from jepa.files import write_json_atomic

def trivial(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    result = {"status": "finished", "objective": float(cfg.seed), "config_hash": config_hash(cfg), "metrics": {}}
    write_json_atomic(folder / "result.json", result)
    return float(cfg.seed)

sys.exit(jepa.run.command_line(sys.argv[1:], trivial))
"""
SWEEPERS = {
    "ours": ["hydra.sweeper.check=null", "progress=none"],
    "stock Hydra": [
        "hydra/sweeper=basic",
        "~hydra.callbacks.preflight",
        "hydra.sweep.dir=stock",
        "hydra.sweep.subdir=${hydra.job.num}",
    ],
}


@dataclass(frozen=True)
class Cost:
    """What a sweep took, in seconds: on the clock, and of the processor."""

    wall: float
    cpu: float


def cost(sweeper: str, num_jobs: int) -> Cost:
    """One sweep in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "trivial.py"
        script.write_text(TRIVIAL)
        command = [sys.executable, str(script), "--multirun", f"seed=range({num_jobs})", *SWEEPERS[sweeper]]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        results = len(list(Path(folder).glob("**/result.json")))
    if done.returncode != 0 or results != num_jobs:
        raise RuntimeError(f"{sweeper}: exit code {done.returncode}, {results} results\n{done.stdout}\n{done.stderr}")
    return Cost(elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def per_job(sweeper: str, num_jobs: int) -> Cost:
    """What each further job costs: a sweep of many less a sweep of one."""
    many, one = cost(sweeper, num_jobs), cost(sweeper, 1)
    return Cost((many.wall - one.wall) / (num_jobs - 1), (many.cpu - one.cpu) / (num_jobs - 1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="jobs in a sweep")
    parser.add_argument("--repeats", type=int, default=2, help="sweeps of each kind, taking turns")
    arguments = parser.parse_args()
    costs: dict[str, list[Cost]] = {name: [] for name in SWEEPERS}
    for _ in range(arguments.repeats):
        for name, found in costs.items():
            found.append(per_job(name, arguments.jobs))
    print(f"{arguments.jobs} trivial jobs, basic launcher, medians of {arguments.repeats}; seconds a job")
    for clock in ("wall", "cpu"):
        median = {name: statistics.median(getattr(c, clock) for c in found) for name, found in costs.items()}
        ours, stock = median["ours"], median["stock Hydra"]
        print(f"  {clock:<5} ours {ours:.4f}   stock Hydra {stock:.4f}   ", end="")
        print(f"ratio {ours / stock:.2f}   surplus {ours - stock:+.4f}")
    print("  aim: a surplus of at most 0.1")


if __name__ == "__main__":
    main()
