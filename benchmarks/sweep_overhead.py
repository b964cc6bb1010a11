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
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TRIVIAL = """
import sys
from pathlib import Path
from hydra.core.hydra_config import HydraConfig
import jepa.run
from jepa.config import config_hash
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


def seconds(sweeper: str, num_jobs: int) -> float:
    """Wall time of one sweep in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "trivial.py"
        script.write_text(TRIVIAL)
        command = [sys.executable, str(script), "--multirun", f"seed=range({num_jobs})", *SWEEPERS[sweeper]]
        started = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        elapsed = time.perf_counter() - started
        results = len(list(Path(folder).glob("**/result.json")))
    if done.returncode != 0 or results != num_jobs:
        raise RuntimeError(
            f"{sweeper}: exit code {done.returncode}, {results} of {num_jobs} results\n{done.stdout}\n{done.stderr}"
        )
    return elapsed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="jobs in a sweep")
    parser.add_argument("--repeats", type=int, default=2, help="sweeps of each kind, taking turns")
    arguments = parser.parse_args()
    costs: dict[str, list[float]] = {name: [] for name in SWEEPERS}
    for _ in range(arguments.repeats):
        for name, found in costs.items():
            found.append((seconds(name, arguments.jobs) - seconds(name, 1)) / (arguments.jobs - 1))
    medians = {name: statistics.median(found) for name, found in costs.items()}
    print(f"{arguments.jobs} trivial jobs, basic launcher, medians of {arguments.repeats}")
    for name, found in costs.items():
        print(f"  {name:<12} {medians[name]:.4f} s a job   (from {min(found):.4f} to {max(found):.4f})")
    print(f"  ratio ours / stock Hydra: {medians['ours'] / medians['stock Hydra']:.2f}")
    print(f"  surplus of ours: {medians['ours'] - medians['stock Hydra']:+.4f} s a job (aim: at most 0.1)")


if __name__ == "__main__":
    main()
