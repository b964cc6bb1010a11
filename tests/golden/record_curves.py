"""Loss curves and probe results of 60 steps at production size: what a change without numeric effect must leave.

    python tests/golden/record_curves.py            # compare with what is recorded, and say how far each run is from it
    python tests/golden/record_curves.py --write    # record anew, after a change that is meant to move the numbers

Every run goes through ``python -m jepa.run``, in one thread: B=32, T=17, width 2, D=512, changing and fixed noise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("curves.json")
MODELS = ("vicreg", "simclr", "rssm", "idm", "supervised")
PRECISIONS = ("fp32", "bf16")
NUM_STEPS = 60
OVERRIDES = (
    f"dataset.size={32 * NUM_STEPS}",
    "dataset.batch_size=32",
    "dataset.noise=0.5",
    "dataset.static_noise=0.75",
    "model.encoder.width_factor=2",
    "model.encoder.embedding_size=512",
    "trainer.epochs=1",
    "trainer.warmup_epochs=0",
    "trainer.log_every_steps=1",
    "probe.fit_sequences=1000",
    "probe.judge_sequences=500",
    "plots=false",
    "progress=none",
    "threads=1",
    "device=cpu",
)
PROBES = ("prediction_rmse_px", "encoder_rmse_px", "prediction_rmse_px_per_step", "encoder_rmse_px_per_step")

Curves = dict[str, Any]


def record(model: str, precision: str) -> Curves:
    """Train one run and return its curves.

    Returns:
        Every ``loss/…`` of ``metrics.jsonl`` as a list of 60 values, and under ``probes`` the probe's results in px.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jepa.run", f"model={model}", f"precision={precision}", f"folder={folder}/run"]
        subprocess.run(
            [*command, *OVERRIDES], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        result = json.loads((Path(folder) / "run" / "result.json").read_text(encoding="utf-8"))
    train = [line for line in map(json.loads, lines) if line["kind"] == "train"]
    assert len(train) == NUM_STEPS, f"{model}: {len(train)} records"
    names = [name for name in train[0] if name.startswith("loss/")]
    curves: Curves = {name: [line[name] for line in train] for name in names}
    curves["probes"] = {name: result["metrics"][name] for name in PROBES}
    return curves


def largest_difference(ours: Curves, recorded: Curves, steps: int = NUM_STEPS) -> float:
    """The largest relative difference of any loss in the first ``steps`` steps; infinite where a loss is missing.

    A term is measured against its own largest value, so that one that passes through 0 is not divided by it.
    """
    worst = 0.0
    for name, values in recorded.items():
        if name == "probes":
            continue
        if name not in ours:
            return float("inf")
        scale = max(map(abs, values)) or 1.0
        worst = max(worst, *(abs(a - b) / scale for a, b in zip(ours[name][:steps], values[:steps], strict=True)))
    return worst


def probe_difference(ours: Curves, recorded: Curves) -> float:
    """The largest difference of the two overall RMSE, px."""
    names = [name for name in PROBES if not name.endswith("per_step")]
    return max(abs(ours["probes"][name] - recorded["probes"][name]) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="record anew")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    options = parser.parse_args()
    recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    for model in options.models:
        for precision in options.precisions:
            key = f"{model}/{precision}"
            ours = record(model, precision)
            if key in recorded:
                early, late = (largest_difference(ours, recorded[key], steps) for steps in (5, NUM_STEPS))
                probes = probe_difference(ours, recorded[key])
                print(f"{key}: losses differ by {early:.1e} in 5 steps, by {late:.1e} in all; RMSE by {probes:.1e} px")
            if options.write:
                recorded[key] = ours
                text = json.dumps(recorded, separators=(",", ":"), sort_keys=True)
                RECORDED.write_text(text + "\n", encoding="utf-8")
                print(f"{key}: recorded, the last loss is {ours['loss/total'][-1]:.6g}", flush=True)


if __name__ == "__main__":
    main()
