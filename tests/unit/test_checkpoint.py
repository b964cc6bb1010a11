"""Checkpoint files: whole or refused, two of them, and whatever else a user points init_from= at."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa.errors import ConfigError
from jepa.store import checkpoint


def state(step: int) -> dict[str, Any]:
    weights = torch.arange(40, dtype=torch.float32) + step
    return {"config_hash": "abc", "step": step, "model": {"w": weights, "b": torch.zeros(3)}}


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def old_format(path: Path, step: int) -> None:
    """As it was written before checkpoints had a checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"format": 1, **state(step)}, path)


def test_no_flipped_bit_and_no_cut_is_ever_read(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(3))
    path = tmp_path / checkpoint.LAST
    whole = path.read_bytes()
    draw = random.Random(0)
    for bit in [*(draw.randrange(8 * len(whole)) for _ in range(200)), 8 * len(whole) - 1]:
        flip(path, bit)
        with pytest.raises(checkpoint.DamagedCheckpoint):
            checkpoint.load(path)
        flip(path, bit)
    for length in [0, 1, 100, len(whole) // 2, len(whole) - 64, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(checkpoint.DamagedCheckpoint):
            checkpoint.load(path)
    path.write_bytes(whole)
    assert checkpoint.load(path)["step"] == 3


def test_a_checkpoint_without_a_checksum_is_read_and_its_numbers_are_checked(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.LAST
    old_format(path, 5)
    assert checkpoint.load_for_resume(path, "abc")["step"] == 5
    weights = path.read_bytes().index(torch.arange(5, 45, dtype=torch.float32).numpy().tobytes())
    flip(path, 8 * weights + 3)
    with pytest.raises(checkpoint.DamagedCheckpoint, match="checksum of its part"):
        checkpoint.load(path)


def test_a_damaged_one_gives_way_to_the_one_before_and_both_to_none(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, state(step))
    last, previous = tmp_path / checkpoint.LAST, tmp_path / checkpoint.PREVIOUS
    assert checkpoint.load(last)["step"] == 3 and checkpoint.load(previous)["step"] == 2
    flip(last, 4000)
    found = checkpoint.latest(tmp_path, "abc")
    assert found.state is not None and found.state["step"] == 2 and found.path == previous
    assert [path for path, _ in found.damaged] == [last] and last.exists()
    flip(previous, 4000)
    found = checkpoint.latest(tmp_path, "abc")
    assert found.state is None and [path for path, _ in found.damaged] == [last, previous]
    assert checkpoint.set_aside(last).name == "last.pt.damaged"
    last.mkdir()  # a folder of that name is no checkpoint either
    assert len(checkpoint.latest(tmp_path, "abc").damaged) == 2
    assert checkpoint.set_aside(last).name == "last.pt.damaged.1"


@pytest.mark.parametrize("operation", ["replace", "fsync", "open"])
def test_a_crash_between_any_two_operations_leaves_a_whole_checkpoint(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    real = getattr(os, operation)
    for crash_at in range(4):
        folder = tmp_path / str(crash_at)
        for step in (1, 2):
            checkpoint.save(folder, state(step))
        calls = iter(range(100))

        def crashing(*arguments: Any, at: int = crash_at, calls: Any = calls, **options: Any) -> Any:
            if next(calls) == at:
                raise Crash
            return real(*arguments, **options)

        monkeypatch.setattr(os, operation, crashing)
        try:
            checkpoint.save(folder, state(3))
        except Crash:
            pass
        finally:
            monkeypatch.setattr(os, operation, real)
        found = checkpoint.latest(folder, "abc")
        assert found.state is not None and found.state["step"] in (2, 3) and not found.damaged


def test_a_full_disk_leaves_the_old_checkpoints_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, state(1))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, state(2))
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / checkpoint.LAST)["step"] == 1
    assert os.listdir(tmp_path / "checkpoints") == ["last.pt"]


def test_numbers_of_numpy_in_a_sound_file_are_no_damage(tmp_path: Path) -> None:
    numbers = {"loss": np.float64(2.5), "epoch": np.int64(3), "flag": np.bool_(True), "half": np.float16(0.5)}
    torch.save({"model": {"w": torch.ones(2)}, **numbers}, tmp_path / "theirs.pt")
    read = checkpoint.load(tmp_path / "theirs.pt")
    assert {name: read[name] for name in numbers} == numbers


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("echo executed",)


@pytest.mark.parametrize("content", ["text", "yaml", "nothing", "zeros", "noise", "png", "code", "list"])
def test_any_other_file_is_refused_on_one_line(
    content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "junk.pt"
    kinds = {
        "text": b"The weights are in the other folder.\n",
        "yaml": b"model:\n  sim_coeff: 25.0\n",
        "nothing": b"",
        "zeros": bytes(5000),
        "noise": random.Random(1).randbytes(5000),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }
    if content in kinds:
        path.write_bytes(kinds[content])
    else:
        torch.save({"model": Evil()} if content == "code" else [1, 2], path)
    with pytest.raises(ConfigError, match=r"junk\.pt") as caught:
        checkpoint.initial_model(path, {"w": torch.zeros(2)})
    assert "\n" not in str(caught.value) and str(caught.value).startswith("init_from=")
    assert "executed" not in capfd.readouterr().out


def test_a_file_that_many_jobs_start_from_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, state(1))
    path, reads = tmp_path / checkpoint.LAST, []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path, called: (reads.append(path), load(path, called))[1])
    for _ in range(3):
        checkpoint.check_initial_model(path, {"w": torch.zeros(40), "b": torch.zeros(3)})
    assert len(reads) == 1
    with pytest.raises(ConfigError, match=r"init_from=.*no weight 'v'"):
        checkpoint.check_initial_model(path, {"v": torch.zeros(40)})
    with pytest.raises(ConfigError, match=r"init_from=.*'w' has shape \[40\], the model needs \[3\]"):
        checkpoint.check_initial_model(path, {"w": torch.zeros(3)})
