"""Every option of conf/logger: it runs, is resumed, and serves packed jobs. A new yaml file is tested by itself."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jepa.config.compose import compose, register
from jepa.loggers.files import FilesLogger
from jepa.packing.pack import PackOptions, run_pack
from jepa.prepare import make_plan
from jepa.run import run

FOLDER = Path(__file__).parents[2] / "conf" / "logger"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
OWN = {"checkpoints", "plots", "config.yaml", "overrides.yaml", "metrics.jsonl", "probe.pt", "result.json", "run.log"}
ADDED = {
    "files": set(),
    "csv": {"probe.csv", "train.csv"},
    "tensorboard": {"tensorboard"},
    "wandb": {"wandb"},
    "both": {"wandb"},
}
TINY = [
    "dataset.size=16",
    "dataset.batch_size=8",
    "dataset.num_steps=4",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=8",
    "trainer.epochs=2",
    "trainer.warmup_epochs=0",
    "trainer.log_every_steps=1",
    "checkpoint.every_epochs=1",
    "probe.fit_sequences=24",
    "probe.judge_sequences=16",
    "progress=none",
]


def composed(name: str, folder: Path, *words: str) -> Any:
    if name == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        pytest.skip("needs the extra tensorboard")
    register()
    return compose([*TINY, f"logger={name}", f"folder={folder}", *words], with_hydra=True)


def left(folder: Path) -> set[str]:
    """What lies in the folder beside what every run writes; a warning of a logger that failed is an error here."""
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert "goes on without it" not in (folder / "run.log").read_text()
    return {path.name for path in folder.iterdir() if path.name[0] != "."} - OWN


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_stopped_and_resumed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = FilesLogger.record

    def stop(logger: FilesLogger, record: Mapping[str, Any]) -> None:
        keep(logger, record)
        if record["step"] == 3:  # beyond the checkpoint, which holds step 2
            raise KeyboardInterrupt

    monkeypatch.setattr(FilesLogger, "record", stop)
    with pytest.raises(KeyboardInterrupt):
        run(composed(name, tmp_path / "run"))
    monkeypatch.undo()
    run(composed(name, tmp_path / "run"))
    assert left(tmp_path / "run") == ADDED.get(name, left(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["resumed"]


@pytest.mark.parametrize("name", NAMES)
def test_jobs_of_a_pack_have_loggers_of_their_own(name: str, tmp_path: Path) -> None:
    plans = [make_plan(composed(name, tmp_path / str(seed), f"seed={seed}", "plots=false")) for seed in (0, 1)]
    run_pack(plans, PackOptions(None, "loop", False))
    for seed in (0, 1):
        assert left(tmp_path / str(seed)) == ADDED.get(name, left(tmp_path / str(seed)))


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_explained(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    keys = [line for line in lines if line.startswith("  ") and ":" in line and "_target_" not in line]
    assert all("  # " in line for line in keys)
