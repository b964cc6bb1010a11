"""What a run learnt besides the dot, in words: whether it sees the background, and whether it found the shortcut.

At run time, this module imports only the standard library. docs/diagnostics.md gives the reasons for the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jepa.results.reference import HARDLY, START_LINE, levels

SEEN, NOT_SEEN = "seen", "not seen"  # the field "background" of ``result.json``
FOUND, NOT_FOUND = "found", "not found"  # the field "shortcut"
FIELDS = ("background", "shortcut")
_SENTENCES = {
    ("background", SEEN): "sees the background",
    ("background", NOT_SEEN): "does not see the background",
    ("shortcut", FOUND): "shortcut found",
    ("shortcut", NOT_FOUND): "shortcut not found",
}

# An embedding sees the background if another overlay moves it at least so far, in units of what other dots move it.
SEES_FROM = 0.5
# The shortcut is found if training gained at least this share of what a copy of the overlay gains ...
COPIED_FROM = 0.75
# ... and of what training gained, at most this share rests on the actions ...
ACTIONS_UP_TO = 0.1
# ... and a copy gains anything: at least this share of the loss of a collapsed encoder, such as 4.84 for SimCLR.
WORTH_COPYING = 0.01


def background_words(metrics: Mapping[str, Any]) -> str | None:
    """SEEN or NOT_SEEN; None if there is no overlay, or the result does not say how far overlays move embeddings."""
    ratio = _number(metrics, "allocation_ratio")
    if ratio is None:
        return None
    return SEEN if ratio >= SEES_FROM else NOT_SEEN


def shortcut_words(metrics: Mapping[str, Any]) -> str | None:
    """FOUND or NOT_FOUND; None if there is no overlay, or if the method's loss is not one of embeddings alone.

    A loss is placed between that of a collapsed encoder and that of an encoder that copies the overlay. A loss that
    does not rise when sequences are given the actions of others rests on nothing that moves with the actions.
    """
    names = ("collapsed_loss", "trivial_loss", "final_loss", "shuffled_actions_loss")
    values = [_number(metrics, name) for name in names]
    if any(value is None for value in values):
        return None
    collapsed, trivial, final, shuffled = (float(value) for value in values if value is not None)
    copy_gain, gain, actions_gain = collapsed - trivial, collapsed - final, shuffled - final
    if copy_gain < WORTH_COPYING * abs(collapsed):
        return NOT_FOUND
    return FOUND if gain >= COPIED_FROM * copy_gain and actions_gain <= ACTIONS_UP_TO * gain else NOT_FOUND


def learnt_lines(result: Mapping[str, Any]) -> list[str]:
    """What was learnt, in words, and the numbers that led there; a line each. Empty if the result says nothing.

    result: as in ``result.json``; its entries verdict, background, shortcut, training, metrics and reference are used.
    """
    words = [result.get("verdict"), *(_SENTENCES.get((name, str(result.get(name)))) for name in FIELDS)]
    if result.get("training") == HARDLY:
        words.append(HARDLY)
    told = [str(word) for word in words if word]
    numbers = _numbers(result)
    if not told or not any(result.get(name) for name in FIELDS):
        return []
    return ["; ".join(told), *(f"  {line}" for line in numbers)]


def _numbers(result: Mapping[str, Any]) -> list[str]:
    metrics = result["metrics"]
    lines = []
    error = _number(metrics, "prediction_rmse_px")
    if error is not None:
        known = dict(levels(result.get("reference"), "prediction_rmse_px"))
        start = f" (from the start alone {known[START_LINE]:.2f})" if START_LINE in known else ""
        lines.append(f"prediction RMSE {error:.2f} px{start}")
    ratio = _number(metrics, "allocation_ratio")
    if ratio is not None:
        lines.append(f"another overlay moves the embedding {ratio:.3g} times as far as other dots do")
    names = ("final_loss", "shuffled_actions_loss", "trivial_loss", "collapsed_loss")
    losses = [_number(metrics, name) for name in names]
    if result.get("shortcut") and all(value is not None for value in losses):
        final, shuffled, trivial, collapsed = (f"{value:.4g}" for value in losses)
        lines.append(
            f"loss {final}; with the actions of other sequences {shuffled}; of a copy of the overlay {trivial}; "
            f"of a collapsed encoder {collapsed}"
        )
    return lines


def _number(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
