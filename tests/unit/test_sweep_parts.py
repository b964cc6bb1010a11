"""Leases, records, devices, journals, estimates, composition: the small parts of the sweep engine."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from omegaconf import OmegaConf

from jepa.config.compose import config_hash, register
from jepa.errors import ConfigError
from jepa.estimate import Workload, clock
from jepa.files import Damaged
from jepa.store import locks
from jepa.store.layout import LEASE
from jepa.store.locks import Lease, Lock
from jepa.store.result import read_result
from jepa.store.sweep import read_state, write_state
from jepa.sweep import devices, records
from jepa.sweep.arguments import parse_arguments
from jepa.sweep.execution import launcher_kind
from jepa.sweep.jobs import Composer, Job, distinct
from jepa.sweep.journal import cut_torn_end
from jepa.sweep.overview import Overview, estimate_seconds
from jepa.sweep.progress import result_line, running_line
from jepa.sweep.search import make_sampler
from jepa.sweep.sitting import Sitting
from jepa.sweep.space import build_space, dimension, in_words, interval
from jepa.sweep.study import open_storage


def job(name: str, folder: Path = Path("."), model: str = "vicreg", sequences: float = 100.0) -> Job:
    return Job(name, ["seed=1"], f"job {name}", folder / name, model, Workload(sequences), epochs=2.0)


def write_result(folder: Path, **fields: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result = {"status": "finished", "objective": 1.0, "config_hash": folder.name, "metrics": {}, **fields}
    (folder / "result.json").write_text(json.dumps(result))


def take_and_release(folder: Path) -> None:
    held = Lease.take(folder, {})
    assert held is not None
    held.release()


# --- leases --------------------------------------------------------------------------------------------------------


def test_a_lease_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    held = Lease.take(tmp_path / "job", {"sitting": "x"})
    assert held is not None
    found = locks.holder(tmp_path / "job")
    assert found is not None and found["sitting"] == "x" and found["pid"] == os.getpid()
    assert Lease.take(tmp_path / "job", {}, patience_s=0) is None
    held.release()
    assert locks.holder(tmp_path / "job") is None and locks.last_holder(tmp_path / "job")["left"]
    take_and_release(tmp_path / "job")


def test_a_lease_ends_with_its_holder_even_by_sigkill(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from jepa.store.locks import Lease\n"
    code += "held = Lease.take(Path(sys.argv[1]), {'sitting': 'x'}); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert locks.holder(tmp_path) is not None
    process.kill()
    process.communicate()
    assert locks.holder(tmp_path) is None
    assert locks.last_holder(tmp_path)["sitting"] == "x" and "left" not in locks.last_holder(tmp_path)


def test_a_holder_on_another_machine_is_believed_while_it_touches_its_lease(tmp_path: Path) -> None:
    path = tmp_path / LEASE
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert locks.holder(tmp_path) is not None and Lease.take(tmp_path, {}, patience_s=0) is None
    long_ago = time.time() - 2 * locks.STALE_S
    os.utime(path, (long_ago, long_ago))
    assert locks.holder(tmp_path) is None
    take_and_release(tmp_path)


def test_a_lease_dated_in_the_future_blocks_no_longer_than_any_other(tmp_path: Path) -> None:
    path = tmp_path / LEASE
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    ahead = time.time() + 100 * locks.STALE_S
    os.utime(path, (ahead, ahead))
    assert locks.holder(tmp_path) is not None and path.stat().st_mtime <= time.time()
    long_ago = time.time() - locks.STALE_S - 1  # nobody has touched it since
    os.utime(path, (long_ago, long_ago))
    take_and_release(tmp_path)


def test_a_lease_cut_short_by_a_power_loss_can_be_taken(tmp_path: Path) -> None:
    (tmp_path / LEASE).write_text('{"host": "else')
    assert locks.holder(tmp_path) is None
    take_and_release(tmp_path)


def test_a_sitting_is_dead_once_its_process_is(tmp_path: Path) -> None:
    sitting = Sitting.here(tmp_path, "now")
    with sitting.held():
        assert not sitting.is_dead() and sitting.is_here()
    assert sitting.is_dead()
    assert not Sitting(tmp_path, "now", "another-machine", 1).is_dead()
    assert socket.gethostname() == sitting.host


# --- records -------------------------------------------------------------------------------------------------------


def test_the_status_of_a_folder(tmp_path: Path) -> None:
    assert records.status(tmp_path / "a", "a") == "new"
    (tmp_path / "a").mkdir()
    assert records.status(tmp_path / "a", "a") == "new"
    (tmp_path / "a" / "config.yaml").touch()
    assert records.status(tmp_path / "a", "a") == "interrupted"
    (tmp_path / "a" / "result.json").write_text('{"status": "fin')
    assert records.status(tmp_path / "a", "a") == "interrupted"
    for fields, expected in [
        ({}, "finished"),
        ({"status": "pruned"}, "pruned"),
        ({"status": "failed"}, "failed"),
        ({"objective": None}, "failed"),
        ({"config_hash": "another"}, "interrupted"),
    ]:
        write_result(tmp_path / "a", **fields)
        assert records.status(tmp_path / "a", "a") == expected


def test_the_objective_is_that_of_the_metric_asked_for(tmp_path: Path) -> None:
    write_result(tmp_path / "a", objective=1.0, objective_metric="x", metrics={"x": 1.0, "y": 2.0, "z": None})
    found = {metric: records.read_result(tmp_path / "a", metric) for metric in (None, "x", "y", "z", "w")}
    assert {key: value and value["objective"] for key, value in found.items()} == {
        None: 1.0, "x": 1.0, "y": 2.0, "z": None, "w": None,
    }  # fmt: skip
    assert {key: value and (value["status"], value.get("reason")) for key, value in found.items()} == {
        None: ("finished", None), "x": ("finished", None), "y": ("finished", None),
        "z": ("failed", "not_finite"), "w": ("failed", "no_metric"),
    }  # fmt: skip
    write_result(tmp_path / "b", metrics={}, objective=3.0, objective_metric="x")
    assert records.done_result(tmp_path / "b", "b", "x") and not records.done_result(tmp_path / "b", "b", "y")
    assert not records.reuse_result(tmp_path / "b", tmp_path / "c", "b", "y") and not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reason": "not_finite", "error": "x"}, True),
        ({"reason": "error", "error": "ValueError: the step is not finite, says a library"}, False),
        ({"reason": "died", "error": "killed"}, False),
        ({"error": "the loss was not finite by step 3"}, True),
        ({"error": "MemoryError: no memory left"}, False),
    ],
)
def test_a_failure_by_numbers_is_told_by_its_reason(fields: dict[str, Any], expected: bool, tmp_path: Path) -> None:
    write_result(tmp_path, status="failed", **fields)
    result = read_result(tmp_path)
    assert result is not None and (result["reason"] == "not_finite") is expected


def test_a_failure_is_recorded_without_hiding_what_the_run_said(tmp_path: Path) -> None:
    records.write_failure(tmp_path / "a", job_hash="a", error="E: x", overrides=["seed=1"], traceback="Trace\n")
    assert json.loads((tmp_path / "a" / "result.json").read_text())["error"] == "E: x"
    assert "Trace" in (tmp_path / "a" / "run.log").read_text()
    write_result(tmp_path / "b", status="failed", error="the run's own words")
    records.write_failure(tmp_path / "b", job_hash="b", error="E: y", overrides=[])
    assert json.loads((tmp_path / "b" / "result.json").read_text())["error"] == "the run's own words"


def test_only_finished_results_of_the_same_configuration_are_reused(tmp_path: Path) -> None:
    write_result(tmp_path / "old" / "a")
    (tmp_path / "old" / "a" / "metrics.jsonl").write_text("{}\n")
    write_result(tmp_path / "old" / "b", status="failed")
    write_result(tmp_path / "old" / "c", config_hash="another")
    done = {name: records.reuse_result(tmp_path / "old" / name, tmp_path / "new" / name, name) for name in "abcd"}
    assert done == {"a": True, "b": False, "c": False, "d": False}
    assert json.loads((tmp_path / "new" / "a" / "result.json").read_text())["reused_from"].endswith("old/a")
    assert (tmp_path / "new" / "a" / "metrics.jsonl").is_file() and not (tmp_path / "new" / "b").exists()


def test_a_reused_result_has_the_names_of_the_job_that_takes_it(tmp_path: Path) -> None:
    old = {"config": {"seed": 1, "scale": None}, "choices": {"dataset": "single_fixed_uniform"}}
    write_result(tmp_path / "old" / "a", **old)
    names = {"choices": {"dataset": "single"}, "scale": "small"}
    assert records.reuse_result(tmp_path / "old" / "a", tmp_path / "new" / "a", "a", names=names)
    found = json.loads((tmp_path / "new" / "a" / "result.json").read_text())
    assert found["choices"] == {"dataset": "single"}
    assert found["config"] == {"seed": 1, "scale": "small", "choices": {"dataset": "single"}}


def test_the_sweeps_own_file_keeps_earlier_jobs_and_can_be_lost(tmp_path: Path) -> None:
    write_state(tmp_path, {"name": "x", "jobs": {"a": {}}})
    write_state(tmp_path, {"name": "x", "jobs": {"b": {}}})
    assert set(read_state(tmp_path)["jobs"]) == {"a", "b"}
    (tmp_path / "sweep.json").write_text("{torn")
    with pytest.raises(Damaged, match="sweep.json: cannot be read"):
        read_state(tmp_path)
    write_state(tmp_path, {"name": "x", "jobs": {"b": {}}})
    assert read_state(tmp_path) == {"name": "x", "jobs": {"b": {}}}


# --- devices -------------------------------------------------------------------------------------------------------


def test_processes_times_threads_is_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert {n: devices.threads_per_job(n) for n in (-1, 1, 2, 3, 4, 8, 16)} == {
        -1: 1,
        1: 8,
        2: 4,
        3: 2,
        4: 2,
        8: 1,
        16: 1,
    }
    with pytest.raises(ConfigError, match="n_jobs"):
        devices.threads_per_job(0)


@pytest.mark.parametrize(("told", "threads"), [("1", 1), ("3", 3), ("3,1", 3), ("16", 4), ("0", 4), ("many", 4)])
def test_a_job_takes_no_more_threads_than_the_environment_allows(
    told: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert devices.threads_per_job(2) == threads


def test_gpus_are_dealt_evenly_and_given_back(tmp_path: Path) -> None:
    gpus = ["0", "1", "2"]
    held = [devices.dealt_gpu(gpus, 6, tmp_path) for _ in range(6)]
    dealt = [context.__enter__() for context in held]
    assert sorted(map(str, dealt)) == ["0", "0", "1", "1", "2", "2"] and set(dealt[:3]) == set(gpus)
    with devices.dealt_gpu(gpus, 6, tmp_path) as one_too_many:
        assert one_too_many is None
    held[4].__exit__(None, None, None)
    with devices.dealt_gpu(gpus, 6, tmp_path) as again:
        assert again == dealt[4]
    for context in held[:4] + held[5:]:
        context.__exit__(None, None, None)
    with devices.dealt_gpu(["0"], 6, tmp_path) as only_one:
        assert only_one is None


def test_the_gpus_that_somebody_else_has_chosen_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, expected in [("2,GPU-abc", ["2", "GPU-abc"]), ("", []), ("-1", [])]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        assert devices.visible_gpus() == expected


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.JoblibLauncher", "n_jobs": 3}, ("joblib", 3, True, True)),
        (
            {"_target_": "hydra_plugins.hydra_submitit_launcher.SlurmLauncher", "array_parallelism": 9},
            ("submitit", 9, False, False),
        ),
        ({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, ("basic", 1, False, True)),
        ({"_target_": "someone.elses.Launcher"}, ("Launcher", 1, False, True)),
    ],
)
def test_what_is_known_of_launchers(launcher: dict[str, Any], expected: tuple[Any, ...]) -> None:
    kind = launcher_kind(OmegaConf.create({"hydra": {"launcher": launcher}}))
    assert (kind.name, kind.parallel, kind.isolate, kind.tied) == expected


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ({"_target_": "a.joblib", "n_jobs": "abc"}, "hydra.launcher.n_jobs='abc'"),
        ({"_target_": "a.joblib", "n_jobs": 0}, "hydra.launcher.n_jobs=0"),
        ({"_target_": "a.packed", "num_workers": 1.5}, "hydra.launcher.num_workers=1.5"),
        ({"_target_": "a.packed", "num_workers": 0}, "hydra.launcher.num_workers=0"),
        ({"_target_": "a.submitit", "array_parallelism": "x"}, "hydra.launcher.array_parallelism='x'"),
        ({"_target_": "a.ray", "ray": {"remote": {"num_cpus": -1}}}, "num_cpus=-1"),
    ],
)
def test_numbers_of_processes_that_are_none_are_refused(launcher: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        launcher_kind(OmegaConf.create({"hydra": {"launcher": launcher}}))


# --- search spaces -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"low": 2, "high": 1}, "low must not be above high"),
        ({"low": 0, "high": 1, "log": True}, "must start above 0"),
        ({"low": -1, "high": 1, "log": True, "int": True}, "must start above 0"),
        ({"low": 0, "high": "x"}, "high must be a finite number"),
        ({"low": 0, "high": float("inf")}, "high must be a finite number"),
        ({"low": True, "high": 2}, "low must be a finite number"),
        ({"low": 0.5, "high": 2, "int": True}, "low must be a whole number"),
        ({"low": 1, "high": 2, "log": True, "step": 0.5}, "takes no step"),
        ({"low": 1, "high": 2, "step": 0}, "step must be above 0"),
        ({"low": 1, "high": 2, "step": 3}, "at most high - low"),
        ({"low": 1, "high": 2, "log": "yes"}, "log='yes': must be true or false"),
        ({"low": 1, "hihg": 2}, "low and high"),
        ([], "an axis without values"),
    ],
)
def test_dimensions_that_are_none_are_refused(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as error:
        dimension("optimizer.base_lr", value)
    assert "optimizer.base_lr" in str(error.value) and "\n" not in str(error.value)


def test_values_on_the_command_line_are_read_as_hydra_reads_them() -> None:
    arguments = parse_arguments(["a=.5,1e-3,2", "b=True,false", "c=null,'a b',word,'1'"])
    space = build_space({"any": dict.fromkeys("abc", [0])}, "vicreg", arguments)
    choices = {key: dimension.choices for key, dimension in space.items()}  # type: ignore[attr-defined]
    assert choices == {"a": (0.5, 1e-3, 2), "b": (True, False), "c": (None, "a b", "word", "1")}


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("x=interval(1,0.1)", "low must not be above high"),
        ("x=tag(log,interval(0,1))", "must start above 0"),
        ("x=tag(log,interval(0.0,1.0))", "must start above 0"),
    ],
)
def test_intervals_that_are_none_are_refused(argument: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{argument}: ") + ".*" + re.escape(words)):
        interval(parse_arguments([argument]).intervals["x"])


def test_dimensions_in_words() -> None:
    values = ({"low": 1e-5, "high": 10, "log": True}, {"low": 1, "high": 9, "int": True, "step": 2}, [True, "a", 0.5])
    assert [in_words(dimension("x", value)) for value in values] == [
        "1e-05 … 10, logarithmic",
        "1 … 9, whole numbers, in steps of 2",
        "true, a, 0.5",
    ]


def test_a_sampler_without_its_package_is_refused_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="sweep.sampler=cmaes: needs the package cmaes; pip install cmaes"):
        make_sampler("cmaes", {}, 0)


# --- storages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite:///", "journal:"])
def test_processes_that_make_one_study_at_the_same_moment_all_get_it(kind: str, tmp_path: Path) -> None:
    code = "import sys, time, warnings; warnings.simplefilter('error'); import optuna\n"
    code += "from jepa.sweep.study import open_storage\n"
    code += "time.sleep(max(0.0, float(sys.argv[1]) - time.time())); storage = open_storage(sys.argv[2])\n"
    code += "print(optuna.create_study(study_name='s', storage=storage, load_if_exists=True)._study_id)"
    command = [sys.executable, "-c", code, str(time.time() + 3.0), f"{kind}{tmp_path / 'study'}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [process.communicate() + (process.returncode,) for process in processes]
    assert [(code, len(out.split())) for out, _, code in ended] == [(0, 1)] * 3, ended


def test_a_database_keeps_no_connection_open(tmp_path: Path) -> None:
    """Python 3.13 warns of those that are not closed."""
    import gc
    import sqlite3

    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path / 'x.db'}"))
    study.tell(study.ask(), 1.0)
    connections = [found for found in gc.get_objects() if type(found) is sqlite3.Connection]
    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("select 1")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_storage_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="lies in memory"):
        open_storage(url)


# --- journals ------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    lock = Lock(tmp_path / "lock")
    assert cut_torn_end(path, lock)
    line = '{"op_code":2}\n'
    for content, expected, sound in [
        (2 * line, 2 * line, True),
        (line + "{", line, True),
        ("{", "", True),
        ("", "", True),
        (line + "{\n", line + "{\n", False),
    ]:
        path.write_text(content)
        assert cut_torn_end(path, lock) is sound
        assert path.read_text() == expected


# --- progress ------------------------------------------------------------------------------------------------------


def test_the_time_left_is_estimated_model_by_model() -> None:
    jobs = {
        name: job(name, model=model) for name, model in (("a", "vicreg"), ("b", "rssm"), ("c", "vicreg"), ("d", "new"))
    }
    results = {
        name: {"status": "finished", "objective": 1.0, "metrics": {"train_seconds": s}}
        for name, s in (("a", 10.0), ("b", 40.0))
    }
    assert estimate_seconds([jobs["c"]], results, jobs, 1) == pytest.approx(10.0)
    assert estimate_seconds([jobs["c"], jobs["d"]], results, jobs, 2) == pytest.approx(25.0)
    assert estimate_seconds([job("e", sequences=300.0)], results, jobs, 4) == pytest.approx(30.0)
    assert estimate_seconds([jobs["c"]], {}, jobs, 1) is None
    assert [clock(s) for s in (0.4, 61, 3723)] == ["0:00", "1:01", "1:02:03"]


def test_the_screen_counts_and_finds_the_best(tmp_path: Path) -> None:
    overview = Overview(parallel=2)
    overview.add([job(name, tmp_path) for name in "abcde"])
    write_result(tmp_path / "a", objective=2.5, objective_metric="prediction_rmse_px", verdict="tracks")
    write_result(tmp_path / "b", objective=math.nan)
    write_result(tmp_path / "c", status="pruned", objective=0.5)
    held = Lease.take(tmp_path / "d", {})
    (tmp_path / "d" / "metrics.jsonl").write_text(
        '{"step": 15, "epoch": 1.5, "kind": "train", "loss/total": 3.0, "sequences_per_second": 10, "time_s": 4}\n'
    )
    assert {found.hash for found in overview.look()} == set("abc") and overview.look() == []
    running = overview.running()
    counts = "2 of 5 done · 1 running · 1 waiting · 1 pruned · 1 failed · best 2.5 (job a)"
    assert overview.summary(running).startswith(counts) and overview.summary(running).endswith(" left")
    assert [running_line(one, 2.5) for one in running] == [
        "  d job d: epoch 1.5 of 2 · loss 3 · 10 sequences/s · 0:02 left"
    ]
    assert result_line(overview.jobs["a"], overview.results["a"]) == "finished a job a: prediction_rmse_px 2.5 (tracks)"
    assert "not a finite number" in result_line(overview.jobs["b"], overview.results["b"])
    assert held is not None
    held.release()


@pytest.mark.parametrize("status", ["failed", "finished"])
def test_a_result_from_before_a_job_is_run_again_does_not_count(tmp_path: Path, status: str) -> None:
    overview = Overview(parallel=1)
    write_result(tmp_path / "a", status=status, objective=2.0)
    overview.add([job("a", tmp_path)])
    assert overview.look() == []
    overview.forget(overview.jobs["a"])
    assert overview.look() == [] and overview.summary([]) == "0 of 1 done · 0 running · 1 waiting · 0 failed"
    (tmp_path / "a" / "result.json").unlink()
    assert overview.look() == []
    write_result(tmp_path / "a", status="finished", objective=1.0)
    assert len(overview.look()) == 1 and overview.results["a"]["objective"] == 1.0


def test_a_failure_stands_where_the_job_was_not_run_again_after_all(tmp_path: Path) -> None:
    overview = Overview(parallel=1)
    write_result(tmp_path / "a", status="failed", objective=None)
    overview.add([job("a", tmp_path)])
    overview.forget(overview.jobs["a"])
    assert overview.look() == []
    overview.settle()
    assert overview.count("failed") == 1


# --- composition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=3", "dataset.static_noise=1.25"],
        ["model=rssm", "optimizer.base_lr=1e-3"],
        ["optimizer=adam", "model=simclr", "model.temperature=2"],
        ["dataset=single_fixed_uniform", "dataset.static_noise=2"],
        ["trainer=quick", "trainer.epochs=7"],
        ["model.encoder.width_factor=1", "+model.encoder.extra=1"],
        ["model/encoder=resnet18", "seed=1"],
        ["logger=wandb", "~logger.wandb", "seed=4"],
        ["logger=[wandb,csv]", "logger.wandb.mode=offline", "seed=5"],
    ],
)
def test_jobs_are_composed_as_hydra_composes_them(overrides: list[str]) -> None:
    from hydra import initialize_config_dir

    from jepa.config.compose import config_dir

    register()
    with initialize_config_dir(config_dir=str(config_dir()), job_name="run"):
        JobRuntime.instance().set("name", "run")
        loader = GlobalHydra.instance().config_loader()
        from hydra.types import RunMode

        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        expected = loader.load_configuration("config", overrides, RunMode.RUN)
        composer = Composer(loader=loader, config=master, check=None)
        for _ in range(2):
            found = composer.compose(overrides)
            assert config_hash(found) == config_hash(expected)
            assert found.hydra.overrides.task == expected.hydra.overrides.task
            assert found.hydra.runtime.choices == expected.hydra.runtime.choices
        with pytest.raises(ConfigError, match=r"dataset\.noise"):
            composer.compose([*overrides, "dataset.nois=1"])


def test_equal_jobs_are_one_and_keep_their_order() -> None:
    first, second, third = job("a"), job("b"), job("a")
    assert distinct([first, second, third]) == [first, second]


def test_the_snippet_of_the_page_loads_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/searches.md: the first block that opens the journal, as printed."""
    from jepa.sweep.study import open_storage

    page = (Path(__file__).resolve().parents[2] / "docs" / "searches.md").read_text(encoding="utf-8")
    load, serve = (part.partition("```")[0] for part in page.split("```python\n") if "open_storage" in part)
    monkeypatch.chdir(tmp_path)
    Path("outputs/search").mkdir(parents=True)
    study = optuna.create_study(study_name="first name", storage=open_storage("journal:outputs/search/study.journal"))
    study.add_trial(optuna.trial.create_trial(value=2.5, user_attrs={"job": "0123456789"}))
    exec(compile(load, "docs/searches.md", "exec"), {})
    assert capsys.readouterr().out == "0 COMPLETE 2.5 {} 0123456789\n"
    served: list[object] = []
    dashboard = type(sys)("optuna_dashboard")
    dashboard.run_server = lambda storage, port: served.append(storage)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optuna_dashboard", dashboard)
    exec(compile(serve, "docs/searches.md", "exec"), {})
    assert isinstance(served[0], optuna.storages.JournalStorage)


def test_a_sitting_does_not_take_over_an_earlier_ones_wish_to_stop(tmp_path: Path) -> None:
    """One process may run a sweep twice within a second."""
    first = Sitting.here(tmp_path, "20260101-000000-7")
    first.stop()
    second = Sitting.here(tmp_path, "20260101-000000-7")
    assert second.name == "20260101-000000-7-1" and not second.stop_file.exists()
    assert Sitting.here(tmp_path, "20260101-000001-7").name == "20260101-000001-7"
