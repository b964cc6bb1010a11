"""Files of the original as commands of ours: all published settings, merging, what is left out, bad files."""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from original_samples import name_of, original_of, rows

from jepa import import_config
from jepa.config.arguments import prepare
from jepa.config.compose import compose, config_hash, register
from jepa.config.importing import Translation, translate
from jepa.config.original import ALIASES, KEYS, SECTIONS
from jepa.config.original_files import read
from jepa.config.search_path import config_dir
from jepa.run import command_line
from jepa.store import checkpoint
from jepa.store.config import flat

GOLDEN = Path(__file__).parents[1] / "golden"
CIFAR10 = {"dataset.structured_source": "cifar10"}  # the only images that the original has
VICREG = {"model_type": "vicreg", "vicreg": {"sim_coeff": 25.0, "std_coeff": 10, "cov_coeff": 1.0}, "base_lr": 0.5}
SIMCLR = {"model_type": "SimCLR", "simclr": {"temperature": 0.5, "normalize_embeddings": True}, "base_lr": 0.5}


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


def written(folder: Path, content: dict[str, Any], name: str = "old.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def imported(content: dict[str, Any], **options: Any) -> Translation:
    """The translation of a file that holds ``content``, without the file."""
    names = {ALIASES.get(name, name): value for name, value in flat(content).items()}
    return translate({name: KEYS[name].check(name, value) for name, value in names.items()}, **options)


@functools.lru_cache(maxsize=64)
def base(*choices: str) -> DictConfig:
    return compose(list(choices))


def hash_of(choices: dict[str, str], values: dict[str, Any]) -> str:
    config = base(*(f"{group}={option}" for group, option in choices.items())).copy()
    for key, value in values.items():
        assert OmegaConf.select(config, key, default=OmegaConf) is not OmegaConf, f"{key} is no key"
        OmegaConf.update(config, key, value)
    return config_hash(config)


def hash_of_preset(name: str) -> str:
    """The hash of a file of conf/reproduce, without Hydra's reading it anew for each."""
    stored = OmegaConf.to_container(OmegaConf.load(config_dir() / "reproduce" / f"{name}.yaml"))
    assert isinstance(stored, dict)
    *chosen, own = stored.pop("defaults")
    assert own == "_self_"
    choices = {key.removeprefix("override /"): option for entry in chosen for key, option in entry.items()}
    return hash_of(dict(reversed(choices.items())), flat(stored) | (CIFAR10 if "structured" in name else {}))


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], str]:
    """What an import prints: the words of its command, and the rest."""
    assert import_config.command_line(words) == 0
    first, _, rest = capsys.readouterr().out.partition("\n")
    program, arguments = first[: len("python -m jepa.run ")], first[len("python -m jepa.run ") :]
    assert program == "python -m jepa.run "
    return shlex.split(arguments), rest


@pytest.mark.parametrize("row", rows(), ids=name_of)
def test_every_published_setting_is_imported_as_its_preset(row: dict[str, str]) -> None:
    found = imported(original_of(row))
    assert hash_of(found.choices, found.values) == hash_of_preset(name_of(row))
    assert found.choices["model"] == row["method"] and not found.notes


@pytest.mark.parametrize("row", rows()[::13], ids=name_of)
def test_the_printed_command_composes_what_the_preset_does(
    row: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, _ = command(capsys, str(written(tmp_path, original_of(row))))
    preset = [f"reproduce={name_of(row)}"]
    if row["noise_texture"] == "structured":
        preset.append("dataset.structured_source=cifar10")
    assert config_hash(compose(prepare(words), with_hydra=True)) == config_hash(compose(preset, with_hydra=True))


def test_only_what_differs_from_the_defaults_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = {**VICREG, "batch_size": 32, "n_steps": 17, "normalize": True, "epochs": 100, "seed": 0, "device": "cuda"}
    words, rest = command(capsys, str(written(tmp_path, same)))
    assert words == [
        *("model=vicreg", "dataset=single", "model.sim_coeff=25.0", "model.std_coeff=10"),
        "optimizer.base_lr=0.5",
    ]
    assert rest == ""


def test_later_files_and_then_pairs_win_and_sections_are_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = written(tmp_path, {**VICREG, "batch_size": 64, "seed": 3})
    second = written(tmp_path, {"vicreg": {"std_coeff": 7.5, "repr_dim": 64}, "seed": None}, "second.yaml")
    pairs = ("--values", "vicreg.std_coeff=8", "batch_size=128", "vicreg.backbone_mlp='64'")
    words, _ = command(capsys, str(first), str(second), *pairs)
    assert words == [
        *("model=vicreg", "dataset=single", "dataset.batch_size=128", "model.sim_coeff=25.0", "model.std_coeff=8"),
        *("model.encoder.embedding_size=64", "model.encoder.mlp='64'", "optimizer.base_lr=0.5"),
    ]


def test_a_value_may_refer_to_another(tmp_path: Path) -> None:
    path = written(tmp_path, {**VICREG, "run_name": "a=1", "output_path": "/data/${run_name}"})
    assert read([path], ["run_name=b"])["output_path"] == "/data/b"


OF_SIMCLR = {"temperature": 0.5, "normalize_embeddings": True}
MLPS = {**OF_SIMCLR, "projector": "64-96", "predictor": "515-64"}
BURN_IN = {**OF_SIMCLR, "arch": "ResNet18", "predictor": "rnn_burnin", "burn_in": 4, "projector": ""}
RSSM = {"model_type": "RSSM", "adam_lr": 1e-3, "rssm": {"min_var": 0.02, "backbone_width_factor": 1}}
OF_VICREG = VICREG["vicreg"]
EVERY = {"eval_every_n_epochs": 5, "save_every_n_epochs": 2}
WANDB = {"wandb": True, "run_group": "g", "run_name": "n", "output_root": "/data/"}
CASES: list[tuple[dict[str, Any], dict[str, str], dict[str, Any]]] = [  # a file, our options, our values
    (
        {**VICREG, "dataset_type": "multiple", "vicreg": {**OF_VICREG, "channels": 1}},
        {"dataset": "multiple"},
        {"dataset.channels": 1},
    ),
    (
        {**SIMCLR, "dataset_noise": 1.0, "dataset_static_noise": 0.5, "dataset_static_noise_speed": 2.0},
        {"dataset": "single"},
        {"dataset.noise": 1.0, "dataset.static_noise": 0.5, "dataset.static_noise_speed": 2.0},
    ),
    (
        {**SIMCLR, "dataset_noise": 1.0, "dataset_structured_noise": True},
        {"dataset": "single_changing_structured"},
        {"dataset.noise": 1.0, "dataset.structured_source": "cifar10"},
    ),
    ({**SIMCLR, "load_checkpoint_path": "a/b.ckpt"}, {}, {"init_from": "a/b.ckpt"}),
    ({**SIMCLR, "eval_only": True, "epochs": 50}, {}, {"trainer.epochs": 0}),
    ({**SIMCLR, "epochs": 50}, {}, {"trainer.epochs": 50, "trainer.warmup_epochs": 10}),
    ({**SIMCLR, "epochs": 50, "warmup": 5}, {}, {"trainer.epochs": 50}),  # a tenth, as ours
    ({**SIMCLR, "epochs": 5}, {}, {"trainer.epochs": 5}),
    ({**SIMCLR, **EVERY}, {}, {"trainer.probe_every_epochs": 5, "checkpoint.every_epochs": 2}),
    (
        {**SIMCLR, "simclr": MLPS},
        {"model/projector": "mlp", "model/predictor": "mlp"},
        {"model.projector.layers": "64-96", "model.predictor.hidden": "515-64"},
    ),
    (
        {**SIMCLR, "simclr": BURN_IN},
        {"model/encoder": "resnet18", "model/predictor": "rnn_burnin"},
        {"model.predictor.burn_in": 4},
    ),
    (
        {**RSSM, "batch_size": 32},
        {"model": "rssm"},
        {
            **{"optimizer.base_lr": 1e-3, "model.min_var": 0.02},
            **{"model.encoder.width_factor": 1, "model.decoder.width_factor": 1},
        },
    ),
    (
        {**VICREG, "vicreg": {**OF_VICREG, "decoding_coeff": 1, "backbone_width_factor": 3}},
        {},
        {"model.decoding_coeff": 1, "model.encoder.width_factor": 3, "model.decoder.width_factor": 3},
    ),
    (
        {**SIMCLR, "probing_cfg": {"probe_mlp": "64", "lr": 0.01}},
        {"probe": "adam"},
        {"probe.hidden": "64", "probe.learning_rate": 0.01},
    ),
    (
        {**SIMCLR, **WANDB},
        {"logger": "wandb"},
        {"logger.wandb.group": "g", "logger.wandb.name": "n", "folder": "/data/n"},
    ),
    ({**SIMCLR, "output_path": "here", "device": "cuda:1"}, {}, {"folder": "here", "device": "cuda:1"}),
]


@pytest.mark.parametrize(("old", "choices", "values"), CASES)
def test_keys_have_their_equivalents(old: dict[str, Any], choices: dict[str, str], values: dict[str, Any]) -> None:
    found = imported(old)
    assert choices.items() <= found.choices.items()
    other = {"model.sim_coeff", "model.std_coeff", "optimizer.base_lr", "model.temperature"}
    assert {key: value for key, value in found.values.items() if key not in other - values.keys()} == values
    assert hash_of(found.choices, found.values)


def test_idm_and_supervised_are_recognised() -> None:
    zeros = {"sim_coeff": 0.0, "std_coeff": 0, "cov_coeff": 0.0}
    assert imported({"model_type": "VICReg", "vicreg": {**zeros, "action_coeff": 1.5}}).choices["model"] == "idm"
    also = {**zeros, "action_coeff": 1.5, "enc_std_coeff": 1.0}
    assert imported({"model_type": "VICReg", "vicreg": also}).choices["model"] == "vicreg"
    unknown = {"std_coeff": 0, "cov_coeff": 0.0, "action_coeff": 1.5}  # sim_coeff is the original's default, not 0
    assert imported({"model_type": "VICReg", "vicreg": unknown}).choices["model"] == "vicreg"
    probing = {"full_finetune": True, "probe_lr": 0.01, "probe_epochs": 200, "epochs_enc": 10}
    found = imported({**SIMCLR, "eval_only": True, "epochs": 7, "probing_cfg": probing})
    assert found.choices["model"] == "supervised"
    assert found.values == {"optimizer.base_lr": 0.01, "trainer.epochs": 200}
    left = sorted(text for texts in found.left_out.values() for text in texts)
    assert left == [
        *("base_lr=0.5", "epochs=7", "probing_cfg.epochs_enc=10", "simclr.normalize_embeddings=true"),
        "simclr.temperature=0.5",
    ]


def test_what_has_no_part_in_the_command_is_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = {"dataset_size": 500, "safe_every_n_epochs": 2, "quick_debug": True, "adam_lr": 0.1}
    path = written(tmp_path, {**VICREG, **dead, "rssm": {"min_var": 0.1}, "probing_cfg": {"probe_lr": 0.001}})
    words, rest = command(capsys, str(path))
    assert not [word for word in words if word.startswith(("dataset.size", "checkpoint", "probe", "trainer"))]
    lines = rest.splitlines()
    assert lines[:2] == ["", "not part of the command:"]
    for start, reason in {
        "dataset_size=500": "the original never reads it",
        "safe_every_n_epochs=2": "its name is a typing error",
        "quick_debug=true": "trainer=quick is a short run",
        "adam_lr=0.1": "model=vicreg reads base_lr",
        "rssm.min_var=0.1": "model_type=VICReg does not read the section rssm",
        "probing_cfg.probe_lr=0.001": "by least squares",
    }.items():
        [line] = [line for line in lines if line.strip().startswith(f"{start}: ")]
        assert reason in line


def test_probes_are_fitted_as_the_original_does_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probing = {"probe_lr": 0.002, "epochs_predictor": 20, "epochs_enc": 30, "full_finetune": False}
    words, rest = command(capsys, str(written(tmp_path, {**VICREG, "probing_cfg": probing})), "--probe", "adam")
    assert {"probe=adam", "probe.learning_rate=0.002", "probe.epochs=20"} <= set(words)
    assert "epochs_enc=30: both probes are fitted at once" in rest


def test_defaults_of_ours_that_stand_in_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, rest = command(capsys, str(written(tmp_path, {"model_type": "VICReg", "vicreg": {"sim_coeff": 1.0}})))
    assert rest.strip().startswith("the files do not say, so that our defaults hold: model.std_coeff=9.13")
    assert "dataset.batch_size=32, optimizer.base_lr=1.4" in rest


BAD: list[tuple[dict[str, Any] | str, list[str]]] = [
    ({"dataset_nose": 1}, ["dataset_nose: no such key in the original; did you mean 'dataset_noise'?"]),
    ({"vicreg": {"sim_coef": 1}}, ["vicreg.sim_coef: no such", "'vicreg.sim_coeff'", "--ignore vicreg.sim_coef"]),
    ({"sim_coeff": 1}, ["sim_coeff: no such", "did you mean 'vicreg.sim_coeff'?"]),
    ({"vicregg": {"sim_coeff": 1}}, ["vicregg: no such"]),
    ({"probing_cfg": {"probe_rl": 1}}, ["did you mean 'probing_cfg.probe_lr'?"]),
    ({"model_type": "VICRge"}, ["model_type='VICRge': must be one of VICReg, SimCLR, RSSM; did you mean 'VICReg'?"]),
    ({"model_type": 3}, ["model_type=3: must be one of"]),
    ({"model_type": None}, ["model_type: is missing; it must be VICReg, SimCLR or RSSM"]),
    ({"dataset_type": "Triple"}, ["dataset_type='Triple': must be one of Single, Multiple"]),
    ({"batch_size": "many"}, ["batch_size='many': must be a whole number"]),
    ({"batch_size": 2.5}, ["batch_size=2.5: must be a whole number"]),
    ({"base_lr": True}, ["base_lr=True: must be a finite number"]),
    ({"base_lr": 0}, ["base_lr=0: must be greater than 0"]),
    ({"normalize": 1}, ["normalize=1: must be true or false"]),
    ({"vicreg": {"std_coeff": [1, 2]}}, ["vicreg.std_coeff=[1, 2]: must be a finite number"]),
    ({"vicreg": {"std_coeff": {"a": 1}}}, ["vicreg.std_coeff={'a': 1}: must be a finite number"]),
    ({"vicreg": 3}, ["vicreg=3: must be a section of keys"]),
    ({"vicreg": {"predictor": "rrn"}}, ["vicreg.predictor='rrn': must be rnn, ", "did you mean 'rnn'?"]),
    ({"vicreg": {"backbone_mlp": "64-x"}}, ["vicreg.backbone_mlp='64-x': must be widths"]),
    ({"vicreg": {"repr_dim": 3, "embedding_dim": 4}}, ["vicreg.embedding_dim: is set twice"]),
    ({"vicreg": {"sim_coeff": 0, "std_coeff": 0, "cov_coeff": 0}}, ["vicreg: every coefficient is 0"]),
    ({"probing_cfg": {"full_finetune": True}}, ["probing_cfg.full_finetune=true: is model=supervised together with"]),
    ({"run_name": "${nothing}"}, ["run_name='${nothing}': ", "nothing"]),
    ({"seed": "???"}, ["seed='???': "]),
    ({"device": "cud"}, ["device='cud': must be one of auto, cpu, cuda", "did you mean 'cuda'?"]),
    ({"device": 3.5}, ["device=3.5: must be text"]),
    ("a: [1", ["old.yaml, line 2: "]),
    ("- 1\n- 2", ["old.yaml: ", "must be a mapping, as in 'model_type: VICReg'"]),
    ("just text", ["just text: no such key in the original"]),
    ("\x00", ["old.yaml"]),
]


@pytest.mark.parametrize(("content", "said"), BAD)
def test_bad_files_are_refused_in_one_line(
    content: dict[str, Any] | str,
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = content if isinstance(content, str) else yaml.safe_dump({**VICREG, **content})
    Path("old.yaml").write_text(text, encoding="utf-8")
    refused(capsys, ["old.yaml", "--yaml", "conf/mine/new.yaml", "--run"], said)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.yaml"], ["nowhere.yaml: cannot be read (No such file or directory)"]),
        (["."], [".: cannot be read (Is a directory)"]),
        ([], ["no file is named"]),
        (["old.yaml", "--values", "seed"], ["--values 'seed': must be key=value"]),
        (["old.yaml", "--values", "=3"], ["--values '=3': must be key=value"]),
        (["old.yaml", "--values", "seed=[1"], ["--values 'seed=[1': cannot be read"]),
        (["old.yaml", "--values", "seeed=1"], ["seeed: no such key in the original; did you mean 'seed'? (in --"]),
        (["old.yaml", "--add", "trainer.epoch=1"], ["trainer.epoch: no such key; did you mean 'trainer.epochs'?"]),
        (["old.yaml", "--add", "trainer.epochs=1,2"], ["--add 'trainer.epochs=1,2': must set one key"]),
        (["old.yaml", "--add", "trainer"], ["trainer"]),
        (["old.yaml", "--add", "trainer.epochs=x"], ["trainer.epochs='x': must be a whole number"]),
        (["old.yaml", "--add", "model/encoder=resnet"], ["model/encoder='resnet': ", "'resnet18'"]),
        (["old.yaml", "--yaml", "new.yaml"], ["--yaml new.yaml: must be FOLDER/GROUP/NAME.yaml"]),
        (["old.yaml", "--yaml", "conf/model/new.yaml"], ["model is a group of this project"]),
        (["old.yaml", "--yaml", "conf/mine/new.txt"], ["must be FOLDER/GROUP/NAME.yaml"]),
        (["old.yaml", "--yaml", "old.yaml/mine/new.yaml"], ["old.yaml is a file"]),
    ],
)
def test_bad_words_are_refused_in_one_line(
    words: list[str],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "a-b"  # no name of a group
    folder.mkdir()
    monkeypatch.chdir(folder)
    written(folder, VICREG)
    refused(capsys, words, said)
    assert [path.name for path in folder.rglob("*")] == ["old.yaml"]


def refused(capsys: pytest.CaptureFixture[str], words: list[str], said: list[str]) -> None:
    assert import_config.command_line(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
    assert all(text in captured.err for text in said), captured.err
    assert captured.out == ""


def test_an_input_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    path = written(tmp_path / "mine", VICREG)
    before = path.read_bytes()
    refused(capsys, [str(path), "--yaml", str(path)], ["is one of the files that are read"])
    assert path.read_bytes() == before


def test_unknown_keys_are_left_out_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, {**VICREG, "unheard_of": 3, "hjepa": {"a": 1}})
    words, _ = command(capsys, str(path), "--ignore", "unheard_of", "hjepa")
    assert words[0] == "model=vicreg"
    shorter, _ = command(capsys, str(path), "--ignore", "unheard_of", "hjepa", "vicreg.sim_coeff", "base_lr")
    assert len(shorter) < len(words)
    refused(capsys, [str(path), "--ignore", "unheard_off"], ["unheard_off: no file has it; did you mean 'unheard_of'?"])


# --- files that are written, and runs --------------------------------------------------------------------------------


WRITTEN = [row for row in rows() if name_of(row) in ("fixed_uniform/1.25/supervised", "changing_structured/3/rssm")]


@pytest.mark.parametrize("row", WRITTEN, ids=name_of)
def test_a_written_file_composes_what_the_command_does(
    row: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, {**original_of(row), "run_name": "a,b=1"})
    words, rest = command(capsys, str(path), "--yaml", "myconf/mine/new.yaml", "--add", "probe=adam", "probe.epochs=3")
    shown = shlex.split(rest.splitlines()[-1])
    assert shown == ["python", "-m", "jepa.run", "--config-dir", "myconf", "+mine=new"]
    seen: list[tuple[str, str]] = []

    def look(config: DictConfig) -> float:
        seen.append((config_hash(config), config.folder))
        return 0.0

    assert command_line(words, look) == 0 and command_line(shown[3:], look) == 0
    assert seen[0] == seen[1] and seen[0][1] == "outputs/runs/a,b=1"
    assert Path("myconf/mine/new.yaml").read_text().startswith("# @package _global_\n")


TINY = [
    *("trainer.epochs=1", "trainer.warmup_epochs=0", "dataset.size=8", "dataset.batch_size=8", "dataset.num_steps=3"),
    *("probe.fit_sequences=100", "probe.judge_sequences=8", "progress=none", "plots=false", "threads=1"),
]


def test_an_imported_file_runs_from_the_originals_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    with np.load(GOLDEN / "vicreg_paper.npz") as archive:
        names = [key for key in archive.files if key.startswith("weight/")]
        weights = {key.removeprefix("weight/"): torch.as_tensor(archive[key]) for key in names}
    torch.save({"model_state_dict": weights, "epoch": 3}, "old.ckpt")
    networks = {"arch": "menet5", "backbone_width_factor": 1, "embedding_dim": 48}
    old = {**VICREG, "vicreg": {**VICREG["vicreg"], **networks}, "load_checkpoint_path": "old.ckpt", "eval_only": True}
    written(tmp_path, {**old, "output_path": "here"})
    kept = [word for word in TINY if not word.startswith("trainer.")]
    assert import_config.command_line(["old.yaml", "--run", "--add", *kept]) == 0
    assert "init_from=old.ckpt" in capsys.readouterr().out.splitlines()[0]
    result = json.loads(Path("here/result.json").read_text())
    assert result["status"] == "finished" and result["epochs_trained"] == 0
    model = checkpoint.load(Path("here") / checkpoint.LAST)["model"]
    assert torch.equal(model["encoder.fc.weight"], weights["backbone.fc.weight"])
    assert torch.equal(model["predictor.rnn.weight_ih_l0"], weights["predictor.rnn.weight_ih_l0"])


def test_every_key_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "from_the_original.md").read_text(encoding="utf-8")
    inner = {key for section in SECTIONS.values() for key in section} | set(SECTIONS)
    names = {name for name in KEYS if "." not in name} | inner | {alias.rpartition(".")[2] for alias in ALIASES}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
    ours = {key.ours for key in KEYS.values() if key.ours} - {"model", "dataset", "device", "seed", "logger"}
    assert [key for key in sorted(ours) if f"`{key}" not in page] == []
