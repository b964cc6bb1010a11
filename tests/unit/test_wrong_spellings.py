"""A wrong flag, key, option, folder or name ends a command in one line that says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import open_dict

import jepa.plan
import jepa.run
from jepa import import_config
from jepa.config.compose import compose, config_hash
from jepa.config.conditions import condition_nodes
from jepa.config.messages import no_such_key
from jepa.config.presets import unknown_preset
from jepa.config.search_path import group_options
from jepa.errors import ConfigError
from jepa.prepare import make_plan
from jepa.results import cli
from jepa.results.plots import _plotted
from jepa.results.records import Names, ResultsError, Run
from jepa.sweep.execution import launcher_kind
from jepa.sweep.pruning import make_pruner
from jepa.sweep.search import make_sampler
from jepa.sweep.space import check_models
from jepa.sweep.spec import Switches
from jepa.sweep.study import check_storage


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command has printed."""
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1, (out, err)
    return err


@pytest.mark.parametrize(
    ("program", "words", "said"),
    [
        (cli.main, ["--colums", "x"], "'--colums': no such flag; did you mean '--columns'?"),
        (cli.main, ["--figure", "figure4"], "--figure='figure4': must be one of figure3; did you mean 'figure3'?"),
        (cli.main, ["--out"], "--out: expected one argument"),
        (cli.main, ["nowhere"], "nowhere: no such folder"),
        (jepa.plan.command_line, [], "FOLDER or key=value: is missing"),
        (jepa.plan.command_line, ["x", "--threads", "two"], "--threads='two': must be a whole number"),
        (jepa.plan.command_line, ["x", "planer=cem"], "did you mean 'planner=cem'?"),
        (jepa.plan.command_line, ["nowhere/run"], "nowhere/run: holds no run"),
        (import_config.command_line, ["--probe", "adm"], "--probe='adm': must be one of least_squares, adam"),
        (jepa.run.command_line, ["--multirn"], "'--multirn': no such flag; did you mean '--multirun'?"),
        (jepa.run.command_line, ["--model=vicreg"], "no such flag; a key has no dashes: model=vicreg"),
        (jepa.run.command_line, ["--cfg", "jobs"], "--cfg='jobs': must be one of job, hydra, all; did you mean 'job'?"),
        (jepa.run.command_line, ["--config-dir", "nowhere"], "nowhere: no such folder"),
        (jepa.run.command_line, ["+model=vicreg"], "+model=vicreg: is there already; leave out the '+'"),
        (jepa.run.command_line, ["dataset.wall=fixed"], "dataset=two_rooms, dataset=two_rooms_65 have it"),
        (jepa.run.command_line, ["model.encoder.base_width=3"], "model/encoder=resnet18 has it"),
        (jepa.run.command_line, ["plan.num_episodes=3"], "there is no plan yet; choose plan=NAME (one of cem, "),
        (jepa.run.command_line, ["model.terms.varianc.coeff=2"], "did you mean 'model.terms.variance.coeff'?"),
        (jepa.run.command_line, ["dataset/condition=clean"], "write +dataset/condition@dataset=NAME"),
        (jepa.run.command_line, ["dataset.distractors.t=tag"], "+dataset/distractor@dataset.distractors.t=OPTION"),
        (jepa.run.command_line, ["optimizer.lr=2"], "did you mean 'optimizer.base_lr'?"),
    ],
)
def test_a_command_ends_in_one_line(program, words, said, in_tmp: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert program(words) == 2
    assert said in line(capsys)
    assert not list(in_tmp.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+dataset/condition=clean"], r"under it \+dataset/condition@dataset\.eval\.NAME=NAME \(one of ar1"),
        (["+dataset.evall.clean.noise=0"], r"dataset\.evall: no such key; did you mean 'dataset\.eval'"),
    ],
)
def test_a_condition_stands_in_its_place(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_plan(compose(words))


def test_an_axis_that_the_command_line_misspells_is_not_suggested() -> None:
    found = str(no_such_key("sed", ["seed", "sweep.axes.sed", "sweep.n_trials"]))
    assert "did you mean 'seed'" in found
    assert "'sweep.n_trials'" in str(no_such_key("n_trials", ["seed", "sweep.n_trials"]))


def test_a_launcher_is_checked_before_a_dry_run() -> None:
    packed = ["+sweep=quick", "hydra/launcher=packed"]
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.executor='vmapp': must be one of .* did you mean 'vmap'"):
        launcher_kind(compose([*packed, "hydra.launcher.executor=vmapp"], with_hydra=True))
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.pack_size=0: must be at least 1"):
        launcher_kind(compose([*packed, "hydra.launcher.pack_size=0"], with_hydra=True))


def test_a_deleted_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.noise: is missing"):
        make_plan(compose(["~dataset.noise"]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fixed/1.25/vicreg", "a kind of changing_structured, changing_uniform, fixed_structured, fixed_uniform"),
        ("fixed_uniform/1.3/vicreg", "a coefficient of 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3; did you mean"),
        ("fixed_uniform/1.25/vicregg", "a method of idm, rssm, simclr, supervised, vicreg; did you mean"),
        ("fixed_uniform/1.25/vicreg/x", "must be KIND/COEFFICIENT/METHOD; did you mean 'fixed_uniform/1.25/vicreg'?"),
    ],
)
def test_a_setting_that_was_not_published(name: str, said: str) -> None:
    assert said in str(unknown_preset(name))


def test_a_condition_names_the_keys_that_may_differ() -> None:
    base = {"_target_": "x", "num_steps": 17, "noise": 0.0, "static_noise": 0.0}
    with pytest.raises(ConfigError, match=r"'dataset\.eval\.a\.noise'\? \(keys of .*: noise, static_noise\)"):
        condition_nodes({**base, "eval": {"a": {"noize": 1}}})


def test_a_space_is_of_models() -> None:
    check_models({"any": {}, "other": {}, "idm": {}}, ["idm", "vicreg"])
    with pytest.raises(ConfigError, match=r"^sweep\.space\.vicrge: no such model; did you mean 'sweep\.space\.vicreg'"):
        check_models({"idm": {}, "vicrge": {}}, ["idm", "vicreg"])


def test_options_of_optuna_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^sweep\.pruner_options\.n_startup: .* did you mean 'n_startup_trials'"):
        make_pruner("median", {"n_startup": 3})
    with pytest.raises(ConfigError, match=r"sampler_options\.n_ei_candidate: .* did you mean 'n_ei_candidates'"):
        make_sampler("tpe", {"n_ei_candidate": 3}, 0)
    with pytest.raises(ConfigError, match=r"^sweep\.pruner_options=.*: median does not take them"):
        make_pruner("median", {"n_startup_trials": -1})


@pytest.mark.parametrize("name", ["sqlit:///x.db", "x.db"])
def test_a_storage_is_checked_before_anything_is_written(name: str) -> None:
    check_storage("sqlite:///x.db")
    check_storage("journal:x")
    with pytest.raises(ConfigError, match=rf"^sweep\.storage='{name}': must be the url of a database"):
        check_storage(name)


def test_results_are_reused_from_a_folder_that_has_some(tmp_path: Path) -> None:
    switches = {"dry_run": False, "yes": False, "retry_failed": True, "rerun": False, "progress": "auto"}
    for name in ("quick", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "quick" / "sweep.json").write_text("{}")
    (tmp_path / "notes" / "x.txt").touch()
    assert Switches(reuse=[str(tmp_path / "quick")], **switches)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="holds no sweep and no archive$"):
        Switches(reuse=[str(tmp_path / "notes")], **switches)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"holds no sweep and no archive; name one of {tmp_path}/quick, or several"):
        Switches(reuse=[str(tmp_path)], **switches)  # type: ignore[arg-type]


def test_a_folder_of_runs_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "idm").mkdir(parents=True)
    (tmp_path / "runs" / "idm" / "config.yaml").touch()
    jepa.plan._check_run(str(tmp_path / "runs" / "idm"))
    with pytest.raises(ConfigError, match=rf"it holds the runs {tmp_path}/runs/idm$"):
        jepa.plan._check_run(str(tmp_path / "runs"))
    with pytest.raises(ConfigError, match=rf"did you mean '{tmp_path}/runs/idm'"):
        jepa.plan._check_run(str(tmp_path / "runs" / "idn"))


def test_an_axis_to_draw_has_a_nearest_spelling() -> None:
    names = Names([Run("a", "finished", config={"dataset.static_noise": 1.0})])
    assert _plotted(names, "static_noise") == "dataset.static_noise"
    with pytest.raises(ResultsError, match=r"'statc_noise'; did you mean 'dataset\.static_noise'\?"):
        _plotted(names, "statc_noise")
    with pytest.raises(ResultsError, match=r"no such key or figure \(trials, .*; did you mean 'trials'\?"):
        _plotted(names, "trails")


@pytest.mark.parametrize("name", [name for name in group_options("model") if name != "rssm"])
def test_every_joint_embedding_says_what_its_encoder_is_shown(name: str) -> None:
    cfg = compose([f"model={name}"])
    assert cfg.model.input == "frames"
    before = config_hash(cfg)
    with open_dict(cfg):
        del cfg.model.input
    assert config_hash(cfg) == before, "runs of presets that lacked the key keep their hash"
