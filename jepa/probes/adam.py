"""The original's probing protocol: maps fitted by Adam, linear or with hidden layers."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from jepa.errors import ConfigError, check_count, check_number, check_widths
from jepa.probes.base import FitPass, Probe, Readouts
from jepa.probes.features import Features
from jepa.probes.maps import FrozenMLP, batch_norm

log = logging.getLogger(__name__)


class AdamProbe(Probe):
    """Probes fitted by Adam on minibatches of the stream's batch size, without weight decay or schedule.

    Source: the original's protocol (docs/science.md): lr 1e-3, 30 epochs of 10 000 fresh sequences. Deviation, unless
    ``fresh``: one set of ``fit_sequences`` is embedded once and its features are kept and reshuffled every epoch.
    """

    def __init__(
        self,
        *,
        fit_sequences: int,
        judge_sequences: int,
        every_frame: bool,
        num_samples: int,
        learning_rate: float,
        epochs: int,
        hidden: str,
        fresh: bool,
        cache_gib: float,
    ) -> None:
        """learning_rate, epochs: Adam's, for both probes.

        hidden: widths of hidden layers, "a-b" (Linear, BatchNorm, ReLU each); "" for a linear map.
        fresh: embed new sequences in every epoch, as the original does.
        cache_gib: the most memory that a job's kept features may take; where they do not fit, as ``fresh``.
        """
        super().__init__(
            fit_sequences=fit_sequences,
            judge_sequences=judge_sequences,
            every_frame=every_frame,
            num_samples=num_samples,
        )
        self.learning_rate = float(check_number("probe.learning_rate", learning_rate, minimum=1e-30, maximum=1e6))
        self.epochs = check_count("probe.epochs", epochs, maximum=10**6)
        self.hidden = _parse_widths(hidden)
        if not isinstance(fresh, bool):
            raise ConfigError(f"probe.fresh={fresh!r}: must be true or false")
        self.fresh = fresh
        self.cache_gib = float(check_number("probe.cache_gib", cache_gib, minimum=0, maximum=4096))

    @property
    def fit_passes(self) -> int:
        return self.epochs if self.fresh else 1

    def _fit(self, fit_pass: FitPass, generators: Sequence[torch.Generator]) -> Readouts:
        opening = fit_pass()
        first = next(opening)
        num_jobs, _, _, embedding_size = first.trajectory.shape
        if len(generators) != num_jobs:
            raise ValueError(f"{len(generators)} generators for {num_jobs} jobs")
        widths = [embedding_size, *self.hidden, first.locations[0, 0, 0].numel()]
        prediction, encoder = (PackedMLP(widths, generators, first.trajectory.device) for _ in range(2))
        optimizer = torch.optim.Adam([*prediction.parameters, *encoder.parameters], lr=self.learning_rate)
        for minibatches in self._epochs(fit_pass, first, opening, generators):
            for features in minibatches:
                if features.locations.shape[2] > 1:  # a rest of one sequence has no batch statistics
                    _step(optimizer, prediction, encoder, features)
        return Readouts(prediction.frozen(), encoder.frozen())

    def _epochs(
        self,
        fit_pass: FitPass,
        first: Features,
        opening: Iterator[Features],
        generators: Sequence[torch.Generator],
    ) -> Iterator[Iterator[Features]]:
        """The minibatches of each epoch; ``first`` and ``opening`` are the first pass, already begun."""
        begun = itertools.chain([first], opening)
        size_gib = 4 * self.fit_sequences * first.trajectory[0, :, 0].numel() / 2**30  # a job's, in float32
        if not self.fresh and size_gib > self.cache_gib:
            log.warning(
                "probe.cache_gib=%g: a job's features take %.2f GiB; embedding new sequences in each of %d epochs",
                self.cache_gib,
                size_gib,
                self.epochs,
            )
        if self.fresh or size_gib > self.cache_gib:
            yield begun
            for _ in range(self.epochs - 1):
                yield fit_pass()
        else:
            kept = _keep(begun, self.fit_sequences)
            for _ in range(self.epochs):
                yield _shuffled(kept, first.locations.shape[2], generators)


class PackedMLP:
    """``J`` multilayer perceptrons as one: Linear, BatchNorm, ReLU; then a Linear without bias (docs/science.md).

    Every parameter has a leading ``J``; jobs share no number, so each trains as it would alone. The hidden Linears
    have no bias either: BatchNorm takes it away again, so its gradient is rounding noise, which Adam would amplify.
    """

    def __init__(self, widths: Sequence[int], generators: Sequence[torch.Generator], device: torch.device) -> None:
        """widths: input, hidden ..., output. Each job's start is drawn from its generator, as torch's Linear does."""
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self._weights = [_uniform((fan_in, out), fan_in, generators, device) for fan_in, out in pairs]
        shapes = [(len(generators), out) for _, out in pairs[:-1]]
        self._gains = [torch.ones(shape, device=device, requires_grad=True) for shape in shapes]
        self._offsets = [torch.zeros(shape, device=device, requires_grad=True) for shape in shapes]
        self._means = [torch.zeros(shape, device=device) for shape in shapes]
        self._variances = [torch.ones(shape, device=device) for shape in shapes]

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [*self._weights, *self._gains, *self._offsets]

    def frozen(self) -> FrozenMLP:
        """The perceptrons as they are, with BatchNorm's running statistics."""
        return FrozenMLP(self._weights, self._gains, self._offsets, self._means, self._variances)

    def train(self, features: Tensor) -> Tensor:
        """[J, M, D] -> [J, M, N] with the batch's statistics; updates the running ones."""
        values = features.float()
        norms = zip(self._means, self._variances, self._gains, self._offsets, strict=True)
        for weight, norm in zip(self._weights[:-1], norms, strict=True):
            values = functional.relu(batch_norm(values @ weight, *norm, training=True))
        return values @ self._weights[-1]


def _step(optimizer: torch.optim.Optimizer, prediction: PackedMLP, encoder: PackedMLP, features: Features) -> None:
    targets = features.locations.float()
    with torch.enable_grad():
        loss = _loss(prediction.train, features.trajectory.flatten(1, 2), targets.flatten(1, 2))
        loss = loss + _loss(encoder.train, features.encodings[:, 0], targets[:, 0])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _loss(readout: Callable[[Tensor], Tensor], features: Tensor, targets: Tensor) -> Tensor:
    """Σ over (x, y) of squared differences, mean over rows and dots, *summed* over jobs: their gradients do not mix.

    features: [J, M, D]; targets: [J, M, K, 2].
    """
    error = readout(features).view_as(targets) - targets
    return error.square().sum(-1).mean((1, 2)).sum()


def _uniform(
    shape: tuple[int, ...], fan_in: int, generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """[J, *shape], uniform in ±1/sqrt(fan_in), each job's from its own generator."""
    draws = torch.stack([torch.rand(shape, generator=g, device=g.device).to(device) for g in generators])
    return ((2 * draws - 1) / math.sqrt(fan_in)).requires_grad_()


def _keep(batches: Iterator[Features], num_sequences: int) -> Features:
    """All features of a pass, sequences first: [J, N, T, D], [J, N, 1, D], [J, N, T, K, 2]; the z_0 are not copied."""
    trajectory = locations = None
    done = 0
    for batch in batches:
        parts = batch.trajectory.transpose(1, 2), batch.locations.transpose(1, 2)
        if trajectory is None or locations is None:
            trajectory, locations = (
                part.new_empty(part.shape[0], num_sequences, *part.shape[2:], dtype=torch.float32) for part in parts
            )
        end = done + parts[0].shape[1]
        trajectory[:, done:end], locations[:, done:end] = parts
        done = end
    assert trajectory is not None and locations is not None and done == num_sequences
    return Features(trajectory, trajectory[:, :, :1], locations)


def _shuffled(kept: Features, batch_size: int, generators: Sequence[torch.Generator]) -> Iterator[Features]:
    """Minibatches of kept features in a new order, each job's from its own generator."""
    device, num_sequences = kept.trajectory.device, kept.trajectory.shape[1]
    order = torch.stack([torch.randperm(num_sequences, generator=g, device=g.device).to(device) for g in generators])
    jobs = torch.arange(len(generators), device=device).unsqueeze(1)
    for start in range(0, num_sequences, batch_size):
        chosen = order[:, start : start + batch_size]  # [J, b]
        trajectory = kept.trajectory[jobs, chosen].transpose(1, 2)
        yield Features(trajectory, trajectory[:, :1], kept.locations[jobs, chosen].transpose(1, 2))


def _parse_widths(hidden: str) -> list[int]:
    return check_widths("probe.hidden", hidden)
