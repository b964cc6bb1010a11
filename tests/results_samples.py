"""Folders as runs and sweeps leave them, made up: what the tests of ``jepa.results`` read."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

JOINT_EMBEDDING = "jepa.methods.joint_embedding.JointEmbedding"
MODELS = {
    "vicreg": {"_target_": JOINT_EMBEDDING, "sim_coeff": 52.7, "std_coeff": 118.4, "cov_coeff": 1.0},
    "simclr": {"_target_": JOINT_EMBEDDING, "temperature": 0.5, "normalize_embeddings": True},
    "idm": {"_target_": JOINT_EMBEDDING, "action_coeff": 1.0},
    "rssm": {"_target_": "jepa.methods.rssm.RSSM", "min_var": 0.05, "free_nats": 3.0},
}
BASE: dict[str, Any] = {
    "seed": 0,
    "device": "auto",
    "precision": "fp32",
    "threads": None,
    "objective": "prediction_rmse_px",
    "init_from": None,
    "dataset": {
        "_target_": "jepa.data.moving_dots.MovingDots",
        "num_dots": 1,
        "channels": 1,
        "num_steps": 17,
        "dot_std": 1.3,
        "noise": 0.0,
        "static_noise": 0.0,
        "structured_noise": False,
        "static_noise_speed": 0.0,
        "batch_size": 32,
        "size": 10000,
        "normalize": True,
    },
    "optimizer": {
        "_target_": "jepa.optim.lars.LARS",
        "base_lr": 1.4,
        "momentum": 0.9,
        "weight_decay": 1e-6,
        "schedule": {"_target_": "jepa.optim.schedules.WarmupCosine", "warmup_epochs": 10, "final_factor": 0.001},
    },
    "trainer": {"epochs": 100, "warmup_epochs": 10, "log_every_steps": 100, "probe_every_epochs": 0, "compile": False},
    "probe": {"_target_": "jepa.probes.LeastSquares", "size": 10000},
    "checkpoint": {"every_epochs": 10},
    "logger": {"wandb": None},
}


def compose(overrides: list[str]) -> dict[str, Any]:
    """The configuration that ``overrides`` (``model=NAME``, ``seed=N``, ``a.b=value``) would compose."""
    told = dict(text.split("=", 1) for text in overrides)
    config = copy.deepcopy(BASE)
    model = told.pop("model", "vicreg")
    config["model"] = {**MODELS[model], "encoder": {"_target_": "jepa.models.encoders.MeNet5", "width_factor": 2}}
    choices = {"model": model, "dataset": "single", "optimizer": "lars", "trainer": "paper", "model/encoder": "menet5"}
    if model == "rssm":
        choices["optimizer"] = "adam"
        config["optimizer"] = {"_target_": "jepa.optim.adam.Adam", "base_lr": 1e-3, "clip_norm": 1000.0}
    for key, text in told.items():
        node = config
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = json.loads(text)
    config["choices"] = choices
    return config


def config_hash(config: dict[str, Any]) -> str:
    science = {key: value for key, value in config.items() if key not in ("device", "threads", "folder", "choices")}
    return hashlib.sha256(json.dumps(science, sort_keys=True).encode()).hexdigest()[:10]


def job_name(overrides: list[str]) -> str:
    return config_hash(compose(overrides))


def rmse_of(config: dict[str, Any]) -> float:
    """Plausible: VICReg and SimCLR break down with fixed noise, RSSM does not."""
    model, noise = config["choices"]["model"], config["dataset"]["static_noise"]
    strength = {"vicreg": 4.0, "simclr": 3.0, "idm": 2.0, "rssm": 0.5}[model]
    luck = random.Random(f"{model} {noise} {config['seed']}").gauss(0, 0.1)
    rate = abs(math.log10(config["optimizer"]["base_lr"] / 0.5)) if config["optimizer"]["base_lr"] > 0.01 else 0.0
    return max(0.8, min(9.6, 1.6 + strength * noise + luck + 1.5 * rate))


def result_of(config: dict[str, Any], overrides: list[str], **changes: Any) -> dict[str, Any]:
    """A ``result.json``; ``changes`` replace its entries, metrics among them."""
    rmse = rmse_of(config)
    metrics = {
        "prediction_rmse_px": rmse,
        "encoder_rmse_px": rmse * 0.8,
        "prediction_rmse_px_per_step": [rmse * (0.8 + 0.025 * step) for step in range(17)],
        "prediction_rmse_px_per_dot": [rmse],
        "encoder_rmse_px_per_dot": [rmse * 0.8],
        "loss/total": 12.5 + rmse,
        "train_seconds": 1234.5,
        "sequences_per_second": 810.2,
    }
    result = {
        "format": 2,
        "status": "finished",
        "metrics": metrics,
        "objective": rmse,
        "objective_metric": "prediction_rmse_px",
        "verdict": "tracks" if rmse < 3.7 else "knows only the start" if rmse < 7.48 else "ignores the dot",
        "seed": config["seed"],
        "config_hash": config_hash(config),
        "config": config,
        "choices": config["choices"],
        "overrides": overrides,
        "command": "python -m jepa.run " + " ".join(overrides),
        "versions": {"jepa": "0.1.0", "torch": "2.13.0", "python": "3.11.9"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "device": "cpu",
        "epochs_trained": 100.0,
        "epochs_total": 100,
        "started": "2026-11-01T10:00:00+00:00",
        "finished": "2026-11-01T10:20:34+00:00",
        "error": None,
    }
    result.update(changes)
    return result


def write_run(root: Path, overrides: list[str], **changes: Any) -> Path:
    """A finished (or, by ``status=``, failed or pruned) run below the sweep's folder ``root``. Returns its folder."""
    config = compose(overrides)
    folder = root / config_hash(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.log").write_text("log\n")
    (folder / "result.json").write_text(json.dumps(result_of(config, overrides, **changes), indent=2))
    return folder


def write_unfinished(root: Path, overrides: list[str], records: list[dict[str, Any]]) -> Path:
    """A run that has not left a result."""
    config = compose(overrides)
    folder = root / config_hash(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def write_grid(
    root: Path, *, models: tuple[str, ...] = ("vicreg", "simclr", "rssm"), noises: int = 4, seeds: int = 3
) -> list[Path]:
    """A finished grid of models, fixed noise 0, 0.5, ... and seeds."""
    return [
        write_run(root, [f"model={model}", f"dataset.static_noise={0.5 * step}", f"seed={seed}"])
        for model in models
        for step in range(noises)
        for seed in range(seeds)
    ]
