"""Reference lines to compare an RMSE with, and a verdict in words.

At run time, this module imports only the standard library.

The environment of a run provides the lines. ``result.json`` holds them under "reference":
``{"num_sequences", "seed", "dots": [K names], "prediction": {"lines": [...]}, "encoder": {"lines": [...]}}``. Each line
is ``{"name", "rmse_px", "per_step_px": [T], "per_dot_px": [K]}``; the last two entries may be missing.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jepa.results.records import Run

Verdict = Literal["ignores the dot", "knows only the start", "tracks"]
Reference = Mapping[str, Any]
Level = tuple[str, float]  # a line's name and its RMSE in px

CENTRE_LINE, ACTIONS_LINE, START_LINE = "always the centre", "actions alone", "start alone"
BOTH_LINE = "start and actions, linear"

# The lines of the published setting (one dot, 17 frames, σ = 1.3 px), from 20 000 simulated sequences. Results of this
# setting that record no lines use these lines.
_PUBLISHED_SETTING = {"num_dots": 1, "num_steps": 17, "dot_std": 1.3}
_PUBLISHED_CLASS = "MovingDots"
_PUBLISHED_LEVELS: tuple[Level, ...] = (
    (CENTRE_LINE, 9.39),
    (ACTIONS_LINE, 7.79),
    (START_LINE, 5.57),
    (BOTH_LINE, 1.82),
    ("start plus summed actions, clipped once", 1.16),
)
PUBLISHED: Reference = {
    "dots": ["action"],
    "prediction": {
        "lines": [{"name": name, "rmse_px": value, "per_dot_px": [value]} for name, value in _PUBLISHED_LEVELS]
    },
    "encoder": {"lines": [{"name": CENTRE_LINE, "rmse_px": 8.9, "per_dot_px": [8.9]}]},
}

# There is no verdict if the lines "start alone" (or "actions alone", if lower) and "start and actions, linear" differ
# by less than this share of the line "always the centre", because the encoder's own error is about as large.
_SMALLEST_GAP = 0.15
# A run whose encoder's weights moved by less than this share of their norm is marked "hardly trained".
HARDLY_TRAINED = 0.05
HARDLY = "hardly trained"
_SAME_PX = 0.1  # lines that differ by less count as equal: their sampling error is below 0.05 px
_METRIC = re.compile(r"(prediction|head|encoder)_rmse_px(?:_per_(step|dot)\.(\d+))?")


# --- the verdict ---------------------------------------------------------------------------------------------------


def verdict(
    metrics: Mapping[str, Any], reference: Reference | None, warnings: Sequence[str] = ()
) -> tuple[Verdict | None, str | None]:
    """Judge the prediction probe's error of the action dot over all time steps.

    - "ignores the dot": the error is at least the middle between the lines "start alone" and "always the centre".
    - "tracks": the error is below the middle between the lower of the lines "start alone" and "actions alone" and the
      line "start and actions, linear".
    - "knows only the start": the error lies between these two limits. There is no verdict if the line "actions alone"
      lies below the upper limit, because the actions alone could then explain the error.

    Args:
        metrics: as in ``result.json``. Of several dots the first one is judged, because the actions move it.
        reference: the run's lines; None if its data set has none. An entry "no_verdict" is a reason for no verdict.
        warnings: reasons why the errors may be larger than the representation's own error. With any warning, the only
            possible verdict is "tracks".

    Returns:
        The verdict and None, or None and the reason why there is no verdict.
    """
    if "prediction_rmse_px" not in metrics:
        return None, "nothing was judged"
    per_dot = metrics.get("prediction_rmse_px_per_dot")
    error = per_dot[0] if per_dot else metrics["prediction_rmse_px"]
    if error is None or not math.isfinite(error):
        return None, "the prediction error is not a number"
    if reference is None:
        return None, "the data set has no reference lines"
    if reference.get("no_verdict"):
        return None, reference["no_verdict"]
    lines = {line["name"]: line["per_dot_px"][0] for line in reference["prediction"]["lines"]}
    if not {CENTRE_LINE, ACTIONS_LINE, START_LINE, BOTH_LINE} <= set(lines):
        return None, "the data set's reference lines are others than a verdict needs"
    words, reason = _place(error, lines[CENTRE_LINE], lines[ACTIONS_LINE], lines[START_LINE], lines[BOTH_LINE])
    if warnings and words != "tracks":
        return None, "the error may be the probe's own: see the warnings"
    return words, reason


def _place(error: float, centre: float, actions: float, start: float, both: float) -> tuple[Verdict | None, str | None]:
    """The verdict on an error among four lines, all in px."""
    one_alone = min(actions, start)
    if one_alone - both < _SMALLEST_GAP * centre:
        name = START_LINE if start <= actions else ACTIONS_LINE
        reason = f'the lines "{name}" ({one_alone:.2f} px) and "{BOTH_LINE}" ({both:.2f} px) lie too close together'
        return None, f"{reason}: dataset.num_steps is too small, or dataset.dot_std too large"
    ignores_from = (centre + start) / 2
    if error >= ignores_from:
        return "ignores the dot", None
    if error < (one_alone + both) / 2:
        return "tracks", None
    if actions < ignores_from:
        reason = f"an error of {error:.2f} px can come from the start alone ({start:.2f}) as from the actions alone"
        return None, f"{reason} ({actions:.2f})"
    return "knows only the start", None


def training_words(metrics: Mapping[str, Any]) -> str | None:
    """"hardly trained" or "trained", by how far training moved the encoder's weights; None if that is not known."""
    moved = metrics.get("weights_moved")
    if moved is None or not math.isfinite(moved):
        return None
    return HARDLY if moved < HARDLY_TRAINED else "trained"


# --- the lines of a result -----------------------------------------------------------------------------------------


def reference_of(stored: Any, dataset: Mapping[str, Any]) -> Reference | None:
    """The lines that a result records, else the published lines if the result has the published setting, else None.

    Args:
        stored: the result's entry "reference", or its JSON text; None if there is no entry.
        dataset: the section "dataset" of the result's configuration. Only the keys of the setting are used.
    """
    own = _parsed(stored) if isinstance(stored, str) else stored if _is_whole(stored) else None
    if own is not None:
        return own
    is_published = all(dataset.get(key) == value for key, value in _PUBLISHED_SETTING.items())
    environment = str(dataset.get("_target_") or _PUBLISHED_CLASS).rpartition(".")[2]
    return PUBLISHED if is_published and environment == _PUBLISHED_CLASS else None


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Reference | None:
    """The lines in a JSON text; None if the text holds none. Cached, because the runs of a sweep share the text."""
    try:
        stored = json.loads(text)
    except ValueError:
        return None
    return stored if _is_whole(stored) else None


def _is_whole(stored: Any) -> bool:
    """Whether ``stored`` has the structure that this module needs."""
    try:
        lines = [line for probe in ("prediction", "encoder") for line in stored[probe]["lines"]]
        return all(isinstance(line["name"], str) and math.isfinite(line["rmse_px"]) for line in lines)
    except (KeyError, TypeError, IndexError):
        return False


def run_reference(run: Run) -> Reference | None:
    """The reference lines of a run; see :func:`reference_of`."""
    keys = ("_target_", *_PUBLISHED_SETTING)
    return reference_of(run.fields.get("reference"), {key: run.config.get(f"dataset.{key}") for key in keys})


def levels(reference: Reference | None, metric: str) -> list[Level]:
    """The reference lines for a metric, highest first. Empty if the metric is no RMSE or has no lines.

    Args:
        metric: such as ``prediction_rmse_px``, ``encoder_rmse_px_per_step.3`` or ``prediction_rmse_px_per_dot.0``.
    """
    match = _METRIC.fullmatch(metric)
    if match is None or reference is None:
        return []
    probe, kind, position = match.groups()
    found = []
    for line in reference["encoder" if probe == "encoder" else "prediction"]["lines"]:
        values = [line["rmse_px"]] if kind is None else line.get(f"per_{kind}_px") or []
        place = int(position or 0)
        if place < len(values):
            found.append((line["name"], float(values[place])))
    return sorted(found, key=lambda level: -level[1])


def common_levels(references: Iterable[Reference | None], metric: str) -> list[Level] | None:
    """The reference lines for a metric that all results share; None if the results differ in them."""
    several = [levels(reference, metric) for reference in references]
    if all(same_levels(several[0], other) for other in several[1:]):
        return several[0] if several else []
    return None


def same_levels(left: Sequence[Level], right: Sequence[Level]) -> bool:
    """Whether two sets of lines are equal up to the sampling error of their simulation."""
    other = dict(right)
    return len(left) == len(right) and all(
        name in other and abs(other[name] - value) < _SAME_PX for name, value in left
    )
