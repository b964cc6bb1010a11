"""The trainer of a pack: J jobs of one structure, trained by one loop and one program."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from jepa.kernels import KERNELS
from jepa.loggers.base import Logger
from jepa.packing.executors import MEASURED, choose_executor
from jepa.packing.program import PackedProgram
from jepa.packing.streams import JobStreams
from jepa.probes import ProbeReport
from jepa.probes.diagnostics import NUM_SEQUENCES
from jepa.probes.report import FloatArray, Metrics
from jepa.training.diagnosis import diagnose
from jepa.training.interrupts import StopRequest
from jepa.training.loop import Trainee, train
from jepa.training.outcome import Outcome
from jepa.training.plan import Plan
from jepa.training.run_state import RunState
from jepa.training.tally import Tally, tally_state
from jepa.training.trainer import as_arrays, first_sequences, is_to_be_compiled, probe_streams
from jepa.types import Batch, Rollout

log = logging.getLogger(__name__)


class StepsDiffer(RuntimeError):
    """The checkpoints of a pack's jobs were saved at different steps, so the jobs cannot share a pack."""


class PackTrainer(Trainee):
    """Trains, probes and saves J jobs together. Each job writes the same files as a run of its own."""

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        loggers: Sequence[Sequence[Logger]] = (),
        resume: Sequence[bool] = (),
        executor: str = "vmap",
        common_random_numbers: bool = False,
    ) -> None:
        """Build the program. With ``resume``, continue from the jobs' checkpoints.

        Args:
            plans: jobs that differ in numbers alone (seed, coefficients, learning rates).
            loggers: the loggers of each job; empty: no loggers.
            resume: for each job, whether it continues from its checkpoint; empty: no job does.
            executor: how the jobs run: one of ``EXECUTORS``, or "measured".
            common_random_numbers: all jobs are given the draws of the first job, each with its own coefficients.

        Raises:
            ConfigError: as for :class:`jepa.training.trainer.Trainer`.
            StepsDiffer: the jobs' checkpoints were saved at different steps.
        """
        self.plan = plans[0]
        self.common_random_numbers = common_random_numbers
        methods = [plan.initial_method() for plan in plans]
        self.total_steps = self.plan.total_steps(methods[0])
        self.jobs = [
            RunState(plan, loggers=loggers[row] if loggers else (), resume=bool(resume) and resume[row])
            for row, plan in enumerate(plans)
        ]
        for job, method in zip(self.jobs, methods, strict=True):
            job.describe(method)
        self.program = PackedProgram(
            methods=methods,
            optimizers=[plan.optimizer for plan in plans],
            device=self.plan.device,
            precision=self.plan.config.precision,
            executor="vmap" if executor == MEASURED else executor,
            kernels=tuple(KERNELS) if self.plan.config.trainer.kernels else (),
        )
        self.tally = Tally()
        self._last: tuple[Batch, Tensor | None] | None = None  # of the epoch's last step, until it is logged
        self._restore()
        self._bind()
        if is_to_be_compiled(self.plan, methods[0], self.total_steps):
            log.info("the train step is compiled first: about half a minute")
            self.program.compile()
        if self.plan.config.trainer.cuda_graph:
            self.program.replay_steps()
        if executor == MEASURED and len(self.jobs) > 1 and self.step < self.total_steps:
            self._choose_executor()
        self.note(kernels=self.program.kernels)

    def _restore(self) -> None:
        tallies = []
        for row, job in enumerate(self.jobs):
            restored = job.restore(self.program.saved(row)["model"], total_steps=self.total_steps)
            if restored.state is not None:
                self.program.load(row, restored.state)
                tallies.append(restored.state["tally"])
                self.epoch_pending = restored.state["epoch_pending"]
            elif restored.initial_model is not None:
                self.program.load_model(row, restored.initial_model)
        steps = sorted({job.step for job in self.jobs})
        if len(steps) != 1:
            raise StepsDiffer(f"jobs of one pack must continue from one step, not from steps {steps}")
        [self.step] = steps
        if tallies:
            self._load_tallies(tallies)

    def _load_tallies(self, tallies: Sequence[dict[str, object]]) -> None:
        """Stack the jobs' saved sums over J. The jobs were saved at one step, so their counts agree."""
        rows = []
        for state in tallies:
            self.tally.load(state, self.plan.device)
            rows.append(self.tally.sums)
        self.tally.sums = torch.stack([row for row in rows if row is not None]) if rows[0] is not None else None

    def _bind(self) -> None:
        """Rebuild what depends on which jobs are left: the learning rates [steps, J], and the streams."""
        rates = [job.plan.learning_rates(self.total_steps) for job in self.jobs]
        self.learning_rates = torch.stack(rates, dim=1)
        self.streams = JobStreams([job.stream for job in self.jobs], common=self.common_random_numbers)

    def _choose_executor(self) -> None:
        """Time every executor on a batch of the pack's own size, and take the fastest. No training data is used up."""
        latent_noise = self._train_noise([job.generator("probe/model") for job in self.jobs])
        seconds = choose_executor(self.program, self._streams_for("probe_fit").next(), latent_noise)
        shown = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in seconds.items())
        log.info("a step of %d jobs: %s", len(self.jobs), shown)

    def note(self, **entries: object) -> None:
        """Add ``entries`` to the result of every job."""
        for job in self.jobs:
            job.record.update(entries)

    @property
    def is_over(self) -> bool:
        return super().is_over or not self.jobs

    def run(self) -> list[Outcome]:
        """Train to the end, judge every job, and write each outcome to the job's folder.

        Returns:
            The outcomes, in order.

        Raises:
            KeyboardInterrupt: a signal asked to stop; every job's checkpoint has been saved.
        """
        everyone = list(self.jobs)
        try:
            for job in everyone:
                job.open(self.total_steps)
            with StopRequest() as stop:
                train(self, stop)
            reports = self._probe() if self.jobs else []
            diagnostics = self._diagnose() if self.jobs else []
            decoded = functools.cache(self._decode)  # once for all jobs
            for row, (job, report) in enumerate(zip(self.jobs, reports, strict=True)):
                decode = functools.partial(_decoded_of, decoded, row)
                model = self.program.saved(row)["model"]
                decode_job = decode if self.program.template.has_decoder else None
                job.judge(report, model, decode_job, diagnostics=diagnostics[row])
        except BaseException as error:
            for job in everyone:
                job.abandon(error, packed=len(everyone) > 1)
            raise
        return [job.outcome for job in everyone if job.outcome is not None]

    def advance(self) -> None:
        latent_noise = self._train_noise([job.model_generator for job in self.jobs])
        batch = self.next_batch()
        self.tally.add(self.program.step(batch, latent_noise, self.learning_rates[self.step]))
        self.step += 1
        self._last = (batch, latent_noise) if self.step % self.plan.dataset.steps_per_epoch == 0 else None

    def next_batch(self) -> Batch:
        """The next batch of training, [J, T, B, ...]."""
        return self.streams.next()

    def charge(self, seconds: float) -> None:
        for job in self.jobs:
            job.train_seconds += seconds / len(self.jobs)

    def log(self) -> None:
        rates = self.learning_rates[self.step - 1].tolist()
        count, means = self.tally.count, self.tally.take_means()
        assert means is not None
        norms: dict[str, list[float]] = {}
        if self._last is not None and self.program.template.has_contributions:
            found, self._last = self.program.gradient_norms(*self._last), None
            norms = {f"gradient_norms/{name}": value.tolist() for name, value in found.items()}
        for index, (job, row, rate) in enumerate(zip(self.jobs, means.tolist(), rates, strict=True)):
            job.step = self.step
            pulls = {name: values[index] for name, values in norms.items()}
            job.log({**dict(zip(self.tally.names, row, strict=True)), **pulls}, count, rate)
        self._drop_ended()

    def probe_between(self, epoch: int) -> None:
        for job, report in zip(self.jobs, self._probe(), strict=True):
            job.report(epoch, report)
        self._drop_ended()

    def save(self) -> None:
        for row, job in enumerate(self.jobs):
            job.step = self.step
            sums = None if self.tally.sums is None else self.tally.sums[row]
            tally = tally_state(self.tally.count, self.tally.names, sums)
            job.save({**self.program.saved(row), "tally": tally, "epoch_pending": self.epoch_pending})

    def _drop_ended(self) -> None:
        """Remove jobs that have ended from the program. Streams and states of the others do not change."""
        keep = [row for row, job in enumerate(self.jobs) if job.outcome is None]
        if len(keep) == len(self.jobs):
            return
        self.jobs = [self.jobs[row] for row in keep]
        if self.jobs:
            self.program.select(keep)
            self.tally.sums = None if self.tally.sums is None else self.tally.sums[keep]
            self._bind()

    def _probe(self) -> list[ProbeReport]:
        """Fit and judge every job's probes on streams that training never uses; every call uses the same sequences."""
        template = self.program.template
        model_generators = [job.generator("probe/model") for job in self.jobs]

        def rollout(batch: Batch) -> Rollout:
            draw, batch_size = template.draw_rollout_noise, batch.states.shape[-4]
            return self.program.rollout(batch, self._latent_noise(model_generators, draw, batch_size))

        def predict_locations(rollout: Rollout) -> Tensor:
            located: Tensor = self.program.apply_eval("predict_locations", rollout)
            return located

        fitted, judged, conditions = probe_streams(self.plan, self._streams_for)
        reports = self.plan.probe.run_jobs(
            rollout,
            fitted,
            judged,
            self.plan.dataset,
            [job.generator("probe_init") for job in self.jobs],
            predict_locations if template.has_location_head else None,
            context_frames=template.context_frames,
            first_judged=template.first_judged,
            conditions=conditions,
        )
        self.say_warnings(reports[0])  # the warnings depend on sizes alone, which the jobs share
        return reports

    def _diagnose(self) -> list[Metrics]:
        """As :meth:`jepa.training.trainer.Trainer._diagnose`, for every job."""
        model_generators = [job.generator("diagnostics/model") for job in self.jobs]
        batch_size = self.plan.dataset.batch_size
        return diagnose(
            self.program,
            self.program.template,
            self._streams_for(self.plan.probe.judging_purpose),
            num_sequences=min(NUM_SEQUENCES, self.plan.probe.judge_sequences),
            draw=lambda draw: self._latent_noise(model_generators, draw, batch_size),
            generators=[job.generator("diagnostics/copies") for job in self.jobs],
        )

    def _decode(self) -> dict[str, FloatArray]:
        """As :meth:`jepa.training.trainer.Trainer._decode`, each [J, T, n, C, H, W]."""
        judged = self._streams_for(self.plan.probe.judging_purpose)
        states, actions = first_sequences(judged.next(), self.plan)
        generators = [job.generator("probe/decoder") for job in self.jobs]
        latent_noise = self._latent_noise(generators, self.program.template.draw_latent_noise, states.shape[-4])
        return as_arrays(self.program.apply_eval("reconstructions", states, actions, latent_noise))

    def _streams_for(self, purpose: str, condition: str | None = None) -> JobStreams:
        """Fresh streams of all jobs for one purpose; condition: as for :meth:`RunState.separate_stream`."""
        streams = [job.separate_stream(purpose, condition) for job in self.jobs]
        return JobStreams(streams, common=self.common_random_numbers)

    def _train_noise(self, generators: Sequence[torch.Generator]) -> Tensor | None:
        return self._latent_noise(
            generators, self.program.template.draw_latent_noise, self.plan.dataset.batch_size
        )

    def _latent_noise(
        self, generators: Sequence[torch.Generator], draw: Callable[..., Tensor | None], batch_size: int
    ) -> Tensor | None:
        """Each job's latent noise, stacked over J; None if the method has none."""
        draws = [draw(generator, batch_size, self.plan.device) for generator in generators]
        return torch.stack([one for one in draws if one is not None]) if draws[0] is not None else None


def _decoded_of(decoded: Callable[[], dict[str, FloatArray]], row: int) -> dict[str, FloatArray]:
    """The images of one job."""
    return {name: images[row] for name, images in decoded().items()}
