"""Loss curves and probe results at production size are those recorded: nothing has moved the numbers."""

from __future__ import annotations

import json

import pytest
from record_curves import MODELS, NUM_STEPS, RECORDED, largest_difference, probe_difference, record

# Two processors, or a kernel and its plain equivalent, differ by rounding, which 60 steps of training amplify. For each
# model the largest relative difference of a loss in 5 steps and in 60: five times what AVX2 gives against AVX-512.
TOLERANCES = {
    "vicreg": (1e-6, 1e-5),
    "simclr": (1e-6, 1e-5),
    "rssm": (1e-4, 2.5e-2),
    "idm": (1e-6, 1e-5),
    "supervised": (1e-6, 4e-3),
}
PROBE_PX = 0.05


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_sixty_steps_are_those_recorded(model: str) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[f"{model}/fp32"]
    ours = record(model, "fp32")
    early, late = TOLERANCES[model]
    assert largest_difference(ours, recorded, steps=5) < early
    assert largest_difference(ours, recorded, steps=NUM_STEPS) < late
    assert probe_difference(ours, recorded) < PROBE_PX


def test_a_moved_loss_or_probe_is_seen() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["vicreg/fp32"]
    moved = json.loads(json.dumps(recorded))
    moved["loss/prediction"][3] += 2e-6 * max(moved["loss/prediction"])
    assert TOLERANCES["vicreg"][0] < largest_difference(moved, recorded, steps=5) < 3e-6
    moved["probes"]["prediction_rmse_px"] += 0.06
    assert probe_difference(moved, recorded) > PROBE_PX
    del moved["loss/variance"]
    assert largest_difference(moved, recorded) == float("inf")
