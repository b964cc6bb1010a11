"""Archives of results: whole again when read, small, read like a sweep, reused by one, and refused when damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from results_samples import write_grid, write_run

from jepa.files import Damaged
from jepa.results.cli import main
from jepa.results.collect import collect
from jepa.run import command_line
from jepa.store.archive import MOST_RECORDS, archived_run, read_archive, thinned
from jepa.store.result import read_result, write_result
from jepa.sweep import records

TRAIN = [{"step": step, "epoch": step / 10, "kind": "train", "loss/total": 1 / 3 + step} for step in range(1, 201)]
PROBES = [{"step": step, "epoch": step / 10, "kind": "probe", "prediction_rmse_px": 2.0 / step} for step in (100, 200)]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A grid of 36 runs, and its archive in ``tmp_path / "archive"``."""
    folder = tmp_path / "fixed_uniform"
    for run in write_grid(folder):
        lines = sorted([*TRAIN, *PROBES], key=lambda record: record["step"])
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main([str(folder), "--archive", str(tmp_path / "archive")]) == 0
    return folder


def test_an_archive_holds_every_result_whole(study: Path, tmp_path: Path) -> None:
    archive = read_archive(tmp_path / "archive")
    assert archive is not None and archive.title == "fixed_uniform"
    assert sorted(archive.runs) == sorted(path.parent.name for path in study.glob("*/result.json"))
    for name, run in archive.runs.items():
        assert run.result == read_result(study / name)
        assert [record for record in run.records if record["kind"] == "probe"] == PROBES
        trained = [record for record in run.records if record["kind"] == "train"]
        assert MOST_RECORDS // 2 < len(trained) <= MOST_RECORDS and trained[-1]["step"] == 200
        assert trained[-1]["loss/total"] == pytest.approx(TRAIN[-1]["loss/total"], rel=1e-5)


def test_an_archive_has_no_path_of_the_machine(tmp_path: Path) -> None:
    run = write_run(tmp_path / "grid", ["model=idm"])
    result = read_result(run)
    assert result is not None
    config, origin = {**result["config"], "folder": str(run)}, str(tmp_path / "old" / run.name)
    write_result(run, {**result, "config": config, "reused_from": origin})
    for source in ("grid", "archive"):  # an archive is archived again, too
        assert main([str(tmp_path / source), "--archive", str(tmp_path / "archive")]) == 0
    assert str(tmp_path) not in (tmp_path / "archive" / "archive.jsonl").read_text()
    archive = read_archive(tmp_path / "archive")
    assert archive is not None and archive.runs[run.name].result["reused_from"] == f"old/{run.name}"


def test_an_archive_is_small_and_a_run_more_is_a_line_more(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "archive" / "archive.jsonl"
    assert file.stat().st_size < 36 * 6000
    before = file.read_text().splitlines()[1:]
    write_run(study, ["model=idm", "dataset.static_noise=9.0"])
    assert main([str(study), "--archive", str(tmp_path / "archive")]) == 0
    after = file.read_text().splitlines()[1:]
    assert len(after) == 37 and len(set(after) - set(before)) <= 37 and [*after] == sorted(after, key=name_of)


def name_of(line: str) -> str:
    return str(json.loads(line)["name"])


@pytest.mark.parametrize("question", [[], ["--runs", "--sort", "-rmse"], ["--best", "model"], ["--show", "FIRST"]])
def test_questions_have_the_answers_of_the_sweep(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], question: list[str]
) -> None:
    first = min(path.parent.name for path in study.glob("*/result.json"))
    words = [first if word == "FIRST" else word for word in question]
    capsys.readouterr()
    answers = []
    for folder in (study, tmp_path / "archive"):
        assert main([str(folder), *words]) == 0
        out = capsys.readouterr().out.replace(str(folder), "X").replace("archive:", "fixed_uniform:")
        answers.append([line for line in out.splitlines() if not line.startswith("log ")])  # a run's own file
    assert answers[0] == answers[1] and len(answers[0]) > 3


def test_curves_are_drawn_from_an_archive(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    words = ["--plot", "epoch", "--metric", "loss/total", "--where", "static_noise=0", "--out", str(out)]
    assert main([str(tmp_path / "archive"), *words]) == 0
    assert out.stat().st_size > 10_000


def test_an_archive_of_archives_adds_up(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    write_run(other, ["model=idm"])
    for source in (tmp_path / "archive", other):
        assert main([str(source), "--archive", str(tmp_path / "all")]) == 0
    assert "37 runs" in capsys.readouterr().out
    both = read_archive(tmp_path / "all")
    assert both is not None and len(both.runs) == 37
    assert len(collect([str(tmp_path / "all")]).runs) == 37


def test_a_sweep_takes_results_over_from_an_archive(study: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    shutil.rmtree(study)
    name = next(iter(read_archive(archive).runs))  # type: ignore[union-attr]
    target = tmp_path / "extended" / name
    assert records.earlier_result(archive / name, name) is not None
    assert records.reuse_result(archive / name, target, name)
    assert records.status(target, name) == "finished"
    ours, theirs = read_result(target), archived_run(archive / name)
    assert ours is not None and theirs is not None
    assert ours["metrics"] == theirs.result["metrics"] and ours["reused_from"] == str(archive / name)
    assert (target / "config.yaml").is_file() and (target / "metrics.jsonl").is_file()
    assert not records.reuse_result(archive / name, tmp_path / "x", "0123456789")  # of another configuration
    assert not records.reuse_result(archive / "missing", tmp_path / "y", "missing")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"archive": 1', '"archive": 7', 1), "is an archive of version 7"),
        (lambda text: text[:-30] + text[-29:], "checksum differs"),
        (lambda text: text[: len(text) // 2], "checksum differs"),
        (lambda text: "", "cannot be read"),
        (lambda text: "[1]\n", "is no archive of results"),
    ],
)
def test_a_damaged_archive_is_named(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, said: str
) -> None:
    file = tmp_path / "archive" / "archive.jsonl"
    file.write_text(change(file.read_text()))  # type: ignore[operator]
    capsys.readouterr()
    with pytest.raises(Damaged, match=said):
        read_archive(tmp_path / "archive")
    for words in ([], ["--archive", str(tmp_path / "archive")]):
        source = tmp_path / "archive" if not words else study
        assert main([str(source), *words]) == 2
        error = capsys.readouterr().err
        assert said in error and str(file) in error and error.count("\n") == 1


def test_runs_without_a_result_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "sweep" / "abc"
    empty.mkdir(parents=True)
    (empty / "metrics.jsonl").write_text('{"step": 1, "epoch": 0.1}\n')
    assert main([str(tmp_path / "sweep"), "--archive", str(tmp_path / "archive")]) == 2
    assert "none of 1 runs has a result yet" in capsys.readouterr().err


def test_thinning_keeps_the_last_record_and_every_probe() -> None:
    kept = thinned([*TRAIN, *PROBES])
    assert kept[-2:] == PROBES and kept[-3]["step"] == 200 and len(kept) <= MOST_RECORDS + 2
    assert thinned(TRAIN[:5]) == TRAIN[:5] and thinned([]) == []


def test_a_study_is_extended_from_its_archive_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["dataset.num_steps=3", "dataset.batch_size=8", "probe.fit_sequences=40", "probe.judge_sequences=20"]
    tiny += ["model.encoder.width_factor=1", "model.encoder.embedding_size=8", "plots=false"]
    sweep = ["--multirun", "model=random", *tiny]
    assert command_line([*sweep, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'here'}"]) == 0
    assert main([str(tmp_path / "here"), "--archive", str(tmp_path / "archive")]) == 0
    shutil.rmtree(tmp_path / "here")
    there = [*sweep, "seed=0,1,2", f"reuse={tmp_path / 'archive'}", f"hydra.sweep.dir={tmp_path / 'there'}"]
    capsys.readouterr()
    assert command_line([*there, "dry_run=true"]) == 0
    assert "1 new" in (said := capsys.readouterr().out) and "2 reused" in said
    assert command_line(there) == 0
    results = [read_result(path.parent) for path in (tmp_path / "there").glob("*/result.json")]
    assert sorted("reused_from" in (result or {}) for result in results) == [False, True, True]
    (tmp_path / "archive" / "archive.jsonl").write_text("{}\n")
    capsys.readouterr()
    assert command_line([*there, "dry_run=true"]) == 2
    assert "archive.jsonl: is no archive of results" in capsys.readouterr().err


def test_a_runs_own_folder_counts_before_an_archive_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    run = write_run(folder, ["model=idm"])
    good = json.loads((run / "result.json").read_text())
    bad = {**good, "status": "failed", "metrics": {}, "objective": None, "error": "out of memory"}
    (run / "result.json").write_text(json.dumps(bad))
    assert main([str(folder), "--archive", str(folder)]) == 0
    (run / "result.json").write_text(json.dumps(good))  # the same command has run the job again
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in PROBES))
    for asked in ([folder], [folder, run], [run, folder]):
        [found] = collect(map(str, asked)).runs
        assert found.status == "finished"
    assert main([str(folder), "--archive", str(folder)]) == 0
    archive = read_archive(folder)
    assert archive is not None
    assert archive.runs[run.name].result["status"] == "finished" and archive.runs[run.name].records == PROBES
    shutil.rmtree(run)
    assert [found.status for found in collect([str(folder)]).runs] == ["finished"]
    capsys.readouterr()


def test_runs_of_one_name_are_all_archived(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder, seed in zip(folders, (0, 1, 0), strict=True):
        run = write_run(folder, ["model=idm", f"seed={seed}"])
        run.rename(folder / "mine")
    failed = folders[2] / "mine" / "result.json"
    failed.write_text(json.dumps({**json.loads(failed.read_text()), "status": "failed", "metrics": {}}))
    for asked in (folders, folders[::-1], folders[:1], folders[1:2]):  # together, then one after the other
        assert main([*map(str, asked), "--archive", str(tmp_path / "archive")]) == 0
        archive = read_archive(tmp_path / "archive")
        assert archive is not None
        assert sorted(run.result["seed"] for run in archive.runs.values()) == [0, 1]
        assert {run.result["status"] for run in archive.runs.values()} == {"finished"}


def test_a_failed_run_does_not_replace_a_finished_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "sweep", ["model=idm"])
    words = [str(tmp_path / "sweep"), "--archive", str(tmp_path / "archive")]
    assert main(words) == 0
    failed = {**json.loads((run / "result.json").read_text()), "status": "failed", "metrics": {}, "error": "x"}
    (run / "result.json").write_text(json.dumps(failed))
    capsys.readouterr()
    assert main(words) == 0
    assert "1 runs" in (said := capsys.readouterr().out) and "(0 from here" in said
    [found] = collect([str(tmp_path / "archive")]).runs
    assert found.status == "finished"
