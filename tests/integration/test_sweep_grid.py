"""Grids: run, run again, extended, reused, refused; and what becomes of jobs that fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sweep_helpers import APP, REPOSITORY, results, run, starts

import jepa.run
from jepa.provenance import code

EPOCHS = ["trainer.epochs=2", "trainer.warmup_epochs=0"]
GRID = [
    "--multirun",
    "seed=0,1",
    "dataset.static_noise=0,0.5",
    "trainer.epochs=2",
    "trainer.warmup_epochs=0",
    "sweep.name=grid",
]


def test_a_grid_runs_once_and_a_longer_axis_keeps_what_is_there(in_tmp: Path) -> None:
    first = run(GRID)
    assert first.code == 0, first
    folder = in_tmp / "outputs" / "grid"
    before = results(folder)
    assert len(before) == 4
    assert {tuple(result["overrides"]) for result in before.values()} == {
        ("trainer.epochs=2", "trainer.warmup_epochs=0", f"seed={seed}", f"dataset.static_noise={noise}")
        for seed in (0, 1)
        for noise in (0, 0.5)
    }
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}

    again = run(GRID)
    assert again.code == 0 and "4 of 4 jobs are done already" in again.out, again
    longer = run([*GRID[:1], "seed=0,1,2", *GRID[2:]])
    assert longer.code == 0 and "4 of 6 jobs are done already" in longer.out, longer
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(results(folder)) == 6
    assert all(run_starts == [0] for run_starts in starts(folder).values())
    state = json.loads((folder / "sweep.json").read_text())
    assert state["axes"] == {"seed": ["0", "1", "2"], "dataset.static_noise": ["0", "0.5"]}
    assert set(state["jobs"]) == set(results(folder))


def test_rerun_runs_finished_jobs_again(in_tmp: Path) -> None:
    arguments = ["--multirun", "seed=0", "trainer.epochs=1", "trainer.warmup_epochs=0", "sweep.name=one"]
    assert run(arguments).code == 0
    [path] = in_tmp.glob("outputs/one/*/result.json")
    before = path.read_text()
    again = run([*arguments, "rerun=true"])
    assert again.code == 0 and "done already" not in again.out, again
    assert path.read_text() != before
    assert (path.parent.with_name(f"{path.parent.name}.1") / "result.json").read_text() == before


def test_failures_are_the_failing_jobs_own_and_are_retried(in_tmp: Path) -> None:
    trouble = {"1": "raise", "2": "nan", "3": "memory", "4": "exit"}
    arguments = ["--multirun", "seed=range(6)", "trainer.epochs=3", "trainer.warmup_epochs=0", "sweep.name=bad"]
    first = run(arguments, FAKE_TROUBLE=json.dumps(trouble))
    assert first.code == 1, first
    folder = in_tmp / "outputs" / "bad"
    found = {tuple(value["overrides"])[-1]: value["status"] for value in results(folder).values()}
    assert [found[f"seed={seed}"] for seed in (0, 5)] == ["finished"] * 2
    assert "2 of 6 done" in first.out and "4 failed" in first.out
    for line in ("RuntimeError: something is wrong", "not a finite number", "MemoryError", "exit code 3", "run.log"):
        assert line in first.out
    failing = next(path for path in folder.glob("*/run.log") if "RuntimeError" in path.read_text())
    assert "Traceback" in failing.read_text() and "and here is more of it" in failing.read_text()

    kept = run([*arguments, "retry_failed=false"])
    assert kept.code == 1 and "4 failed" in kept.out, kept
    assert sum(map(len, starts(folder).values())) == 6
    retried = run(arguments)
    assert retried.code == 0 and "6 of 6 done" in retried.out, retried
    assert starts(folder)[failing.parent.name] == [0, 1], "a retried job goes on from its checkpoint"
    assert (failing.parent / "result.failed.json").is_file()


def test_results_of_another_sweep_are_reused(in_tmp: Path) -> None:
    assert run(GRID).code == 0
    other = [
        "--multirun",
        "seed=0,1,2",
        "dataset.static_noise=0",
        "trainer.epochs=2",
        "trainer.warmup_epochs=0",
        "sweep.name=other",
    ]
    planned = run([*other, "reuse=outputs/grid", "dry_run=true"])
    assert planned.code == 0 and "2 reused, 1 new" in planned.out, planned
    assert not (in_tmp / "outputs" / "other").exists()
    misspelt = run([*other, "reuse=outputs/gird"])
    assert misspelt.code == 2 and "reuse=outputs/gird: no such folder" in misspelt.err, misspelt
    (in_tmp / "outputs" / "empty").mkdir()
    reused = run([*other, "reuse=[outputs/empty,outputs/grid]"])
    assert reused.code == 0, reused
    folder = in_tmp / "outputs" / "other"
    assert len(results(folder)) == 3 and len(starts(folder)) == 1
    origins = [json.loads(path.read_text()).get("reused_from") for path in folder.glob("*/result.json")]
    assert sum(origin is not None for origin in origins) == 2
    for path in (in_tmp / "outputs" / "grid").glob("*/result.json"):
        path.parent.rename(in_tmp / "outputs" / "empty" / f"vicreg-{path.parent.name}")  # as single runs are named
    third = run([*other[:-1], "sweep.name=third", "reuse=outputs/empty"])
    assert third.code == 0 and len(starts(in_tmp / "outputs" / "third")) == 1, third
    assert len(results(in_tmp / "outputs" / "third")) == 3
    common = set(results(folder)) & set(results(in_tmp / "outputs" / "grid"))
    assert all(results(folder)[key] == results(in_tmp / "outputs" / "grid")[key] for key in common)


def test_a_dry_run_tells_the_jobs_the_state_and_the_time_and_starts_nothing(in_tmp: Path) -> None:
    planned = run([*GRID, "dry_run=true"])
    assert planned.code == 0 and "4 jobs in" in planned.out and "4 new" in planned.out, planned
    assert "nothing has been measured yet" in planned.out
    assert not (in_tmp / "outputs").exists()
    assert run(GRID).code == 0
    planned = run([*GRID[:1], "seed=0,1,2,3", *GRID[2:], "dry_run=true"])
    assert "8 jobs" in planned.out and "4 finished, 4 new" in planned.out, planned
    assert "time: about 0:0" in planned.out and " for the 4 jobs left, from 4 results" in planned.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--multirun", "seed=range(1000)"], "sweep.max_jobs=500"),
        (["--multirun", "sede=0,1"], "seed"),
        (["--multirun", "dataset.static_nois=0,1"], "dataset.static_noise"),
        (["--multirun", "model=vicreg,simclear"], "simclr"),
        (["--multirun", "seed=0,1", "sweep.axis={seed:[1]}"], "sweep.axes"),
        (["--multirun", "+sweep.axes.seed=[]"], "without values"),
        (["--multirun", "seed=interval(0,3)"], "search"),
        (["--multirun", "sweep.zipped=[{seed:[0,1],dataset.noise:[1]}]"], "one length"),
        (["--multirun", "seed=0,1", "dry_run=maybe"], "dry_run"),
    ],
)
def test_bad_sweeps_are_refused_in_one_line_before_the_first_job(
    in_tmp: Path, arguments: list[str], words: str
) -> None:
    refused = run(arguments)
    assert refused.code == 2, refused
    assert words in refused.err and len(refused.err.strip().splitlines()) == 1, refused
    assert not (in_tmp / "outputs").exists()


def test_yes_starts_a_grid_beyond_the_stated_size(in_tmp: Path) -> None:
    arguments = [
        "--multirun",
        "seed=0,1,2",
        "sweep.max_jobs=2",
        "trainer.epochs=1",
        "trainer.warmup_epochs=0",
        "sweep.name=big",
    ]
    assert run(arguments).code == 2
    assert run([*arguments, "yes=true"]).code == 0


def test_wandb_is_told_the_sweep_and_the_axes_and_no_job_writes_on_the_screen(in_tmp: Path) -> None:
    ended = run([*GRID, "logger=wandb", "logger.wandb.tags=[mine]"])
    assert ended.code == 0, ended
    configs = [OmegaConf.load(path) for path in in_tmp.glob("outputs/grid/*/config.yaml")]
    assert {config["logger"]["wandb"]["group"] for config in configs} == {None}, "left to the run: the sweep's name"
    names = sorted(config["logger"]["wandb"]["name"] for config in configs)
    hashes = sorted(path.name[:6] for path in in_tmp.glob("outputs/grid/*/") if path.name[0] != ".")
    assert names[0].startswith("seed=0 static_noise=0 ") and sorted(name.split()[-1] for name in names) == hashes
    tags = sorted(list(config["logger"]["wandb"]["tags"]) for config in configs)
    assert tags[0] == ["mine", "seed=0", "static_noise=0"] and len(tags) == 4
    assert {config["progress"] for config in configs} == {"none"}
    overrides = [json.loads(path.read_text())["overrides"] for path in in_tmp.glob("outputs/grid/*/result.json")]
    assert not any("group" in word or "progress" in word for words in overrides for word in words)


def test_a_sweep_file_is_run_without_asking_for_multirun_and_the_command_line_wins(in_tmp: Path) -> None:
    ended = run(["+sweep=fixed_uniform", "model=idm", "seed=0", "trainer.epochs=1", "trainer.warmup_epochs=0"])
    assert ended.code == 0 and "9 of 9 done" in ended.out, ended
    assert len(results(in_tmp / "outputs" / "fixed_uniform")) == 9
    misspelt = run(["+sweep=fixed_unifrm"])
    assert misspelt.code == 2 and "fixed_uniform" in misspelt.err and len(misspelt.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "num_jobs"),
    [
        ("fixed_uniform", 4 * 9 * 3),
        ("changing_uniform", (3 * 7 + 11) * 3),
        ("fixed_structured", 4 * 6 * 3),
        ("changing_structured", 4 * 6 * 3),
        ("seeds", 5),
        ("quick", 4),
    ],
)
def test_every_sweep_file_composes(in_tmp: Path, name: str, num_jobs: int) -> None:
    planned = run([f"+sweep={name}", "dry_run=true"])
    assert planned.code == 0 and f"{num_jobs} jobs in" in planned.out, planned


@pytest.mark.parametrize("model", ["vicreg", "simclr", "rssm", "idm", "supervised"])
def test_every_search_space_composes(in_tmp: Path, model: str) -> None:
    planned = run(["+sweep=search", f"model={model}", "dry_run=true"])
    assert planned.code == 0, planned
    assert re.search(r"^  optimizer\.base_lr: [\d.e-]+ … [\d.e-]+, logarithmic$", planned.out, re.M), planned


def _as_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    (path / "in it").mkdir(parents=True)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


DAMAGES: list[tuple[bool, Callable[[Path], object]]] = [  # whether the result stays, and what happens to the folder
    (True, lambda folder: _cut(folder / "result.json")),
    (True, lambda folder: (folder / "result.json").write_text("null")),
    (True, lambda folder: (folder / "result.json").write_text('{"status": "finished"}')),
    (True, lambda folder: _as_folder(folder / "result.json")),
    (False, lambda folder: _cut(folder / "config.yaml")),
    (False, lambda folder: (folder / "config.yaml").write_text("seed: 77\n")),
    (False, lambda folder: (folder / "config.yaml").write_bytes(b"\xff{[")),
    (False, lambda folder: _as_folder(folder / "config.yaml")),
    (False, lambda folder: (folder / "config.yaml").unlink()),
    (False, lambda folder: _as_folder(folder / ".lease")),
    (False, lambda folder: _as_folder(folder / "metrics.jsonl")),
    (False, lambda folder: _as_folder(folder / "run.log")),
    (False, lambda folder: (shutil.rmtree(folder), folder.touch())),
]


@pytest.mark.parametrize(
    "launcher",
    [[], pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], marks=pytest.mark.slow)],
    ids=["basic", "joblib"],
)
def test_damaged_job_folders_cost_their_own_jobs_alone(in_tmp: Path, launcher: list[str]) -> None:
    seeds = ",".join(map(str, range(len(DAMAGES))))
    arguments = ["--multirun", f"seed={seeds},100", *EPOCHS, "sweep.name=grid", *launcher]
    assert run(arguments).code == 0
    before = results(in_tmp / "outputs" / "grid")
    by_seed = {next(word for word in result["overrides"] if "seed" in word): key for key, result in before.items()}
    for seed, (keeps_result, damage) in enumerate(DAMAGES):
        folder = in_tmp / "outputs" / "grid" / by_seed[f"seed={seed}"]
        if not keeps_result:
            (folder / "result.json").unlink()
        damage(folder)
    planned = run([*arguments, "dry_run=true"])
    assert planned.code == 0 and planned.out.count("damaged  ") == len(DAMAGES), planned
    again = run(arguments)
    assert again.code == 0 and f"{len(DAMAGES) + 1} of {len(DAMAGES) + 1} done" in again.out, again
    assert again.out.count("and the job is run again") == len(DAMAGES), again
    after = {key: value for key, value in results(in_tmp / "outputs" / "grid").items() if "." not in key}
    assert after == before
    assert starts(in_tmp / "outputs" / "grid")[by_seed["seed=100"]] == [0], "a sound job is left alone"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: place.symlink_to(place), "outputs/grid"),
        (lambda place: place.touch(), "is a file"),
        (lambda place: place.symlink_to(place.parent / "nowhere"), "is a link to nothing"),
        (lambda place: (place / "sweep.json").mkdir(parents=True), "sweep.json"),
        (lambda place: (place.mkdir(), (place / ".sittings").touch()), ".sittings"),
    ],
    ids=["loop", "file", "dangling", "sweep.json", ".sittings"],
)
def test_a_place_where_no_sweep_can_be_is_refused(
    in_tmp: Path, make: Callable[[Path], object], words: str
) -> None:
    (in_tmp / "outputs").mkdir()
    make(in_tmp / "outputs" / "grid")
    for switch in ([], ["dry_run=true"]):
        refused = run([*GRID, *switch])
        assert refused.code == 2 and words in refused.err and len(refused.err.strip().splitlines()) == 1, refused


@pytest.mark.parametrize("where", ["full", "closed", "pipe"])
def test_a_sweep_whose_output_cannot_be_written_goes_on(in_tmp: Path, where: str) -> None:
    command = [sys.executable, str(APP), *GRID]
    shell = {
        "full": 'exec "$@" > /dev/full',
        "closed": 'exec "$@" >&-',
        "pipe": '"$@" | true; exit ${PIPESTATUS[0]}',
    }
    ended = subprocess.run(
        ["bash", "-c", shell[where], "-", *command],
        cwd=in_tmp, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert ended.returncode == 0 and ended.stderr == "", ended
    assert len(results(in_tmp / "outputs" / "grid")) == 4


def test_results_of_other_code_are_counted_before_a_sweep_and_in_its_plan(in_tmp: Path) -> None:
    assert run(GRID).code == 0
    other = {"commit": "1" * 40, "dirty": True, "fingerprint": "0" * 12}
    codes = [other, other, {**code()}, None]
    for path, made_by in zip(sorted(in_tmp.glob("outputs/grid/*/result.json")), codes, strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), "code": made_by}))
    line = "2 of 4 finished results were made by other code (commit 111111111111, with changes); "
    line += "rerun=true runs them again"
    for switch in ([], ["dry_run=true"]):
        said = run([*GRID, *switch])
        assert said.code == 0 and said.out.count(line) == 1, said
    assert "other code" not in run([*GRID, "rerun=true"]).out


def test_a_plan_without_results_tries_a_few_steps_and_writes_nothing(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], threads_as_before: None
) -> None:
    small = ["trainer=quick", "trainer.epochs=2", "dataset.size=64", "dataset.batch_size=16", "dataset.num_steps=3"]
    small += ["model.encoder.width_factor=1", "model.encoder.embedding_size=16"]
    assert jepa.run.command_line(["--multirun", "model=vicreg,identity", *small, "dry_run=true"]) == 0
    assert "for the 2 jobs left, from a few steps of vicreg just now" in capsys.readouterr().out
    assert not list(in_tmp.iterdir())


def test_temporary_files_of_killed_processes_are_removed(in_tmp: Path) -> None:
    folder = in_tmp / "outputs" / "grid"
    folder.mkdir(parents=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = folder / f".sweep.{gone.pid}-abc123.json"
    left.touch()
    assert run(GRID).code == 0 and not left.exists()
