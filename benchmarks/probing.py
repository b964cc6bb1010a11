"""What probing costs, and how good its maps are: least squares, Adam on kept features, Adam on ever new sequences.

    python benchmarks/probing.py                                  # the original's protocol in full: some ten minutes
    python benchmarks/probing.py --sequences 2000 --epochs 10     # shorter

One VICReg is trained for --steps steps; every probe then reads the same frozen weights, and is judged on the same new
sequences. The original embeds new sequences in each of 30 epochs, and does so twice, once for each of its two probes;
here one pass serves both. "Time, original / ours" therefore counts the passes of ``fresh=true`` twice.
"""

from __future__ import annotations

import argparse
import time

import torch
from harness import make_single, table, train_step

from jepa.probes import ProbeReport
from jepa.training.trainer import Trainer

PROBES = {
    "least squares": ["probe=least_squares"],
    "Adam, kept features": ["probe=adam", "probe.cache_gib=8"],
    "Adam, new sequences each epoch": ["probe=adam", "probe.fresh=true"],
}
ERRORS = ("prediction_rmse_px", "encoder_rmse_px")
ORIGINAL = "Adam, new sequences each epoch"


def judged(trained: Trainer, overrides: list[str]) -> tuple[float, ProbeReport]:
    """Seconds of fitting and judging a probe on the weights of ``trained``, and the errors."""
    trainer = make_single("vicreg", *overrides)
    trainer.program.load_model(trained.program.saved()["model"])
    started = time.perf_counter()
    report = trainer._probe()
    return time.perf_counter() - started, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of training, before any probe")
    parser.add_argument("--sequences", type=int, default=10_000, help="to fit on in an epoch, and to judge with")
    parser.add_argument("--epochs", type=int, default=30, help="of Adam")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trained = make_single("vicreg")
    step = train_step(trained)
    for _ in range(options.steps):
        step()
    sizes = [f"probe.{name}_sequences={options.sequences}" for name in ("fit", "judge")]
    print(f"\n## Probing\n\n{options.sequences} sequences, {options.epochs} epochs of Adam\n")
    results = {}
    for name, overrides in PROBES.items():
        epochs = [f"probe.epochs={options.epochs}"] if "probe=adam" in overrides else []
        results[name] = judged(trained, [*overrides, *sizes, *epochs])
    original = 2 * results[ORIGINAL][0]
    rows = [
        [name, f"{original / seconds:.1f}", *(f"{report.as_metrics()[error]:.3f}" for error in ERRORS)]
        for name, (seconds, report) in results.items()
    ]
    print(table(["probe", "time, original / ours", "prediction RMSE, px", "encoder RMSE, px"], rows))


if __name__ == "__main__":
    main()
