"""Computes the diagnostics of a trained model, or of the models of a pack (``jepa.probes.diagnostics``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from jepa.errors import error_words
from jepa.methods.base import Method
from jepa.probes import diagnostics
from jepa.probes.features import with_jobs
from jepa.probes.report import Metrics
from jepa.training.step import autocast
from jepa.types import Batch, Counterfactuals, Rollout

log = logging.getLogger(__name__)

Draw = Callable[[Any], "Tensor | None"]  # draws latent noise, given ``method.draw_latent_noise`` or another


class Frozen(Protocol):
    """What is diagnosed: a :class:`jepa.training.program.Program`, or that of a pack. In a pack tensors have ``J``."""

    device: torch.device
    precision: str

    def rollout(self, batch: Batch, latent_noise: Tensor | None) -> Rollout:
        """Embeddings in evaluation mode."""

    def apply_eval(self, name: str, *inputs: Any) -> Any:
        """Call a function of the method in evaluation mode."""


class Source(Protocol):
    """A stream of one run, or the streams of a pack."""

    def next(self) -> Batch:
        """The next batch."""

    def counterfactuals(self) -> Counterfactuals | None:
        """The next batch with its counterfactuals."""


@torch.no_grad()
def diagnose(
    program: Frozen,
    method: Method,
    source: Source,
    *,
    num_sequences: int,
    draw: Draw,
    generators: Sequence[torch.Generator],
) -> list[Metrics]:
    """The diagnostics of each job. If they cannot be computed, the runs go on without them.

    Args:
        program: the frozen models.
        method: the method, or the template of a pack's methods.
        source: a fresh stream that probes are judged on.
        num_sequences: number of sequences, rounded up to whole batches.
        draw: draws the latent noise of a call.
        generators: one for each job, for the projections that copy the overlay.
    """
    try:
        return _Diagnosis(program, method, draw, generators).of(source, num_sequences)
    except Exception as error:
        log.warning("no diagnostics, the run goes on without them: %s", error_words(error))
        return [{} for _ in generators]


class _Diagnosis:
    """Sums over batches; all tensors have the axis J in front."""

    def __init__(self, program: Frozen, method: Method, draw: Draw, generators: Sequence[torch.Generator]) -> None:
        self._program, self._method, self._draw, self._generators = program, method, draw, generators
        self._encodings: list[Tensor] = []  # [J, T, B, D] each
        self._moved: list[tuple[Tensor, Tensor, Tensor]] = []  # encodings, under other overlays, of other dots
        self._losses: dict[str, list[Tensor]] = {}  # by metric: [J] each
        self._has_overlay = torch.zeros(len(generators), dtype=torch.bool)
        self._projection: Tensor | None = None  # [(J,) P, D]
        self._scale: Tensor | None = None  # [(J)]

    def of(self, source: Source, num_sequences: int) -> list[Metrics]:
        """Take whole batches until there are ``num_sequences`` sequences, and make the metrics of each job."""
        done = 0
        while done < num_sequences:
            found = source.counterfactuals()
            batch = source.next() if found is None else found.batch
            done += batch.states.shape[-4]
            self._add_encodings(batch, found)
            if self._method.trainable:
                self._add_losses(batch)
                if found is not None:
                    self._add_trivial(found)
        return [self._metrics(job) for job in range(len(self._generators))]

    def _encode(self, batch: Batch) -> Tensor:
        noise = self._draw(self._method.draw_rollout_noise)
        return with_jobs(self._program.rollout(batch, noise).encodings, 4)

    def _add_encodings(self, batch: Batch, found: Counterfactuals | None) -> None:
        first = self._method.first_judged
        encodings = self._encode(batch)[:, first:]
        self._encodings.append(encodings)
        if found is None:
            return
        time = batch.states.ndim - 5
        shown = self._method.context_frames or batch.states.shape[time]
        others = (found.other_overlay, found.other_dots)
        moved = [self._encode(batch._replace(states=states.narrow(time, 0, shown)))[:, first] for states in others]
        self._moved.append((encodings[:, 0], moved[0], moved[1]))
        self._has_overlay |= (found.overlay.flatten(time) != 0).any(-1).view(-1).cpu()

    def _add_losses(self, batch: Batch) -> None:
        shuffled = batch._replace(actions=batch.actions.roll(1, dims=-2))
        noise = self._draw(self._method.draw_latent_noise)
        for name, given in zip(diagnostics.OF_LOSSES, (batch, shuffled), strict=True):
            with autocast(self._program.device, self._program.precision):
                total = self._program.apply_eval("forward", given, noise).total
            self._losses.setdefault(name, []).append(total.float().view(-1))

    def _add_trivial(self, found: Counterfactuals) -> None:
        seen: Tensor = self._program.apply_eval("seen", found.overlay)
        if self._projection is None:
            sizes = seen.shape[-3:].numel(), self._encodings[0].shape[-1]
            drawn = [torch.randn(sizes, generator=one, device=one.device) for one in self._generators]
            self._projection = torch.stack(drawn) if seen.ndim == 6 else drawn[0]
        copies = diagnostics.copies_of(seen, self._projection)

        def loss(scale: Tensor) -> Tensor:
            value: Tensor = self._program.apply_eval("trivial_loss", found.batch, copies * scale[..., None, None, None])
            return value.float()

        if self._scale is None:
            self._scale = diagnostics.best_scale(loss, copies.new_ones(copies.shape[:-3]))
        for name, scale in zip(diagnostics.OF_TRIVIAL, (self._scale, torch.zeros_like(self._scale)), strict=True):
            self._losses.setdefault(name, []).append(loss(scale).view(-1))

    def _metrics(self, job: int) -> Metrics:
        metrics = diagnostics.of_encodings(torch.cat([part[job] for part in self._encodings], 1))
        if self._moved and bool(self._has_overlay[job]):
            parts = [torch.cat([batch[which][job] for batch in self._moved]) for which in range(3)]
            metrics |= diagnostics.finite({diagnostics.OF_OVERLAY[0]: diagnostics.allocation_ratio(*parts)})
        means = {name: float(torch.stack(values)[:, job].mean()) for name, values in self._losses.items()}
        if not bool(self._has_overlay[job]):
            means.pop("trivial_loss", None)
        return {**metrics, **diagnostics.finite(means)}
