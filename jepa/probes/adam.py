"""The original's probing protocol: maps fitted by Adam, linear or with hidden layers."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from jepa.errors import check_count, check_flag, check_number, check_widths
from jepa.probes.base import FitPass, Probe
from jepa.probes.features import Features
from jepa.probes.maps import FittedMaps, FrozenMLP, batch_norm
from jepa.probes.report import LOCATION
from jepa.probes.targets.base import ProbeTarget
from jepa.seeding import generator

log = logging.getLogger(__name__)


class AdamProbe(Probe):
    """Probes fitted by Adam on minibatches of the stream's batch size, without weight decay or schedule.

    Source: the original's protocol (docs/science.md): learning rate 1e-3, 30 epochs of 10 000 fresh sequences.
    Deviation, unless ``fresh``: ``fit_sequences`` are embedded once, and their features are shuffled in every epoch.
    """

    def __init__(
        self,
        *,
        targets: Mapping[str, ProbeTarget],
        fit_sequences: int,
        judge_sequences: int,
        every_frame: bool,
        num_samples: int,
        learning_rate: float,
        epochs: int,
        hidden: str,
        fresh: bool,
        cache_gib: float,
        judge_stream: str = "test",
    ) -> None:
        """Check the settings; all others are those of :class:`Probe`.

        Args:
            learning_rate, epochs: of Adam, for all maps.
            hidden: widths of the hidden layers, "a-b" (Linear, BatchNorm and ReLU each); "" for a linear map.
            fresh: embed new sequences in every epoch, as the original does.
            cache_gib: the largest memory, in GiB, of a job's stored features; if they need more, new sequences are
                embedded in every epoch.
        """
        super().__init__(
            targets=targets,
            fit_sequences=fit_sequences,
            judge_sequences=judge_sequences,
            every_frame=every_frame,
            num_samples=num_samples,
            judge_stream=judge_stream,
        )
        self.learning_rate = float(check_number("probe.learning_rate", learning_rate, minimum=1e-30, maximum=1e6))
        self.epochs = check_count("probe.epochs", epochs, maximum=10**6)
        self.hidden = check_widths("probe.hidden", hidden)
        self.fresh = check_flag("probe.fresh", fresh)
        self.cache_gib = float(check_number("probe.cache_gib", cache_gib, minimum=0, maximum=4096))

    @property
    def fit_passes(self) -> int:
        return self.epochs if self.fresh else 1

    def fit(
        self, targets: Mapping[str, ProbeTarget], fit_pass: FitPass, generators: Sequence[torch.Generator]
    ) -> dict[str, FittedMaps]:
        """Fit all maps of all targets together."""
        opening = fit_pass()
        first = next(opening)
        num_jobs, _, _, embedding_size = first.trajectory.shape
        if len(generators) != num_jobs:
            raise ValueError(f"{len(generators)} generators for {num_jobs} jobs")
        maps: dict[str, tuple[PackedMLP, PackedMLP]] = {}
        for name, target in targets.items():
            num_answers = target.regressed(first.values[name][:, :1, :1]).shape[-1]
            widths = [embedding_size, *self.hidden, num_answers]
            own = _own_generators(generators, name)
            prediction, encoder = (
                PackedMLP(widths, own, first.trajectory.device, constant=target.constant) for _ in range(2)
            )
            maps[name] = prediction, encoder
        parameters = [parameter for pair in maps.values() for one in pair for parameter in one.parameters]
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
        for minibatches in self._epochs(fit_pass, first, opening, generators):
            for features in minibatches:
                if features.trajectory.shape[2] > 1:  # skip a last batch of one sequence: it has no batch statistics
                    _step(optimizer, targets, maps, features)
        return {name: FittedMaps(*(one.frozen() for one in pair)) for name, pair in maps.items()}

    def _epochs(
        self,
        fit_pass: FitPass,
        first: Features,
        opening: Iterator[Features],
        generators: Sequence[torch.Generator],
    ) -> Iterator[Iterator[Features]]:
        """The minibatches of each epoch. The first pass has begun: ``first``, then the batches of ``opening``."""
        begun = itertools.chain([first], opening)
        size_gib = 4 * self.fit_sequences * first.trajectory[0, :, 0].numel() / 2**30  # of one job, in float32
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
                yield _shuffled(kept, first.trajectory.shape[2], generators)


class PackedMLP:
    """``J`` multilayer perceptrons as one: layers of Linear, BatchNorm and ReLU; then a Linear (docs/science.md).

    Every parameter has a leading ``J``. Jobs share no parameter, so each trains as it would alone. The hidden Linears
    have no bias. BatchNorm would subtract the bias again, so the bias would have a gradient of rounding noise, which
    Adam amplifies.
    """

    def __init__(
        self,
        widths: Sequence[int],
        generators: Sequence[torch.Generator],
        device: torch.device,
        *,
        constant: bool = False,
    ) -> None:
        """Draw initial weights as torch's Linear does, for each job from its own generator.

        widths: of the input, the hidden layers and the output. constant: the last Linear has a bias, which starts at 0.
        """
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self._weights = [_uniform((fan_in, out), fan_in, generators, device) for fan_in, out in pairs]
        shapes = [(len(generators), out) for _, out in pairs[:-1]]
        self._gains = [torch.ones(shape, device=device, requires_grad=True) for shape in shapes]
        self._offsets = [torch.zeros(shape, device=device, requires_grad=True) for shape in shapes]
        self._means = [torch.zeros(shape, device=device) for shape in shapes]
        self._variances = [torch.ones(shape, device=device) for shape in shapes]
        self._constant = None
        if constant:
            self._constant = torch.zeros(len(generators), 1, widths[-1], device=device, requires_grad=True)

    @property
    def parameters(self) -> list[Tensor]:
        """The trained tensors."""
        constant = [] if self._constant is None else [self._constant]
        return [*self._weights, *self._gains, *self._offsets, *constant]

    def frozen(self) -> FrozenMLP:
        """The perceptrons with their present parameters and BatchNorm's running statistics."""
        return FrozenMLP(self._weights, self._gains, self._offsets, self._means, self._variances, self._constant)

    def train(self, features: Tensor) -> Tensor:
        """[J, M, D] -> [J, M, N] with the batch's statistics; updates the running statistics."""
        values = features.float()
        norms = zip(self._means, self._variances, self._gains, self._offsets, strict=True)
        for weight, norm in zip(self._weights[:-1], norms, strict=True):
            values = functional.relu(batch_norm(values @ weight, *norm, training=True))
        answers = values @ self._weights[-1]
        return answers if self._constant is None else answers + self._constant


def _own_generators(generators: Sequence[torch.Generator], target: str) -> Sequence[torch.Generator]:
    """A generator for each job, for the initial maps of ``target``. Adding a target does not change other targets."""
    if target == LOCATION:
        return generators
    return [generator(one.initial_seed(), target, one.device) for one in generators]


def _step(
    optimizer: torch.optim.Optimizer,
    targets: Mapping[str, ProbeTarget],
    maps: Mapping[str, tuple[PackedMLP, PackedMLP]],
    features: Features,
) -> None:
    """One step of all maps. The loss is a sum over jobs, targets and maps, which share no parameters."""
    with torch.enable_grad():
        losses = []
        for name, (prediction, encoder) in maps.items():
            loss, values = targets[name].loss, features.values[name]
            losses.append(loss(prediction.train(features.trajectory.flatten(1, 2)), values.flatten(1, 2)))
            losses.append(loss(encoder.train(features.encodings[:, 0]), values[:, 0]))
        total = torch.stack(losses).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _uniform(
    shape: tuple[int, ...], fan_in: int, generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """[J, *shape], uniform in ±1/sqrt(fan_in), drawn for each job from its own generator."""
    draws = torch.stack([torch.rand(shape, generator=g, device=g.device).to(device) for g in generators])
    return ((2 * draws - 1) / math.sqrt(fan_in)).requires_grad_()


def _keep(batches: Iterator[Features], num_sequences: int) -> Features:
    """The features of all N sequences of a pass: [J, N, T, D], [J, N, 1, D], and by target [J, N, T, ...]."""
    kept: dict[str, Tensor] = {}
    done = 0
    for batch in batches:
        parts = {name: part.transpose(1, 2) for name, part in {"": batch.trajectory, **batch.values}.items()}
        end = done + parts[""].shape[1]
        for name, part in parts.items():
            if name not in kept:
                dtype = torch.float32 if part.is_floating_point() else part.dtype
                kept[name] = part.new_empty(part.shape[0], num_sequences, *part.shape[2:], dtype=dtype)
            kept[name][:, done:end] = part
        done = end
    assert done == num_sequences
    trajectory = kept.pop("")
    return Features(trajectory, trajectory[:, :, :1], kept)


def _shuffled(kept: Features, batch_size: int, generators: Sequence[torch.Generator]) -> Iterator[Features]:
    """Minibatches of the stored features in a random order, drawn for each job from its own generator."""
    device, num_sequences = kept.trajectory.device, kept.trajectory.shape[1]
    order = torch.stack([torch.randperm(num_sequences, generator=g, device=g.device).to(device) for g in generators])
    jobs = torch.arange(len(generators), device=device).unsqueeze(1)
    for start in range(0, num_sequences, batch_size):
        chosen = order[:, start : start + batch_size]  # [J, b]
        trajectory = kept.trajectory[jobs, chosen].transpose(1, 2)
        values = {name: value[jobs, chosen].transpose(1, 2) for name, value in kept.values.items()}
        yield Features(trajectory, trajectory[:, :1], values)
