"""Searches: one total over any number of sittings, killed and shared; failures, duplicates, pruning, storage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweep_helpers import finish, kill_hard, results, run, start, starts, wait_held

from jepa.sweep.pruning import JOURNAL, open_storage

EPOCHS = ["trainer.epochs=4", "trainer.warmup_epochs=0"]
SEARCH = ["+sweep=search", "model=vicreg", *EPOCHS, "sweep.name=search"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def study(folder: Path, storage: str | None = None) -> optuna.Study:
    """The study of a sweep's folder."""
    return optuna.load_study(
        study_name=folder.name, storage=open_storage(storage or f"{JOURNAL}{folder / 'study.journal'}")
    )


def trials(folder: Path, storage: str | None = None) -> dict[int, tuple[str, dict[str, Any], float | None]]:
    """By number: state, parameters, value."""
    return {t.number: (t.state.name, t.params, t.value) for t in study(folder, storage).trials}


def test_a_search_killed_twice_and_continued_equals_an_undisturbed_one(in_tmp: Path) -> None:
    whole = [*SEARCH, "sweep.n_trials=6"]
    assert run([*whole, "sweep.name=undisturbed"]).code == 0
    folder = in_tmp / "outputs" / "search"
    for total in (6, 12):
        process = start([*whole, *JOBLIB], in_tmp, FAKE_HOLD=str(total))
        wait_held(folder, total, jobs=2)
        kill_hard(process)
    states = {state for state, _, _ in trials(folder).values()}
    assert "RUNNING" in states
    resumed = finish(start([*whole, *JOBLIB], in_tmp))
    assert resumed.code == 0 and "6 of 6 done" in resumed.out, resumed
    assert trials(folder) == trials(in_tmp / "outputs" / "undisturbed")
    assert results(folder) == results(in_tmp / "outputs" / "undisturbed")
    assert {state for state, _, _ in trials(folder).values()} == {"COMPLETE"}
    begun = sorted(starts(folder).values())
    assert [runs.count(0) for runs in begun] == [1] * 6, "no work was thrown away"
    assert sum(len(runs) - 1 for runs in begun) == 4, "each kill interrupted two jobs"


def test_the_total_is_reached_over_several_sittings_and_two_processes(in_tmp: Path) -> None:
    folder = in_tmp / "outputs" / "search"
    assert run([*SEARCH, "sweep.n_trials=2"]).code == 0
    assert len(trials(folder)) == 2
    assert run([*SEARCH, "sweep.n_trials=2"]).code == 0
    assert len(trials(folder)) == 2
    processes = [start([*SEARCH, "sweep.n_trials=6"], in_tmp, FAKE_EPOCH_S="0.05") for _ in range(2)]
    ended = [finish(process) for process in processes]
    assert [one.code for one in ended] == [0, 0], ended
    assert [state for state, _, _ in trials(folder).values()] == ["COMPLETE"] * 6
    assert all(runs == [0] for runs in starts(folder).values()), "no trial ran twice"
    assert run([*SEARCH[:3], "sweep.name=alone", "trainer.warmup_epochs=0", "sweep.n_trials=6"]).code == 0
    assert [t[1] for t in trials(folder).values()] == [t[1] for t in trials(folder.with_name("alone")).values()]


def test_a_changed_space_is_refused_with_the_difference(in_tmp: Path) -> None:
    assert run([*SEARCH, "sweep.n_trials=1"]).code == 0
    changed = run([*SEARCH, "sweep.n_trials=2", "model.sim_coeff=interval(1,2)", "dataset.static_noise=1"])
    assert changed.code == 2 and len(changed.err.strip().splitlines()) == 1, changed
    for words in ("model.sim_coeff: ", '"high": 1000.0', '"high": 2', "dataset.static_noise: absent -> 1"):
        assert words in changed.err
    assert len(trials(in_tmp / "outputs" / "search")) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=identity", "dataset.batch_size=32"], "vicreg"),
        (["model=vicreg", "sweep.sampler=tpa"], "tpe"),
        (["model=vicreg", "sweep.pruner=median"], "trainer.probe_every_epochs"),
        (["model=vicreg", "sweep.pruner=meridian"], "median"),
        (["model=vicreg", "sweep.n_trials=0"], "n_trials"),
        (["model=vicreg", "+sweep.space.vicreg.model.sim_coef={low:1,high:2}"], "model.sim_coeff"),
        (["model=vicreg", "+sweep.space.vicreg.seed=3"], "low and high"),
        (["model=vicreg", "sweep.n_trials=501"], "yes=true"),
        (["model=vicreg", "sweep.storage=nosuch://x"], "sweep.storage"),
    ],
)
def test_bad_searches_are_refused_before_the_first_trial(in_tmp: Path, arguments: list[str], words: str) -> None:
    refused = run(["+sweep=search", *arguments])
    assert refused.code == 2 and words in refused.err, refused
    assert len(refused.err.strip().splitlines()) == 1, refused
    assert not list(in_tmp.glob("outputs/*/*/result.json"))


def test_nan_and_failures_are_failed_trials_and_only_failures_are_tried_again(in_tmp: Path) -> None:
    folder = in_tmp / "outputs" / "search"
    arguments = ["--multirun", *SEARCH[1:], "+sweep.space.any.seed=[0,1,2,3,4,5,6,7]", "sweep.n_trials=8"]
    numbers = {params["seed"]: number for number, (_, params, _) in _proposals(arguments, in_tmp).items()}
    nan, bad = sorted(numbers)[:2]
    first = run(arguments, FAKE_TROUBLE=json.dumps({str(nan): "nan", str(bad): "raise"}))
    assert first.code == 1, first
    states = {number: state for number, (state, _, _) in trials(folder).items()}
    assert states[numbers[nan]] == states[numbers[bad]] == "FAIL"
    again = run(arguments)
    assert again.code == 1 and "1 failed" in again.out, again
    found = study(folder).trials
    retried = [trial for trial in found if "retry_of" in trial.user_attrs]
    assert {trial.params["seed"] for trial in retried} == {bad} and {t.state.name for t in retried} == {"COMPLETE"}
    assert len(starts(folder)) == len(numbers), "equal proposals share a folder"
    assert run(arguments).code == 1 and len(study(folder).trials) == len(found)


def test_a_retry_is_not_told_the_failure_it_is_to_undo(in_tmp: Path) -> None:
    """joblib's workers take seconds to start: in that time the screen sees the result of the attempt before."""
    folder = in_tmp / "outputs" / "search"
    arguments = [*SEARCH, "sweep.n_trials=2"]
    assert run(arguments, FAKE_TROUBLE=json.dumps({"0": "raise"})).code == 1
    again = finish(start([*arguments, *JOBLIB], in_tmp, FAKE_EPOCH_S="0.5"))
    assert again.code == 0 and "failed  " not in again.out, again
    assert [state for state, _, _ in trials(folder).values()] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]


def _proposals(arguments: list[str], in_tmp: Path) -> dict[int, tuple[str, dict[str, Any], float | None]]:
    assert run([*arguments, "sweep.name=proposals"]).code == 0
    return trials(in_tmp / "outputs" / "proposals")


PRUNED = [word for word in SEARCH if not word.startswith("trainer.epochs")]
PRUNED += ["trainer.epochs=8", "trainer.probe_every_epochs=1", "sweep.n_trials=8"]


@pytest.mark.parametrize(
    "pruner",
    [
        ["sweep.pruner=median", "+sweep.pruner_options.n_startup_trials=2"],
        ["sweep.pruner=percentile", "+sweep.pruner_options={percentile:25.0,n_startup_trials:2}"],
        ["sweep.pruner=successive_halving"],
        ["sweep.pruner=hyperband", "+sweep.pruner_options={min_resource:1,max_resource:8}"],
    ],
    ids=["median", "percentile", "successive_halving", "hyperband"],
)
def test_pruning_saves_epochs_and_finds_as_good_a_trial(in_tmp: Path, pruner: list[str]) -> None:
    folder = in_tmp / "outputs" / "search"
    assert run([*PRUNED, *pruner]).code == 0
    states = [state for state, _, _ in trials(folder).values()]
    assert "PRUNED" in states and "COMPLETE" in states and set(states) == {"PRUNED", "COMPLETE"}
    found = [json.loads(path.read_text()) for path in folder.glob("*/result.json")]
    assert {result["status"] for result in found} == {"pruned", "finished"}
    assert sum(result["epochs_trained"] for result in found) < 64
    # What is pruned is told by what it has reported; here a trial that is behind stays behind.
    last = {t.number: t.intermediate_values[max(t.intermediate_values)] for t in study(folder).trials}
    assert study(folder).best_value == min(last.values())


def test_other_samplers_and_storages(in_tmp: Path) -> None:
    url = f"sqlite:///{in_tmp / 'study.db'}"
    arguments = [*SEARCH, "sweep.sampler=tpe", "sweep.n_trials=3", f"sweep.storage={url}"]
    assert run(arguments).code == 0
    folder = in_tmp / "outputs" / "search"
    assert [state for state, _, _ in trials(folder, url).values()] == ["COMPLETE"] * 3
    assert not (folder / "study.journal").exists()
    assert run(arguments).code == 0 and len(trials(folder, url)) == 3


def test_several_fixed_points_make_several_studies(in_tmp: Path) -> None:
    arguments = ["+sweep=search", "model=vicreg,idm", "dataset.static_noise=0.5", "sweep.n_trials=2", *EPOCHS]
    planned = run([*arguments, "dry_run=true"])
    assert planned.code == 0 and planned.out.count("2 trials in total") == 2, planned
    assert not list(in_tmp.glob("outputs/*"))
    assert run(arguments).code == 0
    names = sorted(path.name for path in in_tmp.glob("outputs/*"))
    assert (
        names == [f"search-model={model}-static_noise=0.5-epochs=4" for model in ("idm", "vicreg")] or len(names) == 2
    )
