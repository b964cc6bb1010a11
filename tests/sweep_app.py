"""A program with this project's configuration and a task that pretends to train: what the sweep engine's tests run.

``python tests/sweep_app.py ARGUMENTS`` is ``python -m jepa.run ARGUMENTS`` with another task function. The pretended
run has epochs, checkpoints, metrics and a result as a real one has, so that resuming can be told from starting again.

FAKE_EPOCH_S: seconds an epoch takes. FAKE_TROUBLE: JSON, seed -> raise, nan, exit, kill (itself, every time),
kill_once, memory. FAKE_HOLD: number of epochs, of all jobs together, from which every job waits after its next
checkpoint until the sweep's folder holds a file ``go``: what happens to a held job happens in its middle, however slow
the machine. A held job leaves a file ``held_NUMBER``.
Each start of a run appends a line to ``starts.txt`` in its folder: the epoch it starts from.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import jepa.run
from jepa.config.compose import TRUSTED_TARGETS, config_hash, resolved
from jepa.files import write_json_atomic, write_text_atomic


def fake_run(cfg: DictConfig) -> float:
    """Pretend to train: a chain of digests, one link an epoch, kept in a checkpoint."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    job_hash = config_hash(cfg)
    assert folder.name == job_hash, "a job runs in the folder of its own hash"
    epoch, chain = _checkpoint(folder, job_hash)
    with open(folder / "starts.txt", "a", encoding="utf-8") as file:
        file.write(f"{epoch}\n")
    write_text_atomic(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(resolved(cfg))))
    trouble = json.loads(os.environ.get("FAKE_TROUBLE", "{}")).get(str(cfg.seed))
    status = "finished"
    on_probe = (
        None
        if cfg.on_probe is None
        else instantiate(cfg.on_probe, _convert_="all", _execution_whitelist_=TRUSTED_TARGETS)
    )
    while epoch < cfg.trainer.epochs:
        time.sleep(float(os.environ.get("FAKE_EPOCH_S", "0")))
        epoch, chain = epoch + 1, hashlib.sha256(chain.encode()).hexdigest()
        _cause(trouble, epoch, folder)
        with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(
                json.dumps({"step": epoch, "epoch": float(epoch), "kind": "train", "loss/total": 1 / epoch}) + "\n"
            )
        pruned = on_probe is not None and on_probe(epoch, {"prediction_rmse_px": _curve(cfg, epoch)})
        if pruned and epoch < cfg.trainer.epochs:
            status = "pruned"
            break
        write_text_atomic(folder / "checkpoint.json", json.dumps({"epoch": epoch, "chain": chain}))
        if epoch < cfg.trainer.epochs:
            _hold(folder, os.environ.get("FAKE_HOLD"))
    objective = math.nan if trouble == "nan" else _curve(cfg, epoch)
    write_json_atomic(folder / "result.json", _result(cfg, job_hash, status, objective, epoch, chain))
    return objective


def _curve(cfg: DictConfig, epoch: int) -> float:
    """A pretended error: smallest near base_lr = 0.1, and falling with the epochs."""
    return abs(math.log10(cfg.optimizer.base_lr) + 1) + cfg.dataset.static_noise / 10 + cfg.seed / 1000 + 1 / epoch


def _checkpoint(folder: Path, job_hash: str) -> tuple[int, str]:
    try:
        saved = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0, job_hash
    return saved["epoch"], saved["chain"]


def _hold(folder: Path, total: str | None) -> None:
    if total is None or sum(checkpoint_epochs(folder.parent)) < int(total):
        return
    (folder / f"held_{total}").touch()
    while not (folder.parent / "go").exists():
        time.sleep(0.02)


def checkpoint_epochs(folder: Path) -> list[int]:
    """How far each job of the sweep in ``folder`` has come."""
    return [json.loads(path.read_text(encoding="utf-8"))["epoch"] for path in folder.glob("*/checkpoint.json")]


def _cause(trouble: str | None, epoch: int, folder: Path) -> None:
    if trouble == "raise" and epoch == 2:
        raise RuntimeError("something is wrong\nand here is more of it")
    if trouble == "memory" and epoch == 2:
        raise MemoryError("no memory left")
    if trouble == "exit" and epoch == 2:
        sys.exit(3)
    once = trouble == "kill_once" and not (folder / "killed").exists()
    if (trouble == "kill" or once) and epoch >= 2:
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _result(cfg: DictConfig, job_hash: str, status: str, objective: float, epoch: int, chain: str) -> dict[str, Any]:
    return {
        "status": status,
        "metrics": {"prediction_rmse_px": objective, "train_seconds": 0.1 * epoch},
        "objective": objective,
        "objective_metric": "prediction_rmse_px",
        "config_hash": job_hash,
        "config": resolved(cfg),
        "choices": dict(cfg.choices),
        "overrides": list(HydraConfig.get().overrides.task),
        "epochs_trained": epoch,
        "chain": chain,
        "finished": time.time(),
        "error": None,
    }


def command_line(arguments: list[str]) -> int:
    """As ``jepa.run.command_line``, with the pretended run; jobs are composed, not built, before they start."""
    return jepa.run.command_line([*arguments, "hydra.sweeper.check=null"], fake_run)


if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:]))
