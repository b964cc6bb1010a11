"""The 144 published settings: every value of every preset against the table; names that are none."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf
from original_samples import name_of, rows, value_of

from jepa.config.compose import compose, register, resolved
from jepa.config.search_path import config_dir, group_options
from jepa.run import command_line
from jepa.store.run_folder import flat


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


def expected(row: dict[str, str]) -> dict[str, Any]:
    """Our keys with the values of a row; the columns that do not concern its method are empty."""
    cell = {name: value_of(text) for name, text in row.items()}
    method, three = row["method"], row["dataset_type"] == "Multiple"
    changing = row["noise_motion"] == "changing"
    keys = {
        "dataset.noise": cell["noise_coefficient"] if changing else 0.0,
        "dataset.static_noise": 0.0 if changing else cell["noise_coefficient"],
        "dataset.structured_noise": row["noise_texture"] == "structured",
        "dataset.batch_size": cell["batch_size"],
        "dataset.normalize": cell["normalize"],
        "dataset.num_dots": 3 if three else 1,
        "dataset.channels": cell["channels"],
        "dataset.num_steps": 17,
        "dataset.dot_std": 1.3,
        "dataset.size": 10_000,
        "seed": cell["seed"],
        "model.encoder.width_factor": cell["encoder_width_factor"],
        "model.encoder.embedding_size": cell["embedding_size"],
        "model.encoder.mlp": row["encoder_mlp"],
        "choices.model": method,
        "choices.model/encoder": row["encoder"],
    }
    if method != "rssm":
        keys |= {"choices.model/predictor": row["predictor"], "model.predictor.num_layers": cell["rnn_layers"]}
    if method == "supervised":
        rate, epochs, optimizer = cell["probe_lr"], cell["probe_epochs_predictor"], "adam"
    else:
        optimizer = "adam" if method == "rssm" else "lars"
        rate, epochs = cell["adam_lr" if method == "rssm" else "base_lr"], cell["epochs"]
    keys |= {"optimizer.base_lr": rate, "trainer.epochs": epochs, "choices.optimizer": optimizer}
    own = {
        "vicreg": ["sim_coeff", "std_coeff", "cov_coeff", "action_coeff", "skip_first_step_variance_covariance"],
        "simclr": ["temperature", "normalize_embeddings"],
        "idm": ["action_coeff"],
        "rssm": ["min_var"],
        "supervised": [],
    }
    return keys | {f"model.{key}": cell[key] for key in own[method]}


@pytest.mark.parametrize("row", rows(), ids=name_of)
def test_a_preset_has_the_values_of_its_row(row: dict[str, str]) -> None:
    config = resolved(compose([f"reproduce={name_of(row)}"], with_hydra=True))
    for key, value in expected(row).items():
        found: Any = config
        for part in key.split("."):
            found = found[part]
        assert found == value, key


def test_every_preset_is_a_row_of_the_table() -> None:
    names = [name_of(row) for row in rows()]
    assert sorted(names) == group_options("reproduce") and len(set(names)) == 144


def test_presets_store_differences_alone() -> None:
    """What a preset sets, but for its coefficient, has another value without it."""
    for name in group_options("reproduce")[::3]:
        method = name.rpartition("/")[2]
        kind = name.partition("/")[0]
        dataset = "multiple" if name == "changing_uniform/0/supervised" else f"single_{kind}"
        plain = flat(resolved(compose([f"model={method}", f"dataset={dataset}"], with_hydra=True)))
        stored = OmegaConf.to_container(OmegaConf.load(config_dir() / "reproduce" / f"{name}.yaml"))
        assert isinstance(stored, dict)
        assert len(stored.pop("defaults")) == 3
        same = {key for key, value in flat(stored).items() if plain[key] == value}
        assert same <= {"dataset.noise", "dataset.static_noise"}, name  # what the preset is about is always said


def test_the_presets_are_listed_as_a_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["+reproduce=help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "coefficient", "idm", "rssm", "simclr", "supervised", "vicreg"]
    assert "changing_uniform               5  -    rssm  -       -           -" in lines
    assert lines[-1].startswith("144 published settings")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fixed_uniform/1.2/vicreg", "did you mean 'fixed_uniform/1.25/vicreg'?"),
        ("fixed_unform/1.25/vicreg", "did you mean 'fixed_uniform/1.25/vicreg'?"),
        ("fixed_uniform/1.25/vicrge", "did you mean 'fixed_uniform/1.25/vicreg'?"),
        ("3", "must be KIND/COEFFICIENT/METHOD"),
        ("vicreg", "+reproduce=help lists all"),
    ],
)
def test_an_unknown_preset_is_named(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line([f"reproduce={name}", "dry_run=true"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: reproduce={name}: ") and said in error and error.count("\n") == 1
