"""The result of a probe as plain numbers and arrays, to be written, plotted and compared without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
Metrics = dict[str, float | list[float]]

LOCATION = "location"  # the target that every run is judged by
JUDGED_FROM = "judged_from_frame"  # the first frame that is judged, if not frame 0


@dataclass(frozen=True)
class ProbeSamples:
    """A few of the judged sequences, for plots; n sequences, locations in px."""

    frames: FloatArray  # [T, n, C, H, W], as the model sees them (normalised, with their noise)
    true_px: FloatArray  # [T, n, K, 2]
    predicted_px: FloatArray  # [T, n, K, 2], the prediction probe on z_0 and the predictions of z_1 ... z_{T-1}


@dataclass(frozen=True)
class ProbeReport:
    """One job's errors on new data, by target; NaN where the representation is not finite.

    ``metrics["location"]`` holds, in px (docs/science.md):

    - ``prediction_rmse_px``, over z_0 and the predictions of z_1 ... z_{T-1}; ``encoder_rmse_px``, over z_0;
    - ``prediction_rmse_px_per_step`` [T]; ``encoder_rmse_px_per_step`` [E], the encoder probe on z_0 ... z_{E-1},
      where E is T or 1;
    - ``prediction_rmse_px_per_dot`` and ``encoder_rmse_px_per_dot`` [K];
    - ``head_rmse_px``, of the model's own location head, if it has one; averaged as ``prediction_rmse_px``;
    - ``judged_from_frame``, f, if a model cannot tell anything before frame f: then z_f takes the place of z_0, frames
      before f enter no error, and the errors by time step are NaN for them.

    The metrics of another target are named likewise, by its name and its measure: ``encoder_start_rmse_px``.
    """

    metrics: Mapping[str, Metrics]
    samples: ProbeSamples = field(repr=False)
    warnings: tuple[str, ...] = ()  # why the errors may say little about the representation; a sentence each
    maps: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False)  # by target: "prediction", "encoder"

    def as_metrics(self) -> Metrics:
        """The errors under the names that ``result.json`` and ``metrics.jsonl`` use."""
        return {name: value for metrics in self.metrics.values() for name, value in metrics.items()}

    @property
    def broken(self) -> list[str]:
        """Names of the errors that are not finite numbers."""
        return [k for k, value in self.as_metrics().items() if isinstance(value, float) and not math.isfinite(value)]


def metric_name(probe: str, target: str, measure: str) -> str:
    """``prediction_rmse_px`` for the location, ``prediction_start_rmse_px`` for another target."""
    return f"{probe}_{measure}" if target == LOCATION else f"{probe}_{target}_{measure}"
