"""What a probe found, as plain numbers and arrays: written to files, plotted and compared without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ProbeSamples:
    """A few of the judged sequences, to look at; locations in pixels."""

    frames: FloatArray  # [T, n, C, H, W], as the model sees them (normalised, with their noise)
    true_px: FloatArray  # [T, n, K, 2]
    predicted_px: FloatArray  # [T, n, K, 2], the prediction probe on z_0 and the predictions of z_1 ... z_{T-1}
    encoded_px: FloatArray  # [E, n, K, 2], the encoder probe on z_0 ... z_{E-1}


@dataclass(frozen=True)
class ProbeReport:
    """Errors of one job's probes on new data, in pixels; NaN where the representation is not finite.

    Each is the root of: squared differences summed over (x, y), averaged over sequences and over the time steps and
    dots that the name does not set apart (docs/science.md).
    """

    prediction_rmse_px: float  # over z_0 and the predictions of z_1 ... z_{T-1}
    encoder_rmse_px: float  # over z_0
    prediction_rmse_px_per_step: list[float]  # [T]
    encoder_rmse_px_per_step: list[float]  # [E], the probe fitted on z_0, judged on z_0 ... z_{E-1}; E = T or 1
    prediction_rmse_px_per_dot: list[float]  # [K]
    encoder_rmse_px_per_dot: list[float]  # [K], over z_0
    samples: ProbeSamples = field(repr=False)
    head_rmse_px: float | None = None  # the model's own location head, where it has one; as prediction_rmse_px
    warnings: tuple[str, ...] = ()  # why the errors may say little, a sentence each
    maps: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False)  # "prediction", "encoder": as fitted

    def as_metrics(self) -> dict[str, float | list[float]]:
        """The errors under the names that ``result.json`` and ``metrics.jsonl`` use."""
        metrics: dict[str, float | list[float]] = {
            "prediction_rmse_px": self.prediction_rmse_px,
            "encoder_rmse_px": self.encoder_rmse_px,
            "prediction_rmse_px_per_step": self.prediction_rmse_px_per_step,
            "encoder_rmse_px_per_step": self.encoder_rmse_px_per_step,
            "prediction_rmse_px_per_dot": self.prediction_rmse_px_per_dot,
            "encoder_rmse_px_per_dot": self.encoder_rmse_px_per_dot,
        }
        if self.head_rmse_px is not None:
            metrics["head_rmse_px"] = self.head_rmse_px
        return metrics
