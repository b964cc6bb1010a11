"""Files in the format of the original code, made from rows of the table of published settings."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "golden" / "published_settings.csv"
MODEL_TYPES = {"vicreg": "VICReg", "idm": "VICReg", "simclr": "SimCLR", "supervised": "SimCLR", "rssm": "RSSM"}
# Columns of the table -> keys of the original, by section.
TOP = {name: name for name in ("dataset_type", "batch_size", "normalize", "seed", "epochs", "base_lr")}
NETWORKS = {
    "encoder": "backbone_arch",
    "encoder_width_factor": "backbone_width_factor",
    "embedding_size": "embedding_dim",
    "encoder_mlp": "backbone_mlp",
    **{name: name for name in ("predictor", "rnn_layers", "channels")},
}
LOSSES = (
    *("sim_coeff", "std_coeff", "cov_coeff", "action_coeff", "temperature", "normalize_embeddings", "min_var"),
    *("adam_lr", "skip_first_step_variance_covariance"),
)
PROBING = {
    "probe_lr": "probe_lr",
    "full_finetune": "full_finetune",
    "probe_epochs_predictor": "epochs_predictor",
    "probe_epochs_encoder": "epochs_enc",
}


def rows() -> list[dict[str, str]]:
    """The table, one dictionary a row."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def name_of(row: dict[str, str]) -> str:
    """The preset of a row."""
    coefficient = f"{float(row['noise_coefficient']):g}"
    return f"{row['noise_motion']}_{row['noise_texture']}/{coefficient}/{row['method']}"


def value_of(text: str) -> Any:
    """A cell as yaml would hold it; "" is None."""
    if text in ("True", "False", ""):
        return {"True": True, "False": False, "": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def original_of(row: dict[str, str]) -> dict[str, Any]:
    """The file of the original that asks for what a row of the table says."""

    def cells(columns: dict[str, str]) -> dict[str, Any]:
        return {key: value_of(row[column]) for column, key in columns.items() if row[column] != ""}

    method, coefficient = row["method"], float(row["noise_coefficient"])
    section = cells({**NETWORKS, **{name: name for name in LOSSES}})
    if "backbone_mlp" in section:
        section["backbone_mlp"] = str(section["backbone_mlp"])
    if method == "simclr":
        del section["action_coeff"]  # of VICReg alone
    return {
        "model_type": MODEL_TYPES[method],
        "dataset_noise" if row["noise_motion"] == "changing" else "dataset_static_noise": coefficient,
        "dataset_structured_noise": row["noise_texture"] == "structured",
        "dataset_size": 10_000,
        "n_steps": 17,
        "eval_only": method == "supervised",
        **cells(TOP),
        MODEL_TYPES[method].lower(): section,
        "probing_cfg": cells(PROBING),
    }
