"""What an RMSE means: lines to compare it with, and words for where it lies (SPEC §7). Imports nothing."""

from __future__ import annotations

import math
from typing import Literal

Verdict = Literal["ignores the dot", "knows only the start", "tracks"]

# RMSE in px for one dot of the published environment (17 frames, σ = 1.3 px), from 20 000 simulated sequences. They
# hold for the action dot; a figure of other settings shows them for orientation only.
CENTRE = 9.39  # always answering the centre
STATIONARY_CENTRE = 8.92  # the same for a dot that never moves
ACTIONS_ONLY = 7.79  # the best linear guess from the actions alone
START_ONLY = 5.57  # from the start alone
START_AND_ACTIONS_LINEAR = 1.82  # from the start and the actions, linear
START_AND_CLIPPED_SUM = 1.16  # the start plus the summed actions, clipped once

# Label and RMSE in px, worst first, of the lines for a moving dot: what tables and figures show.
REFERENCE_LINES: tuple[tuple[str, float], ...] = (
    ("always the centre", CENTRE),
    ("actions alone", ACTIONS_ONLY),
    ("start alone", START_ONLY),
    ("start and actions, linear", START_AND_ACTIONS_LINEAR),
    ("start plus summed actions, clipped once", START_AND_CLIPPED_SUM),
)

# The verdict's borders, half-way between what the words on either side would score.
IGNORES_FROM = (CENTRE + START_ONLY) / 2  # 7.48 px; what actions alone give lies beyond it
TRACKS_BELOW = (START_ONLY + START_AND_ACTIONS_LINEAR) / 2  # 3.70 px


def verdict(prediction_rmse_px: float | None) -> Verdict:
    """Words for a prediction RMSE in px of the action dot, over all time steps.

    "ignores the dot": at least half-way from the start-only line to always answering the centre; also what knows only
    the actions, and an RMSE that is not a number (None, NaN): nothing could be read from the representation.
    "tracks": below half-way from the start-only line to the linear use of start and actions.
    "knows only the start": between the two.

    With several dots, give the action dot's own RMSE (``prediction_rmse_px_per_dot[0]``): nothing tells where the
    random dot goes.
    """
    if prediction_rmse_px is None or not math.isfinite(prediction_rmse_px) or prediction_rmse_px >= IGNORES_FROM:
        return "ignores the dot"
    return "tracks" if prediction_rmse_px < TRACKS_BELOW else "knows only the start"
