"""Leases, records, devices, journals, estimates, composition: the small parts of the sweep engine."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from omegaconf import OmegaConf

from jepa.config import config_hash, register
from jepa.errors import ConfigError
from jepa.estimate import clock
from jepa.sweep import devices, lease, records
from jepa.sweep.execution import launcher_kind
from jepa.sweep.jobs import Composer, Job, distinct
from jepa.sweep.journal import FileLock, mend
from jepa.sweep.overview import Overview, estimate_seconds
from jepa.sweep.progress import result_line, running_line
from jepa.sweep.sitting import Sitting


def job(name: str, folder: Path = Path("."), model: str = "vicreg", sequences: float = 100.0) -> Job:
    return Job(name, ["seed=1"], f"job {name}", folder / name, model, sequences, epochs=2.0)


def write_result(folder: Path, **fields: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result = {"status": "finished", "objective": 1.0, "config_hash": folder.name, "metrics": {}, **fields}
    (folder / "result.json").write_text(json.dumps(result))


def take_and_release(folder: Path) -> None:
    held = lease.Lease.take(folder, {})
    assert held is not None
    held.release()


# --- leases --------------------------------------------------------------------------------------------------------


def test_a_lease_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    held = lease.Lease.take(tmp_path / "job", {"sitting": "x"})
    assert held is not None
    found = lease.holder(tmp_path / "job")
    assert found is not None and found["sitting"] == "x" and found["pid"] == os.getpid()
    assert lease.Lease.take(tmp_path / "job", {}, patience_s=0) is None
    held.release()
    assert lease.holder(tmp_path / "job") is None and lease.last_holder(tmp_path / "job")["left"]
    take_and_release(tmp_path / "job")


def test_a_lease_ends_with_its_holder_even_by_sigkill(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from jepa.sweep.lease import Lease\n"
    code += "held = Lease.take(Path(sys.argv[1]), {'sitting': 'x'}); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert lease.holder(tmp_path) is not None
    process.kill()
    process.communicate()
    assert lease.holder(tmp_path) is None
    assert lease.last_holder(tmp_path)["sitting"] == "x" and "left" not in lease.last_holder(tmp_path)


def test_a_holder_on_another_machine_is_believed_while_it_touches_its_lease(tmp_path: Path) -> None:
    path = tmp_path / lease.LEASE
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert lease.holder(tmp_path) is not None and lease.Lease.take(tmp_path, {}, patience_s=0) is None
    long_ago = time.time() - 2 * lease.STALE_S
    os.utime(path, (long_ago, long_ago))
    assert lease.holder(tmp_path) is None
    take_and_release(tmp_path)


def test_a_lease_cut_short_by_a_power_loss_can_be_taken(tmp_path: Path) -> None:
    (tmp_path / lease.LEASE).write_text('{"host": "else')
    assert lease.holder(tmp_path) is None
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


def test_the_sweeps_own_file_keeps_earlier_jobs_and_can_be_lost(tmp_path: Path) -> None:
    records.write_state(tmp_path, {"name": "x", "jobs": {"a": {}}})
    records.write_state(tmp_path, {"name": "x", "jobs": {"b": {}}})
    assert set(records.read_state(tmp_path)["jobs"]) == {"a", "b"}
    (tmp_path / "sweep.json").write_text("{torn")
    assert records.read_state(tmp_path) == {}


def test_the_latest_metrics_are_read_from_the_end(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "epoch": step / 10, "loss/total": 1.0 / (step + 1)}) for step in range(500)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 500, "ep')
    found, written = records.last_records(tmp_path)
    assert found[-1]["step"] == 499 and written is not None
    assert records.last_records(tmp_path / "nowhere") == ([], None)


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


# --- journals ------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    lock = FileLock(tmp_path / "lock")
    mend(path, lock)
    for content, expected in [("a\nb\n", "a\nb\n"), ("a\nb", "a\n"), ("a", ""), ("", "")]:
        path.write_text(content)
        mend(path, lock)
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
    held = lease.Lease.take(tmp_path / "d", {})
    (tmp_path / "d" / "metrics.jsonl").write_text(
        '{"epoch": 1.5, "kind": "train", "loss/total": 3.0, "sequences_per_second": 10, "time_s": 4}\n'
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
        ["~logger.wandb", "seed=4"],
    ],
)
def test_jobs_are_composed_as_hydra_composes_them(overrides: list[str]) -> None:
    from hydra import initialize_config_dir

    from jepa.config import config_dir

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
