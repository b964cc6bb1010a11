"""Sums of squared errors in pixels over judged batches, and the reports they end in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from jepa.probes.features import Features, to_float64, with_jobs
from jepa.probes.report import FloatArray, ProbeReport, ProbeSamples


class Judge:
    """Accumulates errors on the device in float64; nothing is read back before ``reports``."""

    def __init__(self, to_pixels: Callable[[Tensor], Tensor], num_samples: int) -> None:
        self._to_pixels = to_pixels
        self._num_samples = num_samples
        self._counts: dict[str, int] = {}  # sequences
        self._sums: dict[str, Tensor] = {}  # [J, T, E or 1, K] each, px², over sequences
        self._samples: list[ProbeSamples] = []  # one a job, of the first batch

    def add(
        self,
        features: Features,
        prediction: Callable[[Tensor], Tensor],
        encoder: Callable[[Tensor], Tensor],
        *,
        states: Tensor,
        own: Tensor | None,
    ) -> None:
        """Judge one batch; encodings [J, E, b, D] may be those of all frames or, in later batches, of the first ones.

        prediction, encoder: fitted maps, [J, M, D] -> [J, M, 2K], normalised. states: [(J,) T, B, C, H, W].
        own: what the model's own head answers, [(J,) T, B, K, 2], normalised, or None.
        """
        true = self._to_pixels(to_float64(features.locations))
        predicted = self._located(prediction, features.trajectory, true)
        encoded = self._located(encoder, features.encodings, true)
        self._accumulate("prediction", predicted, true)
        self._accumulate("encoder", encoded[:, :1], true)
        if encoded.shape[1] == true.shape[1]:
            self._accumulate("frames", encoded, true)
        if own is not None:
            answered = to_float64(with_jobs(own, 5, true.shape[0])[:, :, : true.shape[2]])
            self._accumulate("head", self._to_pixels(answered), true)
        if not self._samples:
            self._keep_samples(states, true, predicted, encoded)

    def reports(self) -> list[ProbeReport]:
        """One report a job."""
        means = {name: (total / self._counts[name]).cpu().numpy() for name, total in self._sums.items()}
        return [
            self._report({name: mean[job] for name, mean in means.items()}, samples)
            for job, samples in enumerate(self._samples)
        ]

    def _located(self, readout: Callable[[Tensor], Tensor], embeddings: Tensor, true: Tensor) -> Tensor:
        """Apply a map to embeddings [J, S, b, D]; returns [J, S, b, K, 2] in float64, px."""
        located = to_float64(readout(embeddings.flatten(1, 2)))
        return self._to_pixels(located.view(*embeddings.shape[:3], *true.shape[3:]))

    def _accumulate(self, name: str, answered: Tensor, true: Tensor) -> None:
        error = (answered - true[:, : answered.shape[1]]).square().sum(-1).sum(2)  # [J, S, K]
        self._sums[name] = error if name not in self._sums else self._sums[name] + error
        self._counts[name] = self._counts.get(name, 0) + true.shape[2]

    def _keep_samples(self, states: Tensor, true: Tensor, predicted: Tensor, encoded: Tensor) -> None:
        states = with_jobs(states, 6, true.shape[0])
        kept = min(self._num_samples, true.shape[2])
        arrays = [tensor[:, :, :kept].float().cpu().numpy() for tensor in (states, true, predicted, encoded)]
        self._samples = [ProbeSamples(*(array[job] for array in arrays)) for job in range(true.shape[0])]

    @staticmethod
    def _report(mean: dict[str, FloatArray], samples: ProbeSamples) -> ProbeReport:
        prediction, encoder = mean["prediction"], mean["encoder"]  # [T, K], [1, K], px²
        frames = [*encoder, *mean["frames"][1:]] if "frames" in mean else encoder  # [E, K]; z_0 of all sequences
        return ProbeReport(
            prediction_rmse_px=_root(prediction.mean()),
            encoder_rmse_px=_root(encoder[0].mean()),
            prediction_rmse_px_per_step=[_root(value) for value in prediction.mean(1)],
            encoder_rmse_px_per_step=[_root(value.mean()) for value in frames],
            prediction_rmse_px_per_dot=[_root(value) for value in prediction.mean(0)],
            encoder_rmse_px_per_dot=[_root(value) for value in encoder[0]],
            samples=samples,
            head_rmse_px=_root(mean["head"].mean()) if "head" in mean else None,
        )


def _root(mean_square: float) -> float:
    root = float(np.sqrt(mean_square))
    return root if np.isfinite(root) else float("nan")
