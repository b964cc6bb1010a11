"""Finding runs, the index, and what each state of a folder is called."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
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
    _, _, body = (tmp_path / index.INDEX).read_bytes().partition(b"\n")
    stored = json.loads(body)
    next(iter(stored["runs"].values()))[1].pop("metrics")
    changed = json.dumps(stored).encode()
    (tmp_path / index.INDEX).write_bytes(hashlib.sha256(changed).hexdigest().encode() + b"\n" + changed)
    assert collect([str(tmp_path)]).runs == first


def test_an_index_with_another_number_in_it_is_not_believed(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"], metrics={"prediction_rmse_px": 2.5})
    first = collect([str(tmp_path)]).runs
    content = (tmp_path / index.INDEX).read_text()
    assert '"prediction_rmse_px":2.5' in content
    (tmp_path / index.INDEX).write_text(content.replace('"prediction_rmse_px":2.5', '"prediction_rmse_px":3.5'))
    assert collect([str(tmp_path)]).runs == first


def test_temporary_indices_of_killed_processes_are_removed(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"])
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    left = tmp_path / f".index.{process.pid}-0123ab.json"
    old = tmp_path / f".index.{os.getpid()}-0123ab.json"
    young = tmp_path / f".index.{os.getpid()}-4567ab.json"
    foreign = tmp_path / ".index.mine.json"
    for path in (left, old, young, foreign):
        path.touch()
    os.utime(old, (0, 0))
    collect([str(tmp_path)])
    assert [path.exists() for path in (left, old, young, foreign)] == [False, False, True, True]


def test_no_index_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_grid(tmp_path, noises=1, seeds=1)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
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
        ["finished", "failed", "pruned", "failed", "running", "interrupted", "interrupted", "running", "damaged"]
    )
    assert found[failed.name].fields["error"] == "RuntimeError: no memory"
    assert found[nan.name].fields["error"] == "the objective is not a finite number"
    assert found[nan.name].fields["reason"] == "not_finite"
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


def test_a_run_that_was_moved_aside_is_known_by_its_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path, ["seed=0"])
    aside = write_run(tmp_path, ["seed=1"]).rename(tmp_path / "any name")
    (aside / "moved_aside.json").write_text('{"from": "x", "moved": "2026-11-01T10:00:00+00:00"}')
    found = collect([str(tmp_path)])
    assert [run.name for run in found.runs] == [folder.name] and found.aside == 1
    assert collect([str(aside)]).single  # asked for by its own name


def test_no_run_is_left_out_for_its_name(tmp_path: Path) -> None:
    """A folder named like one moved aside, or like what a run makes in its own folder, is a run like any other."""
    for seed, name in enumerate(["noise_1", "noise_1.5", "noise_1.6", "plots", "checkpoints", "wandb", "__pycache__"]):
        write_run(tmp_path / "made", [f"seed={seed}"]).rename(tmp_path / name)
    write_unfinished(tmp_path / "made", ["seed=9"], [TRAIN]).rename(tmp_path / "noise_1.7")
    write_run(tmp_path / "wandb" / "plots", ["seed=8"]).rename(tmp_path / "noise_1" / "deeper")
    found = collect([str(tmp_path)])
    assert len(found.runs) == 9 and found.aside == 0


def test_runs_moved_aside_before_they_were_marked_are_known_by_their_configuration(tmp_path: Path) -> None:
    folder = write_run(tmp_path, ["seed=0"])
    write_run(tmp_path / "made", ["seed=0"]).rename(tmp_path / f"{folder.name}.1")
    running = write_unfinished(tmp_path, ["seed=1"], [TRAIN])
    write_run(tmp_path / "made", ["seed=1"]).rename(tmp_path / f"{running.name}.2")
    other = write_run(tmp_path / "made", ["seed=2"]).rename(tmp_path / f"{running.name}.3")
    for _ in range(2):  # from the files, then from the index
        found = collect([str(tmp_path)])
        assert {run.name for run in found.runs} == {folder.name, running.name, other.name} and found.aside == 2


def test_a_folder_of_configurations_is_no_run(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=0"])
    for name in ("conf", "wandb/run-1/files"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("seed: 0\n")
    started = tmp_path / "started"
    started.mkdir()
    (started / "config.yaml").write_text("seed: 0\n")
    (started / ".lock").touch()
    assert len(collect([str(tmp_path)]).runs) == 2


def test_links_lead_nowhere_or_round(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "sweep", ["seed=0"])
    (tmp_path / "sweep" / "round").symlink_to(tmp_path)
    (tmp_path / "sweep" / "twice").symlink_to(folder)
    (tmp_path / "latest").symlink_to(tmp_path / "sweep")
    (tmp_path / "sweep" / "itself").symlink_to("itself")
    (tmp_path / "sweep.json").symlink_to("sweep.json")
    assert [run.folder for run in collect([str(tmp_path), str(tmp_path / "latest")]).runs] == [str(folder)]
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"axes": {}, "jobs": {"itself": {}, "file": {}}}))
    (tmp_path / "sweep" / "file").touch()
    found = by_name(tmp_path)
    assert sorted(run.status for run in found.values()) == ["damaged", "damaged", "finished"]
    assert found["itself"].fields["error"] == "cannot be entered (not a folder)"


def test_a_folder_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = write_run(tmp_path, ["seed=0"])
    write_run(tmp_path, ["seed=1"])
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith(locked.name))  # root may do anything
    found = by_name(tmp_path)
    assert sorted(run.status for run in found.values()) == ["damaged", "finished"]
    assert found[locked.name].fields["error"] == "cannot be entered (Permission denied)"


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "content",
    [
        "", "{", '{"status": "fin', '{"status": "finished"}', "[]", "null", "7",
        '{"status": 3}', '{"status": "done"}', DEEP,
        '{"status": "pruned", "metrics": [], "config": {}}', "\x00\xff\x80 junk",
        '{"status": "finished", "metrics": {}, "config": 3}',
        None, "link",
    ],
)  # fmt: skip
def test_a_damaged_result_is_named_with_the_remedy_and_the_rest_is_shown(tmp_path: Path, content: str | None) -> None:
    write_grid(tmp_path, noises=2, seeds=2)
    overrides = ["model=vicreg", "dataset.static_noise=0.0", "seed=7"]
    folder = write_unfinished(tmp_path, overrides, [TRAIN])
    path = folder / "result.json"
    if content is None:
        path.mkdir()
    elif content == "link":
        path.symlink_to(path)
    else:
        path.write_text(content, encoding="latin-1")
    for _ in range(2):  # from the files, then from the index
        found = by_name(tmp_path)
        assert len(found) == 13
        run = found.pop(folder.name)
        assert {other.status for other in found.values()} == {"finished"}
        assert run.status == "damaged" and run.fields["error"].startswith("result.json ")
        assert "remove that file" in run.fields["remedy"]
        assert run.config["dataset.static_noise"] == 0.0 and run.fields["epochs_trained"] == 12.5


@pytest.mark.parametrize("name", ["config.yaml", "overrides.yaml", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["\t: {", "\x00\xff", "&a [*a]", "a: 2026-99-99", DEEP, None])
def test_another_damaged_file_of_an_unfinished_run(tmp_path: Path, name: str, content: str | None) -> None:
    write_grid(tmp_path, noises=1, seeds=1)
    folder = write_unfinished(tmp_path, ["seed=7"], [TRAIN])
    (folder / name).unlink()
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_text(content, encoding="latin-1")
    run = by_name(tmp_path)[folder.name]
    if (
        name == "metrics.jsonl" and content is not None
    ):  # its lines are numbers on the way; those that can be read count
        assert run.status == "running"
        return
    if (name, content) == ("overrides.yaml", "&a [*a]"):  # a list, as it should be
        return
    assert (
        run.status == "damaged" and run.fields["error"].startswith(name) and "remove the folder" in run.fields["remedy"]
    )


def test_strange_values_in_a_sound_result(tmp_path: Path) -> None:
    metrics = {"prediction_rmse_px": "word", "a": {"b": 1}, "b": [1, "x"], "c": 10**400, "encoder_rmse_px": 2.0}
    folder = write_run(tmp_path, ["seed=0"], metrics=metrics, seed=[1], verdict={"x": 1}, trial="y")
    write_run(tmp_path, ["seed=1"])
    assert by_name(tmp_path)[folder.name].metrics == {"encoder_rmse_px": 2.0}


@pytest.mark.parametrize("content", ["", "[]", "\x00\xff", DEEP, None])
def test_a_damaged_sweep_file_is_named(tmp_path: Path, content: str | None) -> None:
    write_grid(tmp_path, noises=1, seeds=1)
    if content is None:
        (tmp_path / "sweep.json").mkdir()
    else:
        (tmp_path / "sweep.json").write_text(content, encoding="latin-1")
    found = collect([str(tmp_path)])
    assert len(found.runs) == 3 and f"{tmp_path}/sweep.json" in found.notes[0]


def test_choices_from_class_names_where_none_were_recorded(tmp_path: Path) -> None:
    config = compose(["model=simclr"])
    config["model"]["_target_"] = "jepa.objectives.info_nce.SimCLR"  # results of that time have a class a method
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
    for number, job in zip((5, 2, 8), plan["jobs"].values(), strict=True):
        job["trial"] = number  # counts more than the label
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    found = by_name(tmp_path)
    assert [found[config_hash(compose(job))].fields["trial"] for job in jobs] == [5, 2, 8]
    assert next(iter(collect([str(tmp_path)]).plans.values())).search
