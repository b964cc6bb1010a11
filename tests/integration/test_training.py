"""Whole runs, small: same numbers twice, a resumed run equal to an uninterrupted one, packed jobs to single ones."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jepa import prepare
from jepa.config.compose import compose, register
from jepa.errors import ConfigError
from jepa.loggers.base import Logger
from jepa.run import run
from jepa.store import checkpoint
from jepa.training.trainer import Trainer

TINY = [
    "dataset.size=48",
    "dataset.batch_size=8",
    "dataset.num_steps=5",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "trainer.epochs=3",
    "trainer.warmup_epochs=1",
    "trainer.log_every_steps=4",
    "trainer.probe_every_epochs=1",
    "checkpoint.every_epochs=1",
    "probe.fit_sequences=48",
    "probe.judge_sequences=40",
    "dataset.noise=0.5",
    "dataset.static_noise=0.25",
    "progress=none",
    "plots=false",
]
TRAINED = ["vicreg", "simclr", "rssm", "idm", "supervised"]
TIMES = {"time_s", "sequences_per_second", "train_seconds"}


def execute(folder: Path, *overrides: str) -> float:
    register()
    return run(compose([*TINY, f"folder={folder}", *overrides], with_hydra=True))


def records(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock measured."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def science(folder: Path) -> dict[str, Any]:
    return {k: v for k, v in result(folder)["metrics"].items() if k not in TIMES}


def assert_same_weights(left: Path, right: Path) -> None:
    ours, theirs = (checkpoint.load(folder / checkpoint.LAST) for folder in (left, right))
    for part in ("model", "optimizer", "stream"):
        assert ours[part].keys() == theirs[part].keys()
        for name, value in theirs[part].items():
            assert torch.equal(ours[part][name], value), f"{part} {name}"


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a real SIGINT during the given step of the next run."""
    original: Callable[[Trainer], None] = Trainer.advance

    def advance(self: Trainer) -> None:
        original(self)
        if self.step == step:
            monkeypatch.setattr(Trainer, "advance", original)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "advance", advance)


@pytest.mark.parametrize("model", TRAINED)
def test_same_configuration_same_numbers(model: str, tmp_path: Path) -> None:
    values = [execute(tmp_path / name, f"model={model}") for name in "ab"]
    assert values[0] == values[1]
    assert records(tmp_path / "a") == records(tmp_path / "b")
    assert science(tmp_path / "a") == science(tmp_path / "b")
    assert_same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("model", TRAINED)
@pytest.mark.parametrize("steps", [[2], [6, 13]])  # within an epoch; at the end of one and again in the third
def test_a_resumed_run_equals_an_uninterrupted_one(
    model: str, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tmp_path / "whole", f"model={model}")
    for step in steps:
        interrupt_after(step, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / "parts", f"model={model}")
        assert not (tmp_path / "parts" / "result.json").exists()
        assert checkpoint.load(tmp_path / "parts" / checkpoint.LAST)["step"] == step
    execute(tmp_path / "parts", f"model={model}", "resume=true")
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    assert science(tmp_path / "parts") == science(tmp_path / "whole")
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("damaged", [[checkpoint.LAST], [checkpoint.LAST, checkpoint.PREVIOUS]], ids=len)
def test_a_damaged_checkpoint_costs_time_and_changes_no_number(
    damaged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(tmp_path / "whole")
    parts = tmp_path / "parts"
    interrupt_after(14, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        execute(parts)
    for name in damaged:
        content = bytearray((parts / name).read_bytes())
        content[len(content) // 2] ^= 4  # a weight: torch would read it without a word
        (parts / name).write_bytes(content)
    if len(damaged) == 2:
        with pytest.raises(ConfigError, match="every checkpoint is damaged"):
            execute(parts, "resume=true")
    execute(parts)
    assert records(parts) == records(tmp_path / "whole")
    assert science(parts) == science(tmp_path / "whole")
    assert_same_weights(parts, tmp_path / "whole")
    logged = (parts / "run.log").read_text()
    for words in ("last.pt: damaged, its checksum differs; it is kept as last.pt.damaged", "the run continues from"):
        words = words if len(damaged) == 1 else words.replace("continues from", "starts again")
        assert words in logged
    assert {path.name for path in (parts / "checkpoints").iterdir()} == {
        "last.pt",
        *(f"{Path(name).name}.damaged" for name in damaged),
    }


def test_a_resumed_run_knows_its_rate_and_when_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(f"2026-01-01T00:00:{second:02}+00:00" for second in range(10))
    monkeypatch.setattr("jepa.provenance.timestamp", lambda: next(times))
    for step in (5, 10):  # 1 and 2 steps after the last record
        interrupt_after(step, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path)
    execute(tmp_path)
    assert result(tmp_path)["started"] == "2026-01-01T00:00:00+00:00"
    assert result(tmp_path)["resumed"] == ["2026-01-01T00:00:01+00:00", "2026-01-01T00:00:02+00:00"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["kind"] == "train"]
    for before, after in zip([{"step": 0, "time_s": 0.0}, *train], train, strict=False):
        rate = 8 * (after["step"] - before["step"]) / (after["time_s"] - before["time_s"])
        assert after["sequences_per_second"] == pytest.approx(rate, rel=1e-6), after["step"]


@pytest.mark.parametrize("epochs", [0, 1])
def test_weights_that_are_no_numbers_fail_the_run(epochs: int, tmp_path: Path) -> None:
    execute(tmp_path / "first", "trainer.epochs=0", "trainer.warmup_epochs=0")
    state = checkpoint.load(tmp_path / "first" / checkpoint.LAST)
    state["model"]["encoder.fc.weight"][0, 0] = torch.nan
    torch.save({"model": state["model"]}, tmp_path / "nan.pt")
    asked = [f"init_from={tmp_path / 'nan.pt'}", f"trainer.epochs={epochs}", "trainer.warmup_epochs=0"]
    with pytest.raises(RuntimeError, match="not finite"):
        execute(tmp_path / "second", *asked)
    found = result(tmp_path / "second")
    assert found["status"] == "failed" and found["reason"] == "not_finite" and found["objective"] is None


class Broken(Logger):
    """A place for numbers that is out of order from ``when`` on."""

    def __init__(self, when: str) -> None:
        self.when = when

    def start(self, run: Any) -> None:
        self._use("start")

    def record(self, record: Any) -> None:
        self._use("record")

    def plot(self, name: str, path: Path) -> None:
        self._use("plot")

    def finish(self, result: Any) -> None:
        self._use("finish")

    def _use(self, what: str) -> None:
        if what == self.when:
            raise TypeError("no numbers, please")


def test_broken_loggers_and_pictures_cost_themselves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_loggers = prepare.make_loggers
    broken = [Broken(when) for when in ("start", "record", "plot", "finish")]
    monkeypatch.setattr(prepare, "make_loggers", lambda one: [*make_loggers(one), *broken])

    def no_picture(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to process string with tex")

    monkeypatch.setattr("jepa.results.run_plots.samples_figure", no_picture)
    execute(tmp_path, "trainer.epochs=1", "trainer.warmup_epochs=0", "plots=true")
    assert result(tmp_path)["status"] == "finished"
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"embedding", "losses", "rmse_per_step"}
    logged = (tmp_path / "run.log").read_text()
    assert logged.count("Broken: the run goes on without it: TypeError: no numbers, please") == len(broken)
    assert logged.count("plots/samples.png could not be drawn: RuntimeError: Failed to process string") == 1


def test_another_seed_gives_other_weights_and_data(tmp_path: Path) -> None:
    execute(tmp_path / "a")
    execute(tmp_path / "b", "seed=1")
    ours, theirs = (checkpoint.load(tmp_path / name / checkpoint.LAST) for name in "ab")
    assert not torch.equal(ours["model"]["encoder.fc.weight"], theirs["model"]["encoder.fc.weight"])
    assert not torch.equal(ours["stream"]["motion"], theirs["stream"]["motion"])


@pytest.mark.parametrize("model", ["random", "identity"])
def test_untrained_models_are_judged_and_nothing_else(model: str, tmp_path: Path) -> None:
    execute(tmp_path, f"model={model}", "plots=true")
    found = result(tmp_path)
    assert found["status"] == "finished" and found["epochs_trained"] == 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} >= {"samples.png", "rmse_per_step.png"}
    assert 0 < found["metrics"]["encoder_rmse_px"] < found["metrics"]["prediction_rmse_px"]


def test_a_run_is_compared_with_its_own_environment(tmp_path: Path) -> None:
    """Five frames are so short that an identity predictor beats the border that holds for seventeen."""
    few = ["dataset.noise=0", "dataset.static_noise=0", "probe.fit_sequences=1000", "plots=true"]
    execute(tmp_path, "model=identity", "model.encoder.embedding_size=64", *few)
    found = result(tmp_path)
    lines = {line["name"]: line for line in found["reference"]["prediction"]["lines"]}
    assert lines["start alone"]["rmse_px"] == pytest.approx(3.03, abs=0.05)
    assert found["metrics"]["prediction_rmse_px"] < 3.7
    assert (found["verdict"], found["verdict_reason"]) == ("knows only the start", None)
    assert found["warnings"] == []
    assert (found["reference"]["num_sequences"], found["reference"]["seed"]) == (20_000, 0)


def test_no_verdict_on_a_predictor_that_is_shown_several_frames(tmp_path: Path) -> None:
    """The frames it is shown tell more than the start alone."""
    execute(tmp_path, "model=random", "model/predictor=rnn_burnin", "model.predictor.burn_in=3")
    found = result(tmp_path)
    assert found["verdict"] is None and "shown 3 frames" in found["verdict_reason"]


def test_a_run_warns_of_a_probe_with_too_few_sequences(tmp_path: Path) -> None:
    execute(tmp_path, "model=identity", "probe.fit_sequences=10", "probe.judge_sequences=8")
    [warning] = result(tmp_path)["warnings"]
    assert result(tmp_path)["verdict"] is None and "see the warnings" in result(tmp_path)["verdict_reason"]
    assert "10 sequences to fit 16 features" in warning and "probe.fit_sequences=32" in warning
    assert (tmp_path / "run.log").read_text().count(warning) == 1


def test_a_loss_that_is_no_number_fails_the_run_and_leaves_a_result(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not finite by step"):
        execute(tmp_path, "model=supervised", "optimizer.base_lr=1e30")
    found = result(tmp_path)
    assert found["status"] == "failed" and found["objective"] is None
    assert "not finite by step" in found["error"] and found["reason"] == "not_finite"


def test_init_from_starts_from_another_runs_weights(tmp_path: Path) -> None:
    execute(tmp_path / "first")
    execute(tmp_path / "second", f"init_from={tmp_path / 'first' / checkpoint.LAST}", "trainer.epochs=0")
    first = checkpoint.load(tmp_path / "first" / checkpoint.LAST)["model"]
    second = checkpoint.load(tmp_path / "second" / checkpoint.LAST)["model"]
    assert all(torch.equal(second[name], value) for name, value in first.items())


def test_checkpoints_that_cannot_be_used_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    execute(tmp_path / "first")
    path = tmp_path / "first" / checkpoint.LAST
    with pytest.raises(ConfigError, match=r"init_from=.*has shape .*the model needs"):
        execute(tmp_path / "wider", f"init_from={path}", "model.encoder.embedding_size=24")
    short = tmp_path / "short.pt"
    short.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"short.pt \(1000 bytes\): cut short or no checkpoint"):
        execute(tmp_path / "cut", f"init_from={short}")
    assert not (tmp_path / "wider").exists() and not (tmp_path / "cut").exists()


def test_kernels_are_recorded_and_can_be_left_out(tmp_path: Path) -> None:
    values = [execute(tmp_path / word, "model=vicreg", f"trainer.kernels={word}") for word in ("true", "false")]
    with_kernels, without = (result(tmp_path / word) for word in ("true", "false"))
    assert "recurrence" in with_kernels["kernels"] and without["kernels"] == []
    assert with_kernels["config_hash"] == without["config_hash"]
    assert values[0] == pytest.approx(values[1], rel=1e-3)  # the same mathematics, rounded otherwise
