"""Composition: every option composes, every key is explained, the hash follows the science, errors help."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from jepa.config.arguments import prepare
from jepa.config.check import NAMED_GROUPS, check_open, references
from jepa.config.compose import (
    OPERATIONAL_KEYS,
    OPERATIONAL_NESTED_KEYS,
    check_closed,
    compose,
    config_hash,
    register,
    resolved,
    scientific_config,
)
from jepa.config.keys import all_keys, known_keys
from jepa.config.messages import explain
from jepa.config.schema import typed
from jepa.config.search_path import PRESET_GROUP, SWEEP_GROUP, config_dir, group_options, groups, sweeps_dir
from jepa.errors import ConfigError
from jepa.prepare import BASES
from jepa.run import check

OPTIONS = [(group, option) for group in groups() if group != PRESET_GROUP for option in group_options(group)]
PRESETS = config_dir() / PRESET_GROUP  # short, of keys that have their comments elsewhere; see test_presets.py
YAML_FILES = sorted(
    path for path in [*config_dir().rglob("*.yaml"), *sweeps_dir().rglob("*.yaml")] if PRESETS not in path.parents
)
# A data set that must be told where its images come from, and a launcher that must be installed, compose with these.
NEEDS = {"structured": ["dataset.structured_source=photos"]}


def composed(*overrides: str) -> DictConfig:
    return compose(list(overrides), with_hydra=True)


def choice(group: str, option: str) -> str:
    named = {group: f"+{group}@{collection}.{option}={option}" for collection, group in NAMED_GROUPS.items()}
    named["dataset/condition"] = f"+dataset/condition@dataset={option}"
    return f"+{group}={option}" if group == SWEEP_GROUP else named.get(group, f"{group}={option}")


def needed(option: str) -> list[str]:
    return [override for part, overrides in NEEDS.items() if part in option for override in overrides]


def launcher_is_missing(group: str, option: str) -> bool:
    """Whether a launcher's preset belongs to an extra that is not installed here."""
    if group != "hydra/launcher":
        return False
    register()
    text = (config_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")
    parents = re.findall(r"hydra/launcher(?:@\S+)?: (\w+)|^\s*- (\w+)(?:@\S+)?\s*(?:#|$)", text, re.M)
    names = {name for pair in parents for name in pair if name and name != "_self_"}
    known = {plugin.__name__.lower() for plugin in Plugins.instance().discover()}
    return any(not any(name.split("_")[0] in plugin for plugin in known) for name in names)


# --- every option, every key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_every_option_of_every_group_composes(group: str, option: str) -> None:
    if launcher_is_missing(group, option):
        pytest.skip(f"{group}={option} needs an extra that is not installed")
    planner = ["plan=cem"] if group.startswith("plan/") else []  # parts of a planner, which is chosen first
    cfg = composed(*planner, choice(group, option), *needed(option))
    check_closed(cfg)
    check_open(resolved(cfg), BASES, references(cfg, "model"))
    config_hash(cfg)


@pytest.mark.parametrize("dataset", group_options("dataset"))
@pytest.mark.parametrize("model", group_options("model"))
def test_every_model_is_built_for_every_data_set(model: str, dataset: str, in_tmp: Path) -> None:
    small = ["probe.fit_sequences=8", "probe.judge_sequences=8", *needed(dataset)]
    check(composed(f"model={model}", f"dataset={dataset}", *small))
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_every_key_has_a_comment(path: Path) -> None:
    """On its line or on the line above; a block of text has none inside."""
    lines = path.read_text(encoding="utf-8").splitlines()
    bare = []
    block: int | None = None  # indentation of a key whose value is a block of text
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and (indent > block or not line.strip()):
            continue
        block = None
        key = re.match(r"""\s*(?:- )?(["']?[\w./@$ -]+["']?):(?:\s|$)""", line)
        if not key or line.lstrip().startswith("#"):
            continue
        above = lines[number - 1].strip() if number else ""
        if re.search(r":\s*[|>][+-]?\s*(#.*)?$", line):
            block = indent
        structural = key[1] in ("defaults", "_target_")
        if "#" not in line and not above.startswith("#") and not structural:
            bare.append(f"{number + 1}: {line.strip()}")
    assert not bare, f"{path}: keys without a comment: {bare}"


def test_every_file_says_what_it_is_for() -> None:
    for path in YAML_FILES:
        assert any(line.startswith("#") and "@package" not in line for line in path.read_text().splitlines()), path


def test_the_command_line_wins_over_a_group_file() -> None:
    cfg = composed("trainer=quick", "dataset.size=64", "trainer.epochs=3")
    assert (cfg.dataset.size, cfg.trainer.epochs) == (64, 3)


def test_a_model_chooses_its_optimizer_and_the_command_line_another() -> None:
    assert composed("model=supervised").choices["optimizer"] == "adam"
    assert composed("model=supervised", "optimizer=lars").choices["optimizer"] == "lars"


# --- the hash ------------------------------------------------------------------------------------------------------

SAME_SCIENCE = [
    "device=cpu",
    "threads=3",
    "folder=elsewhere",
    "resume=true",
    "rerun=true",
    "logger=wandb",
    "progress=none",
    "checkpoint.every_epochs=1",
    "objective=encoder_rmse_px",
    "dry_run=true",
    "reuse=there",
    "trainer.log_every_steps=7",
    "trainer.probe_every_epochs=2",
    "trainer.compile=true",
    "trainer.cuda_graph=true",
    "trainer.kernels=false",
    "dataset.cifar10_folder=images",
    "dataset.noise=0",
    "dataset.batch_size=32",
    "hydra.verbose=true",
]
OTHER_SCIENCE = [
    "seed=1",
    "precision=bf16",
    "dataset.noise=0.5",
    "dataset=multiple",
    "model.cov_coeff=2",
    "model=simclr",
    "model/encoder=resnet18",
    "optimizer.base_lr=0.1",
    "optimizer.schedule.warmup_epochs=3",
    "trainer.epochs=7",
    "trainer.warmup_epochs=3",
    "probe=adam",
    "init_from=weights.pt",
]


@functools.cache
def base_hash() -> str:
    return config_hash(composed())


@pytest.mark.parametrize("override", SAME_SCIENCE)
def test_the_hash_ignores_how_a_run_is_carried_out(override: str) -> None:
    assert config_hash(composed(override)) == base_hash()


@pytest.mark.parametrize("override", OTHER_SCIENCE)
def test_the_hash_sees_what_changes_the_science(override: str) -> None:
    assert config_hash(composed(override)) != base_hash()


def test_other_sciences_have_other_hashes() -> None:
    hashes = {override: config_hash(composed(override)) for override in OTHER_SCIENCE}
    assert hashes.pop("trainer.warmup_epochs=3") == hashes["optimizer.schedule.warmup_epochs=3"]
    assert len(set(hashes.values())) == len(hashes)


def test_the_hash_survives_the_file_it_is_written_to(tmp_path: Path) -> None:
    cfg = composed("dataset.noise=1e-7", "model.cov_coeff=0.1", "trainer=quick")
    OmegaConf.save(OmegaConf.create(resolved(cfg)), tmp_path / "config.yaml")
    assert config_hash(OmegaConf.load(tmp_path / "config.yaml")) == config_hash(cfg)  # type: ignore[arg-type]


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    plain = resolved(composed())
    turned = OmegaConf.create(dict(reversed(list(plain.items()))))
    assert config_hash(turned) == base_hash()


def test_whole_numbers_have_one_spelling() -> None:
    assert scientific_config(composed("dataset.noise=2.0")) == scientific_config(composed("dataset.noise=2"))


def test_every_operational_key_exists() -> None:
    keys = set(all_keys(composed("logger=wandb", "dataset/texture=cifar10")))
    assert keys >= OPERATIONAL_KEYS
    assert keys >= OPERATIONAL_NESTED_KEYS


def test_the_folder_is_named_after_model_and_hash() -> None:
    cfg = composed("model=idm")
    assert cfg.folder == f"outputs/runs/idm-{config_hash(cfg)}"


# --- errors --------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[Sequence[str], Sequence[str]]] = [
    # (command line, what the error must contain)
    (["model=vicregg"], ["model='vicregg'", "simclr", "did you mean 'vicreg'?"]),
    (["model.encoder=resnet18"], ["model/encoder=resnet18"]),
    (["model/encoder=resnet"], ["model/encoder='resnet'", "did you mean 'resnet18'?"]),
    (["modle/encoder=resnet18"], ["modle/encoder", "did you mean 'model/encoder'?"]),
    (["model=3"], ["model='3'", "vicreg"]),
    (["dataset=null"], ["dataset='null'", "single"]),
    (["modl=vicreg"], ["modl", "did you mean 'model'?"]),
    (["noise=1"], ["noise", "did you mean 'dataset.noise'?"]),
    (["dataset.static_nois=1"], ["dataset.static_nois", "did you mean 'dataset.static_noise'?"]),
    (["+dataset.static_nois=1"], ["dataset.static_nois", "did you mean 'dataset.static_noise'?"]),
    (["+model.encoder.widht_factor=3"], ["did you mean 'model.encoder.width_factor'?"]),
    (["+foo=1"], ["foo", "no such key"]),
    (["++trainer.epoch=1"], ["did you mean 'trainer.epochs'?"]),
    (["~trainer.epochs"], ["trainer.epochs", "not found"]),
    (["+seed=3"], ["seed", "'+'"]),
    (["+model=simclr"], ["model", "'+'"]),
    (["seed=one"], ["seed='one'", "whole number"]),
    (["seed='1'"], ["seed='1'", "whole number"]),
    (["seed=1.5"], ["seed=1.5", "whole number"]),
    (["seed=null"], ["seed=null", "whole number"]),
    (["seed=true"], ["seed=True", "whole number"]),
    (["seed=-1"], ["seed=-1", "at least 0"]),
    (["dataset.noise=much"], ["dataset.noise='much'", "number"]),
    (["dataset.noise='1'"], ["dataset.noise='1'", "number"]),
    (["dataset.noise=-1"], ["dataset.noise=-1", "at least 0"]),
    (["dataset.noise=null"], ["dataset.noise", "number"]),
    (["dataset.channels=2"], ["dataset.channels=2"]),
    (["model.encoder.width_factor=wide"], ["model.encoder.width_factor='wide'", "whole number"]),
    (["trainer.epochs=0.5"], ["trainer.epochs=0.5", "whole number"]),
    (["trainer.compile=perhaps"], ["trainer.compile='perhaps'", "auto, true, false"]),
    (["checkpoint.every_epochs=-1"], ["checkpoint.every_epochs=-1", "at least 0"]),
    (["device=cdua"], ["device='cdua'", "did you mean 'cuda'?"]),
    (["precision=bf61"], ["precision='bf61'", "did you mean 'bf16'?"]),
    (["objective=prediction_rmse"], ["did you mean 'prediction_rmse_px'?"]),
    (["probe/targets=start", "objective=encoder_start_r2"], ["objective=encoder_start_r2: an objective is minimised"]),
    (["benchmark=fixed_125", "dataset.static_noise=1"], ["dataset.static_noise=1", "condition fixed_125 has 1.25"]),
    (["benchmark=every_4", "dataset.distractors.redrawn.every=2"], ["distractors.redrawn.every=2", "every_4 has 4"]),
    (["benchmark=clean", "+dataset/distractor@dataset.distractors.drift=drift"], ["condition clean has no such"]),
    (["progress=line"], ["did you mean 'lines'?"]),
    (["resume=maybe"], ["resume='maybe'", "auto, true, false"]),
    (["folder=''"], ["folder=''"]),
    (["threads=0"], ["threads=0", "at least 1"]),
    (["init_from=gone.pt"], ["init_from=gone.pt", "no such file"]),
    (["logger.wandb.mode=offline"], ["logger.wandb.mode: no such key; logger=wandb brings it"]),
    (["logger=[csv,wandbb]"], ["logger='wandbb'", "did you mean 'wandb'?"]),
    (["logger=[csv,wandb]", "logger.wandb.mdoe=offline"], ["logger.wandb.mdoe", "did you mean 'logger.wandb.mode'?"]),
    (["logger=wandb", "logger.wandb.mode=onlin"], ["logger.wandb.mode='onlin'", "did you mean 'online'?"]),
    (["model.encoder._target_=jepa.models.encoders.MeNet6"], ["model.encoder._target_", "MeNet6"]),
    (["model.encoder._target_=os.system"], ["model.encoder._target_", "os.system"]),
    (["seed=1,2"], ["seed=1,2", "--multirun"]),
    (["seed=range(1,3)"], ["seed=range(1,3)", "--multirun"]),
    (["seed"], ["'seed'", "key=value"]),
    (["seed=[1"], ["seed=[1"]),
    (["+sweep=nothing_of_that_name"], ["sweep='nothing_of_that_name'"]),
    (["hydra.run.dri=x"], ["did you mean 'hydra.run.dir'?"]),
    (["folder=${nope}"], ["nope"]),
]


@pytest.mark.parametrize(("overrides", "fragments"), REFUSED, ids=[" ".join(case[0]) for case in REFUSED])
def test_what_cannot_run_is_refused_in_one_line(overrides: list[str], fragments: Sequence[str], in_tmp: Path) -> None:
    try:
        check(composed(*overrides))
    except Exception as error:
        explained = explain(error, known_keys(overrides), overrides)
    else:
        pytest.fail("was accepted")
    text = str(explained)
    assert isinstance(explained, ConfigError), text
    assert "\n" not in text
    for fragment in fragments:
        assert fragment in text
    assert list(in_tmp.iterdir()) == []


def test_an_error_that_is_no_users_is_not_explained() -> None:
    assert explain(RuntimeError("shapes do not match")) is None


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [(1, float, 1.0), (1, int, 1), (None, int | None, None), (True, bool, True), ("x", bool | str, "x")],
)
def test_values_of_the_right_type_are_taken(value: Any, hint: Any, expected: Any) -> None:
    taken = typed("key", value, hint)
    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"), [(True, int), (True, float), ("1", int), (1, str), (None, str), (1.0, int), ([1], list[str])]
)
def test_values_of_another_type_are_refused(value: Any, hint: Any) -> None:
    with pytest.raises(ConfigError, match="key"):
        typed("key", value, hint)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["seed=1"], ["seed=1"]),
        (["+sweep=x"], ["--multirun", "+sweep=x"]),
        (["sweep=x", "seed=1"], ["--multirun", "+sweep=x", "seed=1"]),
        (["+sweep=x.yaml"], ["--multirun", "+sweep=x"]),
        (["+sweep=sweeps/x.yaml"], ["--multirun", "+sweep=x"]),
        (["--cfg", "job", "+sweep=x"], ["--cfg", "job", "+sweep=x"]),
        (["--multirun", "+sweep=x"], ["--multirun", "+sweep=x"]),
    ],
)
def test_a_sweep_file_is_run_as_many_jobs(given: list[str], expected: list[str]) -> None:
    assert prepare(given) == expected
