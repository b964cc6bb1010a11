"""What pruning saves: the same search without and with each pruner; the best objective and the epochs spent.

    python benchmarks/pruning.py                          # 16 trials of 8 short epochs each, some minutes
    python benchmarks/pruning.py --trials 40 --pruners none median

The sampler's seed is the same, and random sampling does not depend on results: every search looks at the same settings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PRUNERS = ("none", "median", "percentile", "successive_halving", "hyperband")


def search(pruner: str, options: argparse.Namespace, folder: Path) -> tuple[float, float, int]:
    """Run one search; its best objective in px, the epochs spent, and how many trials were pruned."""
    command = [
        *(sys.executable, "-m", "jepa.run", "+sweep=search", f"model={options.model}", "hydra/launcher=joblib"),
        f"sweep.n_trials={options.trials}",
        f"sweep.pruner={pruner}",
        f"dataset.static_noise={options.static_noise}",
        "dataset.batch_size=32",
        f"dataset.size={32 * options.steps}",
        "model.encoder.width_factor=1",
        "model.encoder.embedding_size=128",
        f"trainer.epochs={options.epochs}",
        *("trainer.warmup_epochs=1", "trainer.probe_every_epochs=1", "checkpoint.every_epochs=0", "plots=false"),
        *("probe.fit_sequences=1000", "probe.judge_sequences=1000", "probe.every_frame=false", "progress=none"),
        f"hydra.sweep.dir={folder / pruner}",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    results = [json.loads(path.read_text()) for path in (folder / pruner).glob("*/result.json")]
    best = min(result["objective"] for result in results if result["status"] == "finished")
    return best, sum(result["epochs_trained"] for result in results), sum(r["status"] == "pruned" for r in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vicreg")
    parser.add_argument("--static-noise", type=float, default=0.25)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="steps an epoch")
    parser.add_argument("--pruners", nargs="+", default=["none", "median", "successive_halving"], choices=PRUNERS)
    options = parser.parse_args()
    print("| pruner | best RMSE, px | epochs spent | trials pruned |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for pruner in options.pruners:
            best, epochs, pruned = search(pruner, options, Path(folder))
            print(f"| {pruner} | {best:.2f} | {epochs:.0f} | {pruned} of {options.trials} |", flush=True)


if __name__ == "__main__":
    main()
