"""A small environment and a small model for tests of probes, of which every number can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from jepa.probes import AdamProbe, LeastSquares, ProbeReport
from jepa.probes.targets.location import Location
from jepa.types import Batch, DataShapes, Rollout

T, B, K, D, SIZE, CLASSES = 5, 12, 2, 6, 4, 3
SCALE_PX, CENTRE_PX = 6.5, 13.5


class PixelUnits:
    """An environment of which only the units, the labels and the numbers matter."""

    classes = {"background": CLASSES}
    quantities = ("wall", "door")
    has_overlays = True
    shapes = DataShapes(num_steps=T, channels=1, image_size=SIZE, action_size=2, num_dots=K)

    def unnormalize_locations(self, locations: Tensor) -> Tensor:
        return locations * SCALE_PX + CENTRE_PX

    def unnormalize_quantity(self, name: str, values: Tensor) -> Tensor:
        return values * SCALE_PX + CENTRE_PX


class Batches:
    """A stream of random batches, of one job or of several with a seed each."""

    def __init__(self, *seeds: int, packed: bool = False, batch_size: int = B) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.packed, self.batch_size, self.drawn = packed, batch_size, 0

    def next(self) -> Batch:
        self.drawn += 1
        jobs = [self._one(generator) for generator in self.generators]
        stacked: Batch = tree_map(lambda *tensors: torch.stack(tensors), *jobs) if self.packed else jobs[0]
        return stacked

    def _one(self, generator: torch.Generator) -> Batch:
        states = torch.randn(T, self.batch_size, 1, SIZE, SIZE, generator=generator)
        actions = torch.randn(T - 1, self.batch_size, 2, generator=generator)
        fixed = torch.Generator().manual_seed(0)
        mixing = torch.randn(SIZE * SIZE, K * 2, generator=fixed)
        noise = 0.3 * torch.randn(T, self.batch_size, K, 2, generator=generator)
        locations = (states.flatten(2) @ mixing / SIZE).view(T, self.batch_size, K, 2) + noise
        # an identity of each sequence, which its frames tell in part; the second class is rarer
        scores = states.flatten(2).mean(0) @ torch.randn(SIZE * SIZE, CLASSES, generator=fixed)
        identity = (scores - torch.tensor([0.0, 2.0, 0.0])).argmax(-1)
        numbers = {"wall": scores[:, 0], "door": scores[:, 1]}
        targets = {name: values.expand(T, -1) for name, values in numbers.items()}
        targets["overlay"] = states.flatten(2)  # [T, B, 16]
        return Batch(states, actions, locations, {"background": identity.expand(T, -1), **targets})


class Model:
    """A frozen linear encoder; its prediction is the encoding of the first frame plus the actions so far."""

    def __init__(self, size: int = D, seed: int = 1, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.encoder = torch.randn(SIZE * SIZE, size, generator=generator)
        self.mover = torch.randn(2, size, generator=generator)
        self.dtype, self.frames_seen = dtype, 0

    def __call__(self, batch: Batch) -> Rollout:
        encodings = batch.states.flatten(-3) @ self.encoder
        self.frames_seen += encodings.shape[:-1].numel()
        first = encodings.narrow(encodings.ndim - 3, 0, 1)
        predictions = first + (batch.actions @ self.mover).cumsum(batch.actions.ndim - 3)
        return Rollout(encodings.to(self.dtype), predictions.to(self.dtype))


def least_squares(**changes: object) -> LeastSquares:
    """A small probe of the location."""
    settings: dict[str, object] = dict(fit_sequences=40, judge_sequences=30, every_frame=True, num_samples=3)
    settings |= dict(targets={"location": Location()}, ridge=0.0)
    return LeastSquares(**{**settings, **changes})  # type: ignore[arg-type]


def adam(**changes: object) -> AdamProbe:
    """A small probe of the location."""
    settings: dict[str, object] = dict(fit_sequences=40, judge_sequences=30, every_frame=True, num_samples=3)
    settings |= dict(targets={"location": Location()}, cache_gib=1.0)
    settings |= dict(learning_rate=1e-2, epochs=4, hidden="", fresh=False)
    return AdamProbe(**{**settings, **changes})  # type: ignore[arg-type]


def run(probe: LeastSquares | AdamProbe, model: object = None, **options: object) -> ProbeReport:
    """The report on one job."""
    generator = torch.Generator().manual_seed(7)
    return probe.run(model or Model(), Batches(2), Batches(3), PixelUnits(), generator, **options)  # type: ignore[arg-type]


def run_job(probe: LeastSquares | AdamProbe, job: int) -> list[ProbeReport]:
    """The report on one of the jobs of ``run_packed``, alone."""
    generator = torch.Generator().manual_seed(30 + job)
    return probe.run_jobs(Model(), Batches(10 + job), Batches(20 + job), PixelUnits(), [generator])


def run_packed(probe: LeastSquares | AdamProbe) -> list[ProbeReport]:
    """The reports on three jobs."""
    generators = [torch.Generator().manual_seed(30 + job) for job in range(3)]
    fit, judge = (Batches(*(first + job for job in range(3)), packed=True) for first in (10, 20))
    return probe.run_jobs(Model(), fit, judge, PixelUnits(), generators)


def collect(model: Model, stream: Batches, num_sequences: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Trajectories and encodings [T, N, D], locations [T, N, K, 2] and identities [T, N] of a pass, in float64."""
    batches = [stream.next() for _ in range(math.ceil(num_sequences / stream.batch_size))]
    rollouts = [model(batch) for batch in batches]
    encodings = torch.cat([rollout.encodings for rollout in rollouts], 1)
    predictions = torch.cat([rollout.predictions for rollout in rollouts], 1)
    locations = torch.cat([batch.locations for batch in batches], 1)
    identities = torch.cat([batch.targets["background"] for batch in batches], 1)
    trajectory = torch.cat([encodings[:1], predictions])
    found = (trajectory, encodings, locations, identities)
    return tuple(x[:, :num_sequences].double().numpy() for x in found)  # type: ignore[return-value]


def loop_mean_square_px(answers: np.ndarray, locations: np.ndarray) -> np.ndarray:
    """Mean over sequences of |answer - location|², px, by plain loops: [S, K]."""
    result = np.zeros((answers.shape[0], K))
    for step in range(answers.shape[0]):
        for dot in range(K):
            total = 0.0
            for sequence in range(answers.shape[1]):
                for axis in range(2):
                    total += ((answers - locations)[step, sequence, dot, axis] * SCALE_PX) ** 2
            result[step, dot] = total / answers.shape[1]
    return result


def rmse(report: ProbeReport, probe: str = "prediction") -> float:
    """Of the location, in px."""
    value = report.as_metrics()[f"{probe}_rmse_px"]
    assert isinstance(value, float)
    return value
