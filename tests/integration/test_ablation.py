"""+sweep=ablation: the full objective and the objective without each term, of any method; and its table."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from jepa.config.compose import compose, config_hash
from jepa.config.operational import NAMING_KEYS, OPERATIONAL_KEYS
from jepa.results.axes import varying_axes
from jepa.results.cli import main as results_main
from jepa.results.collect import collect
from jepa.run import command_line
from jepa.sweep.leaving_out import with_one_left_out
from jepa.sweep.points import Grid

SMALL = [
    *("dataset.size=16", "dataset.batch_size=8", "dataset.num_steps=4", "trainer.epochs=1", "trainer.warmup_epochs=0"),
    *("model.encoder.width_factor=1", "model.encoder.embedding_size=8", "plots=false", "progress=none"),
    *("probe.fit_sequences=40", "probe.judge_sequences=20"),
]
MINE = """
_target_: jepa.methods.joint_embedding.JointEmbedding
defaults:
  - encoder: menet5
  - predictor: rnn
  - term@terms.near: straightening
  - term@terms.apart: difference_decoder
  - term@terms.spare: action_hinge
  - _self_
weight: 2.0
terms:
  near: {coeff: "${model.weight}"}
  apart: {coeff: null}
  spare: {coeff: 0}
"""


def left_out(said: str) -> list[str]:
    return re.findall(r"left_out=(\w+)(?: seed=0)?$", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=vicreg"], ["null", "prediction", "variance", "covariance"]),
        (["model=vicreg", "model.cov_coeff=0", "seed=0"], ["null", "prediction", "variance"]),
        (["model=simclr", "+model/term@model.terms.d=difference_decoder"], ["null", "nt_xent", "d"]),
        (["model=vicreg_idm"], ["null", "prediction", "variance", "covariance", "action"]),
        (["model=rssm", *(f"+model/term@model.terms.{x}=straightening" for x in "ab")], ["null", "a", "b"]),
    ],
)
def test_each_term_with_a_weight_is_left_out(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    assert command_line(["+sweep=ablation", *words, *SMALL[:5], "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert left_out(said) == expected
    assert f"{len(expected) * (1 if 'seed=0' in words else 3)} jobs in " in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=simclr"], "model=simclr has only nt_xent in model.terms"),
        (["model=rssm"], "model=rssm has none in model.terms"),
        (["model=random"], "model=random has none in model.terms"),
        (["model=vicreg", "sweep.leave_out=model.term"], "did you mean 'model.terms'?"),
        (["model=vicreg", "sweep.n_trials=3"], "sweep.leave_out: is for a grid"),
        (["model=vicreg", "sweep.max_jobs=11"], "12 jobs: more than sweep.max_jobs=11"),
        (["model=vicreg", "model.terms.covariance.coeff=${model.std_coeff}"], "coefficient of variance and covariance"),
    ],
)
def test_what_cannot_be_ablated_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        raise SystemExit(command_line(["+sweep=ablation", *words, "dry_run=true"]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and said in error and error.count("\n") == 1


def test_left_out_must_tell_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["left_out=variance", "dry_run=true"]) == 2
    assert "model.terms.variance.coeff is 9.1" in capsys.readouterr().err
    assert command_line(["left_out=varience", "dry_run=true"]) == 2
    assert "did you mean 'variance'?" in capsys.readouterr().err


def test_the_name_of_the_term_is_not_hashed() -> None:
    assert NAMING_KEYS <= OPERATIONAL_KEYS
    plain = config_hash(compose(["model=vicreg", "model.std_coeff=0"]))
    assert config_hash(compose(["model=vicreg", "model.std_coeff=0", "left_out=variance"])) == plain


def test_points_that_meet_in_one_job_are_one_job() -> None:
    def composed(point: dict[str, str]) -> Any:
        return compose([f"{key}={value}" for key, value in {"model": "vicreg", **point}.items()], with_hydra=True)

    grid = Grid({}, [], [{"model.sim_coeff": "1"}, {"model.sim_coeff": "2"}])
    found = with_one_left_out(grid, "model.terms", composed)
    assert found.points[:2] == [
        {"left_out": "null", "model.sim_coeff": "1"},
        {"left_out": "prediction", "model.sim_coeff": "0"},
    ]
    assert found.points[4:6] == [
        {"left_out": "null", "model.sim_coeff": "2"},
        {"left_out": "prediction", "model.sim_coeff": "0"},
    ]
    assert found.varied == ["left_out", "model.sim_coeff"]


def test_a_strangers_method_runs_and_its_table_names_the_term(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_tmp / "myconf" / "model").mkdir(parents=True)
    (in_tmp / "myconf" / "model" / "mine.yaml").write_text(MINE)
    words = ["--config-dir", str(in_tmp / "myconf"), "+sweep=ablation", "model=mine", "seed=0,1", *SMALL]
    assert command_line(words) == 0
    results = [json.loads(path.read_text()) for path in in_tmp.glob("outputs/ablation/*/result.json")]
    terms = {
        (result["config"]["left_out"], result["config"]["seed"]): {
            name.removeprefix("loss/") for name in result["metrics"] if name.startswith("loss/")
        }
        for result in results
    }
    assert terms == {
        (left, seed): {"total", "near", "apart"} - {left} for left in (None, "near", "apart") for seed in (0, 1)
    }
    assert varying_axes(collect([str(in_tmp / "outputs")]).runs) == ["left_out"]
    capsys.readouterr()
    assert results_main(["outputs/ablation"]) == 0
    table = capsys.readouterr().out
    assert "left_out" in table and "coeff" not in table and "model.weight" not in table
    assert all(re.search(rf"\b{name}\b", table) for name in ("nothing", "near", "apart"))
    left = {path: json.loads(path.read_text())["config"]["left_out"] for path in in_tmp.glob("outputs/*/*/result.json")}
    shutil.rmtree(next(path.parent for path, name in left.items() if name == "apart"))  # its keys are not known
    assert results_main(["outputs/ablation"]) == 0
    pending = capsys.readouterr().out
    assert "unfinished" in pending and "left_out" in pending and not re.search(r"coeff|\bweight\b", pending)
