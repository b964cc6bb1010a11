"""The group ``scale``: it shrinks models and presets; explicit values win; its name changes no hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException

from jepa.config.arguments import prepare
from jepa.config.compose import check_closed, compose, config_hash, register, resolved
from jepa.config.messages import explain
from jepa.config.search_path import config_dir, group_options, groups
from jepa.run import check, command_line

SIZES = {"smoke": (1, 32, 320, 32, 1), "small": (1, 128, 5120, 64, 4), "paper": (2, 512, 10_000, 32, 100)}
RATES = {"vicreg": 4.0, "simclr": 16.0, "idm": 16.0, "rssm": 0.002, "supervised": 0.008}
RATES |= {"simclr_within": 32.0, "simclr_within_idm": 32.0}
RATES |= {"ldad": 8.0, "smwm": 8.0, "vicreg_idm": 8.0, "pldm": 8.0}  # maps of actions diverge at higher rates
RATES |= {"vicreg_temporal": 2.0, "vicreg_centered": 8.0, "sigreg": 8.0, "ema": 4.0}
PRESETS = [
    "changing_structured/2/vicreg",  # batches of 512
    "fixed_uniform/1.25/supervised",  # an encoder of width 3, 64 features and an MLP; 200 epochs
    "changing_uniform/5/rssm",
    "changing_uniform/0/supervised",  # three dots
    "fixed_structured/1/simclr",
]


def plain(*words: str) -> dict[str, Any]:
    cfg = compose(prepare(words), with_hydra=True)
    check_closed(cfg)
    return resolved(cfg)


def hash_of(*words: str) -> str:
    return config_hash(compose(prepare(words), with_hydra=True))


def size(cfg: dict[str, Any]) -> tuple[int, ...]:
    encoder, data, trainer = cfg["model"]["encoder"], cfg["dataset"], cfg["trainer"]
    return encoder["width_factor"], encoder["embedding_size"], data["size"], data["batch_size"], trainer["epochs"]


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


@pytest.mark.parametrize("model", group_options("model"))
@pytest.mark.parametrize("scale", group_options("scale"))
def test_a_scale_shrinks_every_model(scale: str, model: str) -> None:
    cfg = plain(f"model={model}", f"scale={scale}")
    assert cfg["scale"] == scale and cfg["choices"]["scale"] == scale
    assert size(cfg) == SIZES[scale]
    if scale == "small":
        default = 16.0 if cfg["choices"]["optimizer"] == "lars" else 0.001
        assert cfg["optimizer"]["base_lr"] == RATES.get(model, default)
        assert (cfg["precision"], cfg["optimizer"]["schedule"].get("warmup_epochs", 1)) == ("bf16", 1)
        assert (cfg["probe"]["fit_sequences"], cfg["probe"]["judge_sequences"]) == (2000, 2000)


@pytest.mark.parametrize("name", PRESETS)
def test_a_scale_shrinks_a_preset_and_leaves_its_loss_and_its_noise(name: str) -> None:
    method = name.rpartition("/")[2]
    published, small = plain(f"+reproduce={name}"), plain("scale=small", f"+reproduce={name}")
    assert size(small) == SIZES["small"] and small["optimizer"]["base_lr"] == RATES[method]
    network = ("encoder", "decoder")
    assert {key: value for key, value in small["model"].items() if key not in network} == {
        key: value for key, value in published["model"].items() if key not in network
    }
    lengths = ("size", "batch_size")
    assert {key: value for key, value in small["dataset"].items() if key not in lengths} == {
        key: value for key, value in published["dataset"].items() if key not in lengths
    }
    assert small["seed"] == published["seed"]
    assert small["model"]["encoder"]["mlp"] == published["model"]["encoder"]["mlp"]


def test_a_value_on_the_command_line_wins_over_the_scale_wherever_it_stands() -> None:
    words = ["optimizer.base_lr=3", "dataset.batch_size=16", "model.encoder.embedding_size=8", "precision=fp32"]
    for given in ([*words, "scale=small"], ["+reproduce=fixed_uniform/1.25/vicreg", "scale=small", *words]):
        cfg = plain(*given)
        assert (cfg["optimizer"]["base_lr"], cfg["precision"]) == (3, "fp32")
        assert size(cfg) == (1, 8, 5120, 16, 4)


def test_the_rate_of_another_optimizer_is_its_own() -> None:
    assert plain("scale=small", "optimizer=adam")["optimizer"]["base_lr"] == 0.001
    assert plain("scale=small", "model=rssm", "optimizer=lars")["optimizer"]["base_lr"] == 16.0


def test_another_encoder_keeps_its_size() -> None:
    for encoder in ("resnet18", "pixels"):
        small, full = plain("scale=small", f"model/encoder={encoder}"), plain(f"model/encoder={encoder}")
        assert small["model"]["encoder"] == full["model"]["encoder"] and small["dataset"]["size"] == 5120


def test_the_decoder_shrinks_with_the_encoder() -> None:
    for scale, width in (("smoke", 1), ("small", 1), ("paper", 2)):
        assert plain("model=rssm", f"scale={scale}")["model"]["decoder"]["width_factor"] == width


def test_the_name_alone_changes_no_hash() -> None:
    assert hash_of("scale=paper") == hash_of()
    preset = "+reproduce=fixed_uniform/1.25/idm"
    assert hash_of("scale=paper", preset) == hash_of(preset) == hash_of(preset.removeprefix("+"))
    spelt = ["precision=bf16", "dataset.size=5120", "dataset.batch_size=64", "trainer.epochs=4"]
    spelt += ["optimizer.base_lr=16.0", "model.action_coeff=0.2"]
    spelt += ["model.encoder.width_factor=1", "model.encoder.embedding_size=128", "trainer.warmup_epochs=1"]
    spelt += ["probe.fit_sequences=2000", "probe.judge_sequences=2000"]
    assert hash_of("scale=small", "model=idm") == hash_of("model=idm", *spelt)


def test_parts_of_a_scale_are_no_choices_and_no_groups() -> None:
    assert not [name for name in (*plain("scale=small")["choices"], *groups()) if name.startswith("scale/")]
    parts = {path.parent.name for path in (config_dir() / "scale").rglob("*.yaml")}
    assert parts == {"scale", "encoder", "model", "optimizer", "rate"}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("scale", ["smoke", "small"])
def test_a_small_preset_can_be_run(scale: str, name: str, tmp_path: Path) -> None:
    source = ["dataset.structured_source=photos"] if "structured" in name else []
    check(compose([f"reproduce={name}", f"scale={scale}", f"folder={tmp_path / 'x'}", *source], with_hydra=True))


def test_an_unknown_scale_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["scale=smal", "dry_run=true"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: scale='smal': ") and "did you mean 'small'?" in error and error.count("\n") == 1


@pytest.mark.parametrize("word", ["scale=smoke", "+scale=smoke", "scale=conf/scale/smoke.yaml"])
def test_spellings_of_a_scale(word: str) -> None:
    assert prepare([word]) == ["scale=smoke"]


def test_a_model_without_an_encoder_of_a_group_is_told_what_the_scale_needs() -> None:
    words = "Error resolving interpolation 'small/encoder/${model/encoder}', possible interpolation keys: model"
    explained = explain(ConfigCompositionException(words))
    assert str(explained).startswith("scale=small: this model has no group model/encoder, ")
