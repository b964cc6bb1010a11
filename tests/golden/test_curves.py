"""Loss curves and probe results at production size are those recorded: nothing has moved the numbers."""

from __future__ import annotations

import json

import pytest
from record_curves import MODELS, NUM_STEPS, RECORDED, largest_difference, probe_difference, record

# Two processors, or a kernel and its plain equivalent, differ by rounding, which 60 steps of training amplify.
EARLY, LATE, PROBE_PX = 1e-5, 2e-3, 0.05


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_sixty_steps_are_those_recorded(model: str) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[f"{model}/fp32"]
    ours = record(model, "fp32")
    assert largest_difference(ours, recorded, steps=5) < EARLY
    assert largest_difference(ours, recorded, steps=NUM_STEPS) < LATE
    assert probe_difference(ours, recorded) < PROBE_PX


def test_a_moved_loss_or_probe_is_seen() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["vicreg/fp32"]
    moved = json.loads(json.dumps(recorded))
    moved["loss/prediction"][3] += 2e-5 * max(moved["loss/prediction"])
    assert EARLY < largest_difference(moved, recorded, steps=5) < 3e-5
    moved["probes"]["prediction_rmse_px"] += 0.06
    assert probe_difference(moved, recorded) > PROBE_PX
    del moved["loss/variance"]
    assert largest_difference(moved, recorded) == float("inf")
