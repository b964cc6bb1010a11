"""How far training moved the encoder's weights: against numpy, from a seed, a checkpoint and in a pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa.config.compose import compose, register
from jepa.packing.pack import PackOptions, run_pack
from jepa.prepare import make_plan
from jepa.run import run
from jepa.store import checkpoint
from jepa.training.moved import relative_distance

TINY = [
    "dataset.size=24",
    "dataset.batch_size=8",
    "dataset.num_steps=5",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "trainer.epochs=2",
    "trainer.warmup_epochs=1",
    "probe.fit_sequences=48",
    "probe.judge_sequences=8",
    "progress=none",
    "plots=false",
]


def configured(folder: Path, *overrides: str) -> Any:
    register()
    return compose([*TINY, f"folder={folder}", *overrides], with_hydra=True)


def execute(folder: Path, *overrides: str) -> dict[str, Any]:
    run(configured(folder, *overrides))
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def encoder_of(state: dict[str, torch.Tensor], parameters: set[str]) -> np.ndarray:
    """All parameters of the encoder as one vector; BatchNorm's running statistics are not among them."""
    names = sorted(name for name in state if name.startswith("encoder.") and name in parameters)
    return np.concatenate([state[name].numpy().astype(np.float64).ravel() for name in names])


@pytest.mark.parametrize("model", ["vicreg", "rssm", "supervised"])
def test_the_distance_is_that_of_the_checkpoint_from_the_seeds_weights(model: str, tmp_path: Path) -> None:
    result = execute(tmp_path / "run", f"model={model}")
    method = make_plan(configured(tmp_path / "other", f"model={model}")).initial_method()
    names = {name for name, _ in method.named_parameters()}
    start = encoder_of(method.state_dict(), names)
    end = encoder_of(checkpoint.load(tmp_path / "run" / checkpoint.LAST)["model"], names)
    expected = np.linalg.norm(end - start) / np.linalg.norm(start)
    assert result["metrics"]["weights_moved"] == pytest.approx(expected, rel=1e-9) and expected > 0
    assert result["training"] == ("trained" if expected >= 0.05 else "hardly trained")


def test_weights_of_a_checkpoint_are_the_start(tmp_path: Path) -> None:
    """A run from ``init_from`` that does not learn has not moved, however far the checkpoint is from the seed."""
    execute(tmp_path / "first", "optimizer.base_lr=10")
    still = ["optimizer.base_lr=1e-12", "optimizer.weight_decay=0", f"init_from={tmp_path}/first/{checkpoint.LAST}"]
    result = execute(tmp_path / "second", "seed=7", *still)
    assert result["metrics"]["weights_moved"] < 1e-6 and result["training"] == "hardly trained"


def test_a_packed_job_has_moved_as_far_as_alone(tmp_path: Path) -> None:
    plans = [make_plan(configured(tmp_path / f"packed{seed}", f"seed={seed}")) for seed in (0, 1)]
    for seed, outcome in enumerate(run_pack(plans, PackOptions(2, "loop", False))):
        alone = execute(tmp_path / f"alone{seed}", f"seed={seed}")["metrics"]["weights_moved"]
        assert outcome.metrics["weights_moved"] == pytest.approx(alone, rel=1e-4) and alone > 0


def test_a_method_that_is_not_trained_has_no_distance(tmp_path: Path) -> None:
    for name, overrides in (("random", ["model=random"]), ("short", ["trainer.epochs=0", "trainer.warmup_epochs=0"])):
        result = execute(tmp_path / name, *overrides)
        assert "weights_moved" not in result["metrics"] and result["training"] is None


def test_the_distance_by_hand() -> None:
    start, end = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])], [torch.tensor([3.0, 3.0]), torch.tensor([0.0])]
    assert relative_distance(start, end) == pytest.approx(1.0)  # a step of (0, 3, -4) from (3, 0, 4)
    assert relative_distance([torch.zeros(2)], [torch.ones(2)]) is None
