"""The wandb logger, against wandb itself: offline runs are written for real and their files read back."""

from __future__ import annotations

import json
import logging
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from matplotlib.figure import Figure
from wandb.proto import wandb_internal_pb2

from jepa.errors import ConfigError
from jepa.loggers.base import RunInfo
from jepa.loggers.wandb import WandbLogger

CONFIG = {"seed": 3, "dataset": {"static_noise": 1.25, "size": 10000}, "model": {"name": "vicreg", "tags": ["a", "b"]}}
PROVENANCE = {
    "config_hash": "0123456789",
    "command": "python -m jepa.run seed=3",
    "code": {"commit": "abc", "dirty": False, "fingerprint": "0123456789ab"},
    "git_commit": "abc",
    "versions": {"torch": "2.13"},
}
RECORD = {"config": CONFIG, **PROVENANCE, "started": "today"}
RESULT = {
    "status": "finished",
    "verdict": "tracks",
    "objective": 2.25,
    "error": None,
    "metrics": {"prediction_rmse_px": 2.25, "prediction_rmse_px_per_step": [0.5, 4.0]},
}


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """wandb as on a machine where nobody has logged in; its service ends with the test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    yield
    wandb.teardown()


def logger(mode: str | None = "offline", **labels: Any) -> WandbLogger:
    settings: dict[str, Any] = {"project": "dots", "entity": None, "group": "a-sweep", "name": None}
    settings["tags"] = ["noise=1"]
    return WandbLogger(mode=mode, **{**settings, **labels})


def begin(one: WandbLogger, folder: Path, step: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    one.start(RunInfo(folder, RECORD, step, total_steps=20, steps_per_epoch=10, sweep="a-sweep"))


def write_run(one: WandbLogger, folder: Path) -> None:
    begin(one, folder)
    one.record({"step": 10, "epoch": 1.0, "kind": "train", "loss/total": 0.5})
    one.record({"step": 20, "epoch": 2.0, "kind": "train", "loss/total": float("nan")})
    one.record({"step": 20, "epoch": 2.0, "kind": "probe", "prediction_rmse_px": 2.25})
    Figure(figsize=(1, 1)).savefig(folder / "losses.png")
    one.plot("losses", folder / "losses.png")
    one.finish(RESULT)


def read_wandb(folder: Path) -> list[wandb_internal_pb2.Record]:
    """All records of the only .wandb file of a finished run's folder; wandb's service may write on for a moment."""
    [path] = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        records = list(parse(path.read_bytes()))
        if any(record.HasField("exit") for record in records):
            return records
        time.sleep(0.05)
    raise AssertionError(f"{path}: the run has no end")


def parse(data: bytes) -> Iterator[wandb_internal_pb2.Record]:
    """Records in LevelDB's log format: parts in blocks of 32 KiB, after a header of 7 bytes."""
    block, offset, parts = 32768, 7, b""
    while offset + 7 <= len(data):
        rest = block - offset % block
        if rest < 7:  # too short for a part's own header
            offset += rest
            continue
        _, length, kind = struct.unpack("<IHB", data[offset : offset + 7])
        if offset + 7 + length > len(data):
            return
        parts += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def items(updates: Any) -> dict[str, Any]:
    return {update.key or "/".join(update.nested_key): json.loads(update.value_json) for update in updates}


def test_an_offline_run_holds_config_metrics_plots_and_summary(tmp_path: Path) -> None:
    folder = tmp_path / "vicreg-0123456789"
    write_run(logger(), folder)

    records = read_wandb(folder)
    [run] = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.run_group, list(run.tags)) == ("dots", "a-sweep", ["noise=1"])
    assert run.display_name == "vicreg-0123456789"
    assert run.run_id.startswith("0123456789-")
    config = items(run.config.update)
    assert {name: config[name] for name in CONFIG} == CONFIG and config["provenance"] == PROVENANCE

    history = [items(record.history.item) for record in records if record.HasField("history")]
    assert [row["step"] for row in history] == [10, 20, 20, 20]
    assert history[0]["loss/total"] == 0.5
    assert history[2]["prediction_rmse_px"] == 2.25
    picture = history[3]["plots/losses/path"]
    [run_folder] = (folder / "wandb").glob("offline-run-*")
    assert (run_folder / "files" / picture).read_bytes() == (folder / "losses.png").read_bytes()

    summary: dict[str, Any] = {}
    for record in records:
        if record.HasField("summary"):
            summary |= items(record.summary.update)
    metrics = RESULT["metrics"]
    assert isinstance(metrics, dict)
    assert {name: summary[name] for name in metrics} == metrics
    assert (summary["verdict"], summary["status"], summary["objective"]) == ("tracks", "finished", 2.25)
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]


def test_jobs_in_one_process_have_runs_of_their_own(tmp_path: Path) -> None:
    first, second = logger(), logger()
    begin(first, tmp_path / "a")
    begin(second, tmp_path / "b")
    first.record({"step": 1, "loss/total": 1.0})
    second.record({"step": 2, "loss/total": 2.0})
    first.finish({"status": "failed", "error": "out of memory"})
    second.record({"step": 3, "loss/total": 3.0})
    second.finish({"status": "interrupted"})

    seen = {}
    for name in ("a", "b"):
        records = read_wandb(tmp_path / name)
        [run_id] = {record.run.run_id for record in records if record.HasField("run")}
        steps = [items(record.history.item)["step"] for record in records if record.HasField("history")]
        seen[run_id] = (steps, [record.exit.exit_code for record in records if record.HasField("exit")])
    assert list(seen.values()) == [([1], [1]), ([2, 3], [1])]


def test_a_resumed_run_keeps_its_id_and_a_new_folder_gets_a_new_one(tmp_path: Path) -> None:
    names = []
    for folder, step in ((tmp_path / "a", 0), (tmp_path / "a", 10), (tmp_path / "b", 0)):
        one = logger()
        begin(one, folder, step)
        names.append((folder / "wandb" / "id.txt").read_text())
        one.finish({"status": "interrupted"})
    assert names[0] == names[1] != names[2]


def test_online_without_a_login_goes_offline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_run(logger("online"), tmp_path / "run")
    assert [record.message for record in caplog.records if record.name.startswith("jepa")] == [
        "wandb (online): no login is configured; going on offline"
    ]
    assert any(record.HasField("summary") for record in read_wandb(tmp_path / "run"))


def test_online_without_a_network_goes_offline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody answers
    monkeypatch.setattr("jepa.loggers.wandb._INIT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(wandb, "login", lambda prompt: True)  # its own wait of 10 s is left out
    write_run(logger("online"), tmp_path / "run")
    [warning] = [record.message for record in caplog.records if record.name.startswith("jepa")]
    assert warning.startswith("wandb (online): ") and warning.endswith("; going on offline")
    assert any(record.HasField("summary") for record in read_wandb(tmp_path / "run"))


def test_a_failing_wandb_is_left_alone_after_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the service is gone\nand a long traceback")

    one = logger()
    begin(one, tmp_path / "run")
    real, one._run = one._run, SimpleNamespace(log=fail, finish=fail, summary={})
    one.record({"step": 1})
    one.record({"step": 2})
    one.finish(RESULT)
    real.finish()
    assert [record.message for record in caplog.records if record.name.startswith("jepa")] == [
        "wandb: the service is gone; the run goes on without it"
    ]


def test_a_wandb_that_cannot_start_does_not_stop_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # not installed
    write_run(logger(), tmp_path / "run")
    [record] = caplog.records
    assert record.levelno == logging.WARNING and record.message.endswith("the run goes on without it")


@pytest.mark.parametrize("tag", ["optimizer.base_lr=" + "9" * 60, "", "  ", "ü" * 70])
def test_no_tag_costs_a_run_its_wandb_run(tmp_path: Path, tag: str, caplog: pytest.LogCaptureFixture) -> None:
    write_run(logger(tags=["vicreg", tag, "vicreg"]), tmp_path / "run")
    [run] = [record.run for record in read_wandb(tmp_path / "run") if record.HasField("run")]
    assert list(run.tags)[0] == "vicreg" and len(run.tags) == (2 if tag.strip() else 1)
    assert all(len(found) <= 64 for found in run.tags)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_wandbs_variables_count_where_the_configuration_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PROJECT", "ENTITY", "RUN_GROUP", "NAME"):
        monkeypatch.setenv(f"WANDB_{name}", f"my-{name.lower()}")
    silent: dict[str, Any] = dict.fromkeys(("project", "entity", "group", "name"))
    write_run(logger(None, **silent), tmp_path / "silent")
    told = {"project": "other", "entity": "others", "group": "them", "name": "it"}
    write_run(logger(None, **told), tmp_path / "told")
    found = []
    for folder in ("silent", "told"):
        [run] = [record.run for record in read_wandb(tmp_path / folder) if record.HasField("run")]
        found.append((run.project, run.entity, run.run_group, run.display_name))
    assert found == [("my-project", "my-entity", "my-run_group", "my-name"), tuple(told.values())]


def test_without_words_from_anybody_there_are_defaults(tmp_path: Path) -> None:
    silent: dict[str, Any] = dict.fromkeys(("project", "entity", "group", "name"))
    write_run(logger(None, **silent), tmp_path / "run")
    [run] = [record.run for record in read_wandb(tmp_path / "run") if record.HasField("run")]
    assert (run.project, run.run_group, run.display_name) == ("jepa", "a-sweep", "run")


@pytest.mark.parametrize(
    ("variables", "configured", "mode"),
    [
        ({}, None, "offline"),
        ({"WANDB_MODE": ""}, None, "offline"),
        ({"WANDB_MODE": "disabled"}, None, "disabled"),
        ({"WANDB_MODE": "Online"}, None, "online"),
        ({"WANDB_MODE": "dryrun"}, None, "offline"),
        ({"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, None, "disabled"),
        ({"WANDB_DISABLED": "false", "WANDB_MODE": "online"}, None, "online"),
        ({"WANDB_DISABLED": "true"}, "offline", "offline"),
        ({"WANDB_MODE": "online"}, "disabled", "disabled"),
    ],
)
def test_the_mode_comes_from_the_configuration_then_from_wandbs_variables(
    variables: dict[str, str], configured: str | None, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert logger(configured)._mode == mode


def test_a_misspelt_wandb_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ConfigError, match="WANDB_MODE='ofline'.*did you mean 'offline'"):
        logger(None)


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    write_run(logger("disabled"), tmp_path / "run")
    assert not (tmp_path / "run" / "wandb").exists()


def test_finish_may_come_without_start() -> None:
    logger().finish({"status": "interrupted"})


def test_modes_are_checked() -> None:
    with pytest.raises(ConfigError, match="^mode='ofline'.*did you mean 'offline'"):
        logger("ofline")


def test_wandb_is_imported_only_when_a_run_starts() -> None:
    code = "import sys, jepa.loggers.wandb; print('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
