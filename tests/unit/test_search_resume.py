"""A search that is killed anywhere and continued is the undisturbed one: trials, values, what was reported and pruned.

The jobs are pretended here, in one process and one after another, as the basic launcher runs them. A kill is an
exception raised at the n-th record written: to the study's journal, to a checkpoint or to a result.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend

from jepa.errors import ConfigError
from jepa.estimate import Workload
from jepa.sweep.jobs import Job
from jepa.sweep.pruning import TrialReporter
from jepa.sweep.search import Search, batch_size
from jepa.sweep.spec import SweepConfig

EPOCHS = 8
SPACE: dict[str, BaseDistribution] = {"lr": FloatDistribution(1e-3, 1e3, log=True), "width": IntDistribution(1, 9)}
METRIC = "error"


class Killed(BaseException):
    """What SIGKILL is here."""


class Machine:
    """Counts what is written, and is killed once so much has been."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = 0
        self.kill_at: int | None = None
        append = JournalFileBackend.append_logs

        def counted(backend: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
            self.write(lambda: append(backend, logs))

        monkeypatch.setattr(JournalFileBackend, "append_logs", counted)
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nothing here outlives the power

    def write(self, action: Callable[[], object]) -> None:
        """One record."""
        if self.written == self.kill_at:
            raise Killed
        self.written += 1
        action()


def settings(**changes: Any) -> SweepConfig:
    search = dict(n_trials=8, sampler="random", sampler_options={}, sampler_seed=0, pruner="median", pruner_options={})
    grid = dict(name=None, axes={}, zipped=[], points=[], overrides={}, max_jobs=100, retries=0, space={}, auto=[])
    grid |= dict(leave_out=None, given={}, final={}, try_preset=False, preset_margin=0.0)
    return SweepConfig(**{**search, **grid, "storage": None, **changes})


def sitting(folder: Path, chosen: SweepConfig, machine: Machine) -> None:
    """What a sweep's process does with a search, as :class:`jepa.sweep.searching.SearchWork` does it."""
    first = {"lr": 0.5, "width": 5} if chosen.try_preset else None
    search = Search(folder=folder, name="s", space=SPACE, fingerprint={}, settings=chosen, metric=METRIC, first=first)
    while True:
        limit = batch_size(chosen, parallel=2)
        asks = [*search.adopt(), *search.ask(limit)] if search.independent else search.adopt() or search.ask(limit)
        if not asks:
            return
        jobs = []
        for ask in asks:
            name = hashlib.sha256(repr(sorted(ask.values.items())).encode()).hexdigest()[:10]
            jobs.append(Job(name, [], "", folder / name, "", Workload(1.0), metric=METRIC))
            search.assign(ask, jobs[-1])
        for job, ask in zip(jobs, asks, strict=True):
            train(job, ask.values, machine)
        for job, ask in zip(jobs, asks, strict=True):
            search.tell(ask, job)


def train(job: Job, values: dict[str, Any], machine: Machine) -> None:
    """A run that saves every third epoch and is judged after each."""
    job.folder.mkdir(exist_ok=True)
    result, checkpoint = job.folder / "result.json", job.folder / "checkpoint"
    if result.exists():
        return
    node = {key: value for key, value in job.extras.get("on_probe", {}).items() if key != "_target_"}
    report = TrialReporter(**{**node, "objective": METRIC}) if node else None
    epoch, status = (int(checkpoint.read_text()) if checkpoint.exists() else 0, "finished")
    while epoch < EPOCHS and status == "finished":
        epoch += 1
        if report is not None and report(epoch, {METRIC: error(values, epoch)}) and epoch < EPOCHS:
            status = "pruned"
        elif epoch % 3 == 0:
            machine.write(partial(checkpoint.write_text, str(epoch)))
    content = {"status": status, "metrics": {METRIC: error(values, epoch)}, "epochs": epoch, "objective_metric": METRIC}
    machine.write(lambda: result.write_text(json.dumps(content)))


def error(values: dict[str, Any], epoch: int) -> float:
    """Curves that cross, so that it matters who is compared when."""
    return float(abs(values["width"] - 5) + 20 * values["width"] / (epoch + 1) + values["lr"] ** 0.1 / epoch)


def outcome(folder: Path) -> list[tuple[Any, ...]]:
    """All that the search came to."""
    backend = JournalFileBackend(str(folder / "study.journal"))
    trials = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend)).trials
    found: list[tuple[Any, ...]] = []
    for trial in trials:
        marks = {key: mark for key, mark in trial.system_attrs.items() if "rung" in key}
        result = json.loads((folder / trial.user_attrs["job"] / "result.json").read_text())
        found.append((trial.state.name, trial.params, trial.value, trial.intermediate_values, marks, result))
    return found


def told(folder: Path) -> list[tuple[str, dict[str, Any], float | None]]:
    """State, parameters and value of every trial."""
    backend = JournalFileBackend(str(folder / "study.journal"))
    trials = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend)).trials
    return [(trial.state.name, trial.params, trial.value) for trial in trials]


CASES = {
    "median": (dict(pruner="median", pruner_options={"n_startup_trials": 2}), 5),
    "successive_halving": (dict(pruner="successive_halving", pruner_options={"reduction_factor": 2}), 7),
    "hyperband": (dict(pruner="hyperband", pruner_options={"reduction_factor": 2}), 7),
    "tpe": (dict(sampler="tpe", sampler_options={"n_startup_trials": 2, "multivariate": True}, pruner="none"), 3),
    "preset": (dict(try_preset=True, pruner="none"), 1),
    "preset_tpe": (dict(try_preset=True, sampler="tpe", sampler_options={"n_startup_trials": 2}, pruner="none"), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_a_search_killed_at_any_record_ends_as_the_undisturbed_one(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, stride = CASES[case]
    chosen, machine = settings(**changes), Machine(monkeypatch)
    sitting(tmp_path / "whole", chosen, machine)
    expected, total = outcome(tmp_path / "whole"), machine.written
    states = [row[0] for row in expected]
    assert len(states) == 8 and ("PRUNED" in states) == (chosen.pruner != "none")
    assert (expected[0][1] == {"lr": 0.5, "width": 5}) == chosen.try_preset
    for kill_at in range(1, total, stride):
        folder = tmp_path / str(kill_at)
        machine.written, machine.kill_at = 0, kill_at
        with pytest.raises(Killed):
            sitting(folder, chosen, machine)
        machine.kill_at = None
        sitting(folder, chosen, machine)
        assert outcome(folder) == expected, f"killed at record {kill_at}"


def test_an_epoch_reported_again_is_judged_by_what_lies_before_it(tmp_path: Path) -> None:
    """Where the value is another one than before, as after a change of the code, and nothing recorded applies."""
    search = Search(folder=tmp_path, name="s", space=SPACE, fingerprint={}, settings=settings(), metric=METRIC)
    done, running = search.ask(2)
    options = {"n_startup_trials": 1}
    reporters = [
        TrialReporter(
            storage=search.storage_name, study="s", trial_id=ask.trial_id, objective=METRIC, pruner="median",
            pruner_options=options,
        )
        for ask in (done, running)
    ]  # fmt: skip
    assert [reporters[0](epoch, {METRIC: 1.0}) for epoch in (1, 2)] == [False, False]
    search.study.tell(done.number, 1.0)
    assert [reporters[1](epoch, {METRIC: value}) for epoch, value in ((1, 0.5), (2, 0.1))] == [False, False]
    assert reporters[1](1, {METRIC: 0.5}) is False, "what was decided stands"
    assert reporters[1](1, {METRIC: 9.0}) is True, "the 0.1 of epoch 2 is not known at epoch 1"


def _flip(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], b"#" + lines[at][1:], *lines[at + 1 :]]


def _tear(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at][: len(lines[at]) // 2], *lines[at + 1 :]]


def _misspell(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at].replace(b'"op_code":', b'"op_code":9'), *lines[at + 1 :]]


@pytest.mark.parametrize("damage", [_flip, _tear, _misspell])
def test_a_damaged_journal_is_mended_kept_and_continued(
    damage: Callable[[list[bytes], int], list[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine, chosen = Machine(monkeypatch), settings(pruner_options={"n_startup_trials": 2})
    sitting(tmp_path, chosen, machine)
    expected = told(tmp_path)
    journal = tmp_path / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    for at in [0, 1, *range(2, len(lines), 5), len(lines) - 1]:
        journal.write_bytes(b"".join(damaged := damage(lines, at)))
        sitting(tmp_path, chosen, machine)
        assert told(tmp_path) == expected, lines[at]
        said = capsys.readouterr().out
        if at < len(lines) - 1 or damage is not _tear:  # a torn end is no damage: it is cut off
            assert f"{journal}: " in said and len(said.splitlines()) == 1
            assert (tmp_path / "study.journal.damaged").read_bytes() == b"".join(damaged)


def test_a_journal_that_is_none_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "study.journal").mkdir()
    with pytest.raises(ConfigError, match="study.journal: cannot be opened"):
        Search(folder=tmp_path, name="s", space=SPACE, fingerprint={}, settings=settings(), metric=METRIC)
