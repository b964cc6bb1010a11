"""One file that a run, a grid or a search has left is damaged: no number changes, and what is said helps.

The same command then either ends with the results of an undisturbed run, or names the damaged file and the remedy in
one line; other jobs of a sweep are done all the same. The results are looked at before and after.
``JEPA_TEST_SEED=123 pytest -m slow tests/disturbed/test_damage.py`` repeats a run of it.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Place, Undisturbed, case_seed, differences, metrics

CASES = {"single": 90, "grid": 60, "search-plain": 50}  # for each of the two states
REMEDIES = ("rerun=true", "delete", "remove", "move", "rename", "sweep.name=", "another folder")
NUMBERS = ("prediction_rmse_px", "encoder_rmse_px", "verdict")


@pytest.mark.slow
@pytest.mark.parametrize("state", ["finished", "interrupted"])
@pytest.mark.parametrize("name", CASES)
def test_any_damage(
    name: str, state: str, place: Callable[[str], Place], alone: Callable[[str], Undisturbed], tmp_path: Path
) -> None:
    generator = random.Random(f"{case_seed()} {name} {state}")
    damage_and_compare(place(name), alone(name), tmp_path / "before", state, generator, CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_a_little_damage(
    state: str, place: Callable[[str], Place], alone: Callable[[str], Undisturbed], tmp_path: Path
) -> None:
    generator = random.Random(f"{case_seed()} {state}")
    damage_and_compare(place("single"), alone("single"), tmp_path / "before", state, generator, 4)


def damage_and_compare(
    place: Place, alone: Undisturbed, before: Path, state: str, generator: random.Random, cases: int
) -> None:
    """Damage one file of the scenario's folder, ``cases`` times from the same ``state``."""
    make(place, alone, state)
    shutil.copytree(place.folder, before)
    shown = numbers(place)
    faults: list[str] = []
    for _ in range(cases):
        shutil.rmtree(place.folder)
        shutil.copytree(before, place.folder)
        path = generator.choice(sorted(path for path in place.folder.rglob("*") if path.is_file()))
        words = damage(path, generator)
        name = path.relative_to(place.folder)
        faults += [f"{name}, {words}: {fault}" for fault in outcome(place, alone, path, shown)]
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)


def make(place: Place, alone: Undisturbed, state: str) -> None:
    """Bring the scenario's folder into a state: finished, or killed with a checkpoint in a job without a result."""
    kill_at = None if state == "finished" else alone.operations * 9 // 10
    while True:
        place.clear()
        place.run(kill_at=kill_at).wait_gone()
        folders = [path.parent.parent for path in place.folder.rglob("last.pt")]
        if kill_at is None or any(not (folder / "result.json").exists() for folder in folders):
            return
        kill_at -= 1


def damage(path: Path, generator: random.Random) -> str:
    """Flip one bit of a file, cut it short, or empty it; what was done, in words."""
    data = bytearray(path.read_bytes())
    kind = generator.choice(["flip", "flip", "cut", "empty"]) if data else "empty"
    if kind == "flip":
        bit = generator.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        words = f"bit {bit} flipped"
    else:
        length = generator.randrange(len(data)) if kind == "cut" else 0
        words = f"cut to {length} of {len(data)} bytes"
        del data[length:]
    path.write_bytes(data)
    return words


def outcome(place: Place, alone: Undisturbed, path: Path, shown: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong with what the results and the command make of a damaged file at ``path``."""
    faults = [
        f"the results show {key}={value} of {folder}, not {shown.get(folder, {}).get(key)}"
        for folder, found in numbers(place).items()
        for key, value in found.items()
        if value is not None and value != shown.get(folder, {}).get(key)
    ]
    command = place.run()
    command.wait_gone()
    numbers(place)
    expected = {name.removesuffix("/result.json"): result for name, result in alone.contents.items()}
    done = metrics(place.folder)
    job = next((folder for folder in done.keys() | expected.keys() if (place.folder / folder) in path.parents), None)
    changed = differences(done, {name: expected.get(name) for name in done})
    if changed:
        faults.append(f"other numbers: {changed[:3]}")
    missing = {name for name, result in expected.items() if "status" in result} - done.keys()
    if command.code == 0 and missing:
        faults.append(f"exit code 0 without {sorted(missing)}")
    if missing - {job} and place.scenario.jobs > 1:
        faults.append(f"other jobs stopped: {sorted(missing - {job})}")
    if "Traceback" in command.said:
        faults.append("a traceback")
    if command.code != 0 and not helpful(command.said, path):
        faults.append("no line names the file and the remedy")
    return [f"{fault}\n{command.said}" for fault in faults]


def helpful(said: str, path: Path) -> bool:
    """Whether one line names the file, or its folder, and says what to do."""
    names = (path.name, path.parent.name)
    return any(
        any(name in line for name in names) and any(remedy in line for remedy in REMEDIES) for line in said.splitlines()
    )


def numbers(place: Place) -> dict[str, dict[str, Any]]:
    """By folder, the numbers that ``jepa.results`` shows of the runs."""
    shown = place.look("--runs", "--json", "-")
    rows = json.loads(shown.out) if shown.code == 0 and shown.out.strip() else []
    return {str(row["folder"]): {key: row.get(key) for key in NUMBERS} for row in rows}
