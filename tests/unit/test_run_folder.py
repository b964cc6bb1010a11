"""What a run makes of a folder that is not empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jepa.errors import ConfigError
from jepa.run_folder import inspect, occupied

CONFIG = {"seed": 1, "model": {"sim_coeff": 2.0}}


def test_an_empty_folder_and_a_missing_one_hold_nothing(tmp_path: Path) -> None:
    assert not inspect(tmp_path, CONFIG).exists
    assert not inspect(tmp_path / "new", CONFIG).exists


def test_a_job_that_failed_before_it_began_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"status": "failed", "error": "out of memory"}))
    (tmp_path / "run.log").write_text("failed: out of memory\n")
    assert inspect(tmp_path, CONFIG).status == "failed"


def test_files_whose_configuration_is_lost_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match="without its config.yaml"):
        inspect(tmp_path, CONFIG)


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    with occupied(tmp_path, config=CONFIG, overrides=[], aside=False):
        pass
    with pytest.raises(ConfigError, match=r"model.sim_coeff=2 there, 3.0 here"):
        inspect(tmp_path, {"seed": 1, "model": {"sim_coeff": 3.0}})


def test_a_run_that_is_repeated_keeps_the_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with occupied(folder, config=CONFIG, overrides=[], aside=False):
        (folder / "result.json").write_text("{}")
    with occupied(folder, config=CONFIG, overrides=["seed=1"], aside=True):
        assert not (folder / "result.json").exists()
    assert (tmp_path / "run.1" / "result.json").read_text() == "{}"


def test_nobody_else_works_in_an_occupied_folder(tmp_path: Path) -> None:
    with (
        occupied(tmp_path, config=CONFIG, overrides=[], aside=False),
        pytest.raises(ConfigError, match="another process is at work"),
        occupied(tmp_path, config=CONFIG, overrides=[], aside=False),
    ):
        pass
