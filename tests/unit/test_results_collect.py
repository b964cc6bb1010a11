"""Finding runs, the index, and what each state of a folder is called."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from results_samples import compose, config_hash, job_name, write_grid, write_run, write_unfinished

from jepa.results import collect as collect_module
from jepa.results import index
from jepa.results.collect import collect
from jepa.results.records import ResultsError, Run
from jepa.results.run_files import latest_metrics

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/locks is Linux's")
TRAIN = {"step": 100, "epoch": 12.5, "kind": "train", "loss/total": 3.0}


def age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    for path in folder.iterdir():
        os.utime(path, (then, then))


def by_name(root: Path) -> dict[str, Run]:
    return {run.name: run for run in collect([str(root)]).runs}


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    original = collect_module.read_record

    def counting(folder: str, stamp: list[list[object]]) -> dict[str, object]:
        read.append(folder)
        return original(folder, stamp)

    monkeypatch.setattr(collect_module, "read_record", counting)
    return read


def test_folders_of_every_kind(tmp_path: Path) -> None:
    write_grid(tmp_path / "one", noises=2, seeds=1)
    single = write_run(tmp_path / "two" / "deeper", ["seed=7"])
    (tmp_path / "one" / "checkpoints").mkdir()
    (tmp_path / "empty").mkdir()
    assert len(collect([str(tmp_path)]).runs) == 7
    assert len(collect([str(tmp_path / "one"), str(tmp_path / "two")]).runs) == 7
    assert len(collect([str(tmp_path), str(tmp_path / "one")]).runs) == 7
    only = collect([str(single) + "/"])
    assert only.single and [run.folder for run in only.runs] == [str(single)]
    assert only.runs[0].fields["sweep"] == "deeper"
    with pytest.raises(ResultsError, match=f"no such folder; did you mean {tmp_path}/one"):
        collect([str(tmp_path / "onne")])
    with pytest.raises(ResultsError, match="no runs in it"):
        collect([str(tmp_path / "empty")])


def test_a_record_holds_what_the_files_say(tmp_path: Path) -> None:
    overrides = ["model=rssm", "dataset.static_noise=1.5", "seed=2"]
    folder = write_run(tmp_path, overrides)
    run = by_name(tmp_path)[folder.name]
    assert run.status == "finished" and run.overrides == tuple(overrides)
    assert run.choices["model"] == "rssm" and "choices" not in {key.partition(".")[0] for key in run.config}
    assert run.config["dataset.static_noise"] == 1.5
    assert run.fields["command"] == "python -m jepa.run model=rssm dataset.static_noise=1.5 seed=2"
    assert run.value("prediction_rmse_px_per_dot.0") == run.value("prediction_rmse_px")


def test_a_second_look_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = write_grid(tmp_path, noises=2, seeds=2)
    read = count_reads(monkeypatch)
    first = collect([str(tmp_path)]).runs
    assert len(read) == len(folders)
    read.clear()
    assert collect([str(tmp_path)]).runs == first
    assert read == []
    result = json.loads((folders[0] / "result.json").read_text())
    result["metrics"]["prediction_rmse_px"] = 123.0
    (folders[0] / "result.json").write_text(json.dumps(result))
    for path in folders[1].iterdir():
        path.unlink()
    folders[1].rmdir()
    found = by_name(tmp_path)
    assert read == [str(folders[0])]
    assert found[folders[0].name].metrics["prediction_rmse_px"] == 123.0
    assert folders[1].name not in found
    assert set(index.load_index(str(tmp_path))) == set(found)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"version": 1}', '{"version": 0, "base": {}, "runs": {}}', "\x00\xff"]
)
def test_a_damaged_index_is_rebuilt(tmp_path: Path, damage: str) -> None:
    write_grid(tmp_path, noises=1, seeds=1)
    first = collect([str(tmp_path)]).runs
    (tmp_path / index.INDEX).write_text(damage, encoding="latin-1")
    assert collect([str(tmp_path)]).runs == first
    assert len(index.load_index(str(tmp_path))) == 3


def test_a_record_of_another_shape_is_read_again(tmp_path: Path) -> None:
    write_grid(tmp_path, noises=1, seeds=1)
    first = collect([str(tmp_path)]).runs
    stored = json.loads((tmp_path / index.INDEX).read_text())
    next(iter(stored["runs"].values()))[1].pop("metrics")
    (tmp_path / index.INDEX).write_text(json.dumps(stored))
    assert collect([str(tmp_path)]).runs == first


def test_no_index_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_grid(tmp_path, noises=1, seeds=1)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(index.os, "replace", refuse)
    assert len(collect([str(tmp_path)]).runs) == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == []


def test_readers_and_writers_side_by_side(tmp_path: Path) -> None:
    folders = write_grid(tmp_path, noises=2, seeds=2)
    wrong: list[object] = []

    def look() -> None:
        for _ in range(15):
            try:
                count = len(collect([str(tmp_path)]).runs)
            except Exception as error:  # reported by the assertion below
                wrong.append(error)
            else:
                wrong.extend([count] if count != len(folders) else [])

    def disturb() -> None:
        for _ in range(60):
            (tmp_path / index.INDEX).unlink(missing_ok=True)
            time.sleep(0.002)

    threads = [threading.Thread(target=look) for _ in range(4)] + [threading.Thread(target=disturb)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not list(tmp_path.glob(".index*"))


def test_statuses(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"])
    failed = write_run(
        tmp_path, ["seed=1"], status="failed", metrics={}, objective=None, error="RuntimeError: no memory"
    )
    write_run(tmp_path, ["seed=2"], status="pruned")
    nan = write_run(tmp_path, ["seed=3"], objective=None)
    running = write_unfinished(tmp_path, ["seed=4"], [TRAIN])
    stale = write_unfinished(tmp_path, ["seed=5"], [TRAIN])
    age(stale, 3600)
    left = write_unfinished(tmp_path, ["seed=6"], [TRAIN])
    (left / ".lease").write_text(json.dumps({"host": "elsewhere", "left": True}))
    beating = write_unfinished(tmp_path, ["seed=7"], [TRAIN])
    age(beating, 3600)
    (beating / ".lease").write_text(json.dumps({"host": "elsewhere"}))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "result.json").write_text('{"status": "fin')
    found = by_name(tmp_path)
    assert sorted(run.status for run in found.values()) == sorted(
        ["finished", "failed", "pruned", "failed", "running", "interrupted", "interrupted", "running", "failed"]
    )
    assert found[failed.name].fields["error"] == "RuntimeError: no memory"
    assert found[nan.name].fields["error"] == "the objective is not a finite number"
    assert found["broken"].fields["error"].startswith("result.json cannot be read")
    assert found[running.name].status == "running" and found[running.name].fields["epochs_trained"] == 12.5
    assert found[running.name].fields["epochs_total"] == 100
    assert found[stale.name].status == "interrupted" and found[left.name].status == "interrupted"
    assert found[beating.name].status == "running"


@LINUX
def test_a_lock_shows_who_is_at_work_and_is_not_touched(tmp_path: Path) -> None:
    folder = write_unfinished(tmp_path, ["seed=0"], [TRAIN])
    with open(folder / ".lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        age(folder, 3600)
        if f":{os.fstat(file.fileno()).st_ino} " not in Path("/proc/locks").read_text():
            pytest.skip("this system hides its locks")
        assert by_name(tmp_path)[folder.name].status == "running"
    assert by_name(tmp_path)[folder.name].status == "interrupted"


def test_an_earlier_run_moved_aside_is_not_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path, ["seed=0"])
    write_run(tmp_path, ["seed=1"]).rename(tmp_path / f"{folder.name}.1")
    assert list(by_name(tmp_path)) == [folder.name]


def test_choices_from_class_names_where_none_were_recorded(tmp_path: Path) -> None:
    config = compose(["model=simclr"])
    del config["choices"]
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"status": "finished", "metrics": {}, "config": config}))
    run = by_name(tmp_path)["x"]
    assert (run.choices["model"], run.choices["optimizer"]) == ("simclr", "lars")


def test_planned_jobs_are_pending(tmp_path: Path) -> None:
    jobs = [["model=vicreg", f"seed={seed}"] for seed in range(3)]
    write_run(tmp_path, jobs[1])
    plan = {"axes": {"seed": ["0", "1", "2"]}, "jobs": {job_name(job): {"overrides": job} for job in jobs}}
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    found = by_name(tmp_path)
    assert [found[job_name(job)].status for job in jobs] == ["pending", "finished", "pending"]
    assert found[job_name(jobs[2])].value("seed") == 2
    assert found[job_name(jobs[2])].fields["command"] == "python -m jepa.run model=vicreg seed=2"


def test_a_search_keeps_the_order_of_its_trials(tmp_path: Path) -> None:
    jobs = [[f"optimizer.base_lr={rate}"] for rate in (0.3, 0.1, 0.2)]
    for job in reversed(jobs):
        write_run(tmp_path, job)
    plan: dict[str, Any] = {
        "axes": {"optimizer.base_lr": []},
        "jobs": {job_name(job): {"overrides": job} for job in jobs},
    }
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    found = by_name(tmp_path)
    assert [found[config_hash(compose(job))].fields["trial"] for job in jobs] == [0, 1, 2]
    for number, job in zip((4, 1, 7), plan["jobs"].values(), strict=True):
        job["label"] = f"trial {number}: base_lr=1"
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    found = by_name(tmp_path)
    assert [found[config_hash(compose(job))].fields["trial"] for job in jobs] == [4, 1, 7]
    assert next(iter(collect([str(tmp_path)]).plans.values())).search


def test_the_newest_metrics_are_read_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    probe = {"step": 1, "kind": "probe", "prediction_rmse_px": 4.5}
    many = [{"step": step, "kind": "train", "loss/total": step / 10, "padding": "x" * 200} for step in range(2, 5000)]
    path.write_text("".join(json.dumps(record) + "\n" for record in [probe, *many]) + '{"step": 9999, "loss/tot')
    latest = latest_metrics(str(path))
    assert latest["loss/total"] == 499.9 and latest["prediction_rmse_px"] == 4.5 and latest["step"] == 4999
    assert latest_metrics(str(tmp_path / "nothing")) == {}
