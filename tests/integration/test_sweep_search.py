"""Searches: one total over any number of sittings, killed and shared; failures, duplicates, pruning, storage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweep_helpers import finish, kill_hard, results, run, start, starts, wait_for, wait_held

from jepa.store.layout import STUDY
from jepa.sweep.study import JOURNAL, open_storage

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
    jobs = json.loads((folder / "sweep.json").read_text())["jobs"]
    assert [job["trial"] for job in jobs.values()] == [0, 1], "what reads results needs no label to know the trial"
    assert run([*SEARCH, "sweep.n_trials=2"]).code == 0
    assert len(trials(folder)) == 2
    processes = [start([*SEARCH, "sweep.n_trials=6"], in_tmp, FAKE_EPOCH_S="0.05") for _ in range(2)]
    ended = [finish(process) for process in processes]
    assert [one.code for one in ended] == [0, 0], ended
    assert [state for state, _, _ in trials(folder).values()] == ["COMPLETE"] * 6
    assert all(runs == [0] for runs in starts(folder).values()), "no trial ran twice"
    assert run([*SEARCH[:3], "sweep.name=alone", "trainer.warmup_epochs=0", "sweep.n_trials=6"]).code == 0
    assert [t[1] for t in trials(folder).values()] == [t[1] for t in trials(folder.with_name("alone")).values()]


def test_every_finished_trial_is_listed_and_the_last_line_shows_the_results(in_tmp: Path) -> None:
    done = run([*SEARCH, "sweep.sampler=tpe", "sweep.n_trials=7"])
    listed = [line.split()[3] for line in done.out.splitlines() if line.startswith("finished ")]
    assert sorted(listed) == [f"{number}:" for number in range(7)], done
    assert done.out.splitlines()[-1] == "tables and figures: python -m jepa.results outputs/search"


def test_the_first_trial_may_be_the_presets_own_and_survives_a_kill(in_tmp: Path) -> None:
    own = ["sweep.try_preset=true", "optimizer.base_lr=tag(log,interval(0.5,4))", "dataset.batch_size=32,512"]
    fixed = ["model.sim_coeff=1", "model.std_coeff=1"]
    folder = in_tmp / "outputs" / "search"
    process = start([*SEARCH, *own, *fixed, "sweep.n_trials=4"], in_tmp, FAKE_HOLD="1")
    wait_held(folder, 1, jobs=1)
    kill_hard(process)
    assert run([*SEARCH, *own, *fixed, "sweep.n_trials=4"]).code == 0
    found = [parameters for _, parameters, _ in trials(folder).values()]
    assert found[0] == {"optimizer.base_lr": 1.4, "dataset.batch_size": 32}, "conf/model and conf/dataset hold these"
    drawn = ["sweep.try_preset=false", *own[1:], *fixed, "sweep.name=drawn"]
    assert run([*SEARCH, *drawn, "sweep.n_trials=4"]).code == 0
    assert found[1:] == [p for _, p, _ in trials(folder.with_name("drawn")).values()][1:], "the others stay as they are"
    refused = run([*SEARCH, "sweep.try_preset=false", *own[1:], *fixed, "sweep.n_trials=5"])
    assert refused.code == 2 and "first trial: dataset.batch_size=32 optimizer.base_lr=1.4 -> absent" in refused.err


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
        (["model=vicreg", "sweep.try_preset=maybe"], "sweep.try_preset='maybe'"),
        (["model=vicreg", "sweep.try_preset=true"], "dataset.batch_size=32: the preset's own value, outside"),
        (["model=idm", "sweep.try_preset=true", "dataset.batch_size=8,32", "seed=interval(2,3)"], "seed=0: the"),
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


def test_a_pruned_search_killed_after_its_first_result_ends_as_the_undisturbed_one(in_tmp: Path) -> None:
    arguments = [*PRUNED, "sweep.pruner=median", "+sweep.pruner_options.n_startup_trials=2"]
    folder, whole = in_tmp / "outputs" / "search", in_tmp / "outputs" / "whole"
    assert run([*arguments, "sweep.name=whole"]).code == 0
    process = start(arguments, in_tmp, FAKE_EPOCH_S="0.1")
    wait_for(lambda: list(folder.glob("*/result.json")))
    kill_hard(process)
    assert len(list(folder.glob("*/result.json"))) == 1
    assert run(arguments).code == 0
    assert trials(folder) == trials(whole) and "PRUNED" in {state for state, _, _ in trials(whole).values()}
    assert results(folder) == results(whole)


def test_a_renamed_folder_goes_on_and_its_trials_are_counted_once(in_tmp: Path) -> None:
    first = [*SEARCH, "sweep.n_trials=3"]
    folder, moved = in_tmp / "outputs" / "search", in_tmp / "outputs" / "moved"
    process = start(first, in_tmp, FAKE_HOLD="6")
    wait_held(folder, 6, jobs=1)
    kill_hard(process)
    folder.rename(moved)
    ended = run([*first, "sweep.name=moved"])
    assert ended.code == 0 and "3 of 3 done" in ended.out, ended
    found = optuna.load_study(study_name="search", storage=open_storage(f"{JOURNAL}{moved / 'study.journal'}"))
    assert [trial.state.name for trial in found.trials] == ["COMPLETE"] * 3
    assert sorted(starts(moved).values()) == [[0], [0], [0, 2]], "the interrupted trial has gone on"
    moved.rename(in_tmp / "elsewhere")
    again = run([*first, f"hydra.sweep.dir={in_tmp / 'elsewhere'}"])
    assert again.code == 0 and "3 of 3 done" in again.out and len(starts(in_tmp / "elsewhere")) == 3, again


def test_trials_that_know_their_folder_by_its_path_go_on(in_tmp: Path) -> None:
    """As studies of earlier versions have them."""
    folder = in_tmp / "outputs" / "search"
    url = f"sqlite:///{in_tmp / 'study.db'}"
    arguments = [*SEARCH, "sweep.n_trials=2", f"sweep.storage={url}"]
    process = start(arguments, in_tmp, FAKE_HOLD="6")
    wait_held(folder, 6, jobs=1)
    kill_hard(process)
    storage = open_storage(url)
    for trial in study(folder, url).get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        storage.set_trial_user_attr(trial._trial_id, "folder", str(folder))
    (folder / STUDY).unlink()
    ended = run(arguments)
    assert ended.code == 0 and "2 of 2 done" in ended.out, ended
    assert [state for state, _, _ in trials(folder, url).values()] == ["COMPLETE"] * 2


def test_a_trial_whose_folder_was_deleted_is_run_again(in_tmp: Path) -> None:
    arguments = [*PRUNED, "sweep.pruner=median", "+sweep.pruner_options.n_startup_trials=2"]
    folder = in_tmp / "outputs" / "search"
    assert run(arguments).code == 0
    before, proposed = results(folder), trials(folder)
    gone = [
        next(key for key, result in before.items() if result["status"] == status) for status in ("finished", "pruned")
    ]
    for key in gone:
        shutil.rmtree(folder / key)
    (folder / "sweep.json").unlink()
    again = run(arguments)
    assert again.code == 0 and again.out.count("it is run again") == 2 and "8 of 8 done" in again.out, again
    assert results(folder) == before and trials(folder) == proposed
    assert [starts(folder)[key] for key in gone] == [[0], [0]]


def test_the_value_is_that_of_the_metric_asked_for(in_tmp: Path) -> None:
    """The grid has minimised another metric, and one of its results lacks the one that the search asks for."""
    grid = ["--multirun", "model=vicreg", *EPOCHS, "seed=0,1", "sweep.name=grid"]
    assert run(grid).code == 0
    lacking, whole = sorted((in_tmp / "outputs" / "grid").glob("*/result.json"))
    for path, metrics in ((whole, {"encoder_rmse_px": 7.5}), (lacking, {})):
        result = json.loads(path.read_text())
        result["metrics"] = {"prediction_rmse_px": 0.25, **metrics}
        path.write_text(json.dumps({**result, "objective": 0.25}))
    search = ["--multirun", "model=vicreg", *EPOCHS, "sweep.n_trials=4", "+sweep.space.any.seed=[0,1]"]
    search += ["sweep.name=search", "objective=encoder_rmse_px", f"reuse={in_tmp / 'outputs' / 'grid'}"]
    ended = run(search)
    values = {
        key: value for _, params, value in trials(in_tmp / "outputs" / "search").values() for key in params.values()
    }
    assert 7.5 in values.values() and 0.25 not in values.values(), (values, ended)
    assert "not reused" in ended.out and "'encoder_rmse_px'" in ended.out, ended
    refused = run([*search[:-2], "objective=prediction_rmse_px"])
    assert refused.code == 2 and "objective: encoder_rmse_px -> prediction_rmse_px" in refused.err, refused


def test_a_dry_run_tells_the_space_in_words_and_the_trials_left_and_writes_nothing(in_tmp: Path) -> None:
    arguments = [*SEARCH, "sweep.n_trials=3", "model.std_coeff=1", "dataset.batch_size=64,128"]
    first = run([*arguments, "dry_run=true"])
    assert first.code == 0 and not list(in_tmp.iterdir()), first
    for words in (
        "  optimizer.base_lr: 1e-05 … 10, logarithmic\n",
        "  dataset.batch_size: 64, 128\n",
        "3 trials to run (0 done) in",
        "dry run: nothing has been started",
    ):
        assert words in first.out, first
    for words in ("Distribution", "0 jobs", "nothing is left", "std_coeff"):
        assert words not in first.out, first
    assert run([*arguments, "sweep.n_trials=2"]).code == 0
    folder = in_tmp / "outputs" / "search"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert "1 trials to run (2 done)" in run([*arguments, "dry_run=true"]).out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "0 trials to run (2 done)" in run([*arguments, "dry_run=true", "sweep.n_trials=2"]).out


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
    assert planned.code == 0 and planned.out.count("2 trials to run (0 done)") == 2, planned
    assert not list(in_tmp.glob("outputs/*"))
    assert run(arguments).code == 0
    names = sorted(path.name for path in in_tmp.glob("outputs/*"))
    assert (
        names == [f"search-model={model}-static_noise=0.5-epochs=4" for model in ("idm", "vicreg")] or len(names) == 2
    )
