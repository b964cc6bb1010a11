"""``init_from=`` a checkpoint of the original code base: every golden file's weights, by the original's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jepa.config.compose import compose, register
from jepa.run import run
from jepa.store import checkpoint

GOLDEN = Path(__file__).parent
MODELS = {
    "vicreg_paper": ["model=vicreg"],
    "vicreg_projector": [
        "model=vicreg",
        "model/projector=mlp",
        "model.projector.layers=64-96",
        "model.action_coeff=0.9",
    ],
    "idm": ["model=idm"],
    "simclr_paper": ["model=simclr"],
    "rssm": ["model=rssm", "model.decoder.width_factor=1"],
}
TINY = [
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=48",
    "dataset.size=8",
    "dataset.batch_size=8",
    "dataset.num_steps=3",
    "trainer.epochs=0",
    "probe.fit_sequences=8",
    "probe.judge_sequences=8",
    "progress=none",
    "plots=false",
]


def original_checkpoint(name: str, path: Path) -> dict[str, Tensor]:
    """A file as the original writes them, from a golden archive's weights."""
    with np.load(GOLDEN / f"{name}.npz") as archive:
        weights = {
            key.removeprefix("weight/"): torch.as_tensor(archive[key])
            for key in archive.files
            if key.startswith("weight/")
        }
    torch.save({"model_state_dict": weights, "epoch": 3}, path)
    return weights


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_run_starts_from_the_originals_weights(name: str, tmp_path: Path) -> None:
    register()
    weights = original_checkpoint(name, tmp_path / "original.pt")
    folder = tmp_path / "run"
    overrides = [*TINY, *MODELS[name], f"init_from={tmp_path / 'original.pt'}", f"folder={folder}"]
    run(compose(overrides, with_hydra=True))
    model = checkpoint.load(folder / checkpoint.LAST)["model"]
    for key, value in weights.items():
        ours = key.replace("backbone.", "encoder.").replace("action_predictor.", "terms.action.action_predictor.")
        if ours in model:
            assert torch.equal(model[ours], value), key
        else:
            assert ours.startswith("terms.action."), key  # built only where the loss uses it
    assert len(model) >= len(weights) - 2


def test_an_encoder_with_layers_on_top_has_other_names_in_the_original(tmp_path: Path) -> None:
    names = ["backbone.0.fc.weight", "backbone.1.model.0.weight", "predictor.rnn.weight_ih_l0"]
    torch.save({"model_state_dict": {name: torch.ones(2) * i for i, name in enumerate(names)}}, tmp_path / "o.pt")
    expected = ["encoder.fc.weight", "encoder.mlp.model.0.weight", "predictor.rnn.weight_ih_l0"]
    model, unused = checkpoint.initial_model(tmp_path / "o.pt", {name: torch.zeros(2) for name in expected})
    assert [model[name][0].item() for name in expected] == [0, 1, 2] and unused == []


def test_a_missing_weight_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    torch.save({"model_state_dict": {"encoder.fc.weigth": torch.ones(2)}}, tmp_path / "o.pt")
    with pytest.raises(ValueError, match=r"no weight 'encoder.fc.weight'; nearest is 'encoder.fc.weigth'"):
        checkpoint.initial_model(tmp_path / "o.pt", {"encoder.fc.weight": torch.zeros(2)})
