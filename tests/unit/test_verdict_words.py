"""What a run learnt in words: measured runs of known outcome, the borders, and where the words stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from results_samples import write_run

from jepa.results import cli
from jepa.results.run_summary import summary_lines
from jepa.results.verdict import background_words, learnt_lines, shortcut_words

NAMES = ("allocation_ratio", "final_loss", "shuffled_actions_loss", "trivial_loss", "collapsed_loss")
# Measured at 320 steps of 64 sequences (docs/diagnostics.md); what is known of each run beside these numbers: its RMSE.
MEASURED = {
    "vicreg, fixed 1.25": ((33.3, 2.4985, 2.4985, 2.2683, 9.0464), "seen", "found"),  # 9.57 px
    "simclr, fixed 1.25": ((42.9, 4.7222, 4.7222, 4.7183, 4.8442), "seen", "found"),  # 9.43 px
    "idm, fixed 1.25": ((0.2212, 0.0130, 0.2375, 0.0416, 0.0416), "not seen", "not found"),  # 1.35 px
    "vicreg, changing 1": ((0.1312, 6.9427, 8.3181, 8.6322, 9.0464), "not seen", "not found"),  # 1.10 px
}


def metrics(values: tuple[float, ...]) -> dict[str, Any]:
    return {"prediction_rmse_px": 9.57, **dict(zip(NAMES, values, strict=True))}


@pytest.mark.parametrize("name", MEASURED)
def test_the_words_are_right_on_measured_runs(name: str) -> None:
    values, background, shortcut = MEASURED[name]
    assert (background_words(metrics(values)), shortcut_words(metrics(values))) == (background, shortcut)


def test_a_run_on_clean_data_has_no_background_and_no_shortcut() -> None:
    clean = {"final_loss": 6.85, "shuffled_actions_loss": 8.38, "collapsed_loss": 9.05}
    assert background_words(clean) is None and shortcut_words(clean) is None
    assert shortcut_words({**clean, "trivial_loss": float("nan")}) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "found"),  # collapsed 10, a copy 2: training must gain 6, and the actions at most a tenth of its gain
        ({"final_loss": 4.0, "shuffled_actions_loss": 4.6}, "found"),
        ({"final_loss": 4.1, "shuffled_actions_loss": 4.1}, "not found"),
        ({"final_loss": 4.0, "shuffled_actions_loss": 4.7}, "not found"),
        ({"trivial_loss": 9.95}, "not found"),  # a copy gains nothing
    ],
)
def test_the_borders_of_the_shortcut(changes: dict[str, float], expected: str) -> None:
    base = {"final_loss": 2.0, "shuffled_actions_loss": 2.1, "trivial_loss": 2.0, "collapsed_loss": 10.0}
    assert shortcut_words({**base, **changes}) == expected


def test_the_border_of_the_background() -> None:
    assert [background_words({"allocation_ratio": ratio}) for ratio in (0.49, 0.5)] == ["not seen", "seen"]


def test_the_words_and_their_numbers_stand_in_the_run_and_in_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = metrics(MEASURED["vicreg, fixed 1.25"][0])
    told = {"verdict": "ignores the dot", "background": "seen", "shortcut": "found", "metrics": values}
    folder = write_run(tmp_path, ["seed=1"], **told)
    write_run(tmp_path, ["seed=2"], **{**told, "shortcut": "not found"})
    assert cli.main([str(tmp_path), "--runs"]) == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("seed"))
    assert header.split()[-4:] == ["verdict", "background", "shortcut", "folder"]
    assert cli.main([str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "ignores the dot; sees the background; shortcut found\n  prediction RMSE 9.57 px" in shown
    assert "another overlay moves the embedding 33.3 times as far as other dots do" in shown
    losses = "loss 2.498; with the actions of other sequences 2.498; of a copy of the overlay 2.268; of a collapsed"
    assert losses in shown and losses in "\n".join(summary_lines(told))
    assert learnt_lines({"verdict": "tracks", "metrics": {}}) == []
