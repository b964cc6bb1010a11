"""The loop: jobs come in as specifications and leave as results; one job or J packed jobs go through the same code."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jepa.methods.base import Method
from jepa.probes import ProbeReport
from jepa.seeding import derive_seed, generator
from jepa.store import checkpoint
from jepa.training import runtime
from jepa.training.executors import MEASURED, choose_executor
from jepa.training.interrupts import StopRequest
from jepa.training.job import Job, Outcome, RunSpec, TrainerSettings
from jepa.training.program import Program
from jepa.training.streams import JobStreams
from jepa.training.tally import Tally
from jepa.types import Batch, Rollout

__all__ = ["Outcome", "RunSpec", "Trainer", "TrainerSettings"]

log = logging.getLogger(__name__)

# trainer.compile=auto, in bf16 on a CPU: half a minute of compiling saves a quarter of each step; in fp32, nothing.
STEPS_WORTH_COMPILING = 5000


class StepsDiffer(RuntimeError):
    """The checkpoints of a pack's jobs are of different steps; jobs of one step can share a pack."""


class Trainer:
    """Trains, probes and saves J jobs that agree in structure; a single run is J = 1."""

    def __init__(
        self, specs: Sequence[RunSpec], *, executor: str = "vmap", common_random_numbers: bool = False
    ) -> None:
        """Build the program and, where asked, continue from checkpoints.

        Args:
            specs: jobs that agree in everything but numbers (seed, coefficients, learning rates).
            executor: how several jobs run, see :class:`Program`, or ``"measured"``.
            common_random_numbers: all jobs are given the first one's dots and overlays, each at its own coefficients.

        Raises:
            ConfigError: ``init_from`` is missing, damaged or of another shape; a checkpoint of another configuration;
                missing images.
            StepsDiffer: the jobs cannot go on together.
        """
        first = specs[0]
        self.settings = first.settings
        self.dataset = first.dataset
        self.device = first.device
        self.common_random_numbers = common_random_numbers
        self.jobs = [Job(spec) for spec in specs]
        methods = [build_method(spec) for spec in specs]
        for job, method in zip(self.jobs, methods, strict=True):
            job.loss_weights, job.context_frames = method.loss_weights(), method.context_frames
        self.total_steps = self.settings.epochs * self.dataset.steps_per_epoch if methods[0].trainable else 0
        self.program = Program(
            methods=methods,
            optimizers=[spec.optimizer for spec in specs],
            device=self.device,
            precision=first.precision,
            executor="vmap" if executor == MEASURED else executor,
        )
        self.tally = Tally()
        self._warned = False  # the probes' warnings have been logged
        self._epoch_pending = False  # an epoch is over, and its probe and checkpoint have not been made yet
        self.step = self._restore()
        self._bind()
        if self._is_to_be_compiled():
            log.info("the train step is compiled first: about half a minute")
            self.program.compile()
        if self.settings.cuda_graph:
            self.program.replay_steps()
        if executor == MEASURED and len(self.jobs) > 1 and self.step < self.total_steps:
            self._choose_executor()

    def _restore(self) -> int:
        """Weights, streams and counters from the checkpoint there, from ``init_from``, or fresh; the step reached."""
        tallies = []
        for row, job in enumerate(self.jobs):
            spec = job.spec
            found = checkpoint.latest(spec.folder, str(spec.record["config_hash"])) if spec.resume else None
            job.found = found
            if found is not None and found.state is not None:
                self.program.load_job_state(row, found.state)
                job.load_state(found.state, self.device)
                tallies.append(found.state["tally"])
                self._epoch_pending = found.state["epoch_pending"]
                log.info("continuing from %s, step %d of %d", found.path, job.step, self.total_steps)
                continue
            if spec.init_from is not None:
                model, unused = checkpoint.initial_model(spec.init_from, self.program.job_state(row)["model"])
                self.program.load_model(row, model)
                if unused:
                    log.info("init_from=%s: not used: %s", spec.init_from, ", ".join(unused))
            job.start_fresh(self.device)
        steps = sorted({job.step for job in self.jobs})
        if len(steps) != 1:
            raise StepsDiffer(f"jobs of one pack must continue from one step, not from steps {steps}")
        if tallies:
            self.tally.load(tallies, self.device)
        return steps[0]

    def _bind(self) -> None:
        """Whatever follows from the set of jobs: their streams and their table of learning rates."""
        self.learning_rates = self._learning_rates()
        self.streams = JobStreams([job.stream for job in self.jobs], common=self.common_random_numbers)

    def _is_to_be_compiled(self) -> bool:
        """Whether the steps of this run, however often it is interrupted, go through ``torch.compile``."""
        if self.settings.compile != "auto":
            return self.settings.compile == "true"
        program = self.program
        suited = self.device.type == "cpu" and program.precision == "bf16" and program.template.gains_compiled
        return suited and self.total_steps >= STEPS_WORTH_COMPILING and runtime.has_cpp_compiler()

    def _choose_executor(self) -> None:
        """Whichever executor is fastest with the jobs' own sizes, shown by steps on draws that are not training's."""
        generators = [generator(job.spec.seed, "probe/model", self.device) for job in self.jobs]
        noise = self._noise(generators, self.program.template.draw_noise, self.dataset.batch_size)
        seconds = choose_executor(self.program, self._streams_for("probe_fit").next(), noise)
        shown = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in seconds.items())
        log.info("a step of %d jobs: %s", len(self.jobs), shown)

    def _streams_for(self, purpose: str) -> JobStreams:
        """Fresh streams of all jobs, apart from those that they train on."""
        streams = [job.separate_stream(purpose, self.device) for job in self.jobs]
        return JobStreams(streams, common=self.common_random_numbers)

    def note(self, **entries: object) -> None:
        """Entries for the result of every job."""
        for job in self.jobs:
            job.spec = replace(job.spec, record={**job.spec.record, **entries})

    def _learning_rates(self) -> Tensor:
        """The learning rate of every step and job, [steps, J], on the device: no step waits for a number."""
        if self.total_steps == 0:
            return torch.zeros(0, len(self.jobs))
        schedule = self.jobs[0].spec.optimizer.schedule
        factors = schedule.factors(self.total_steps, self.dataset.steps_per_epoch)
        base = [job.spec.optimizer.scaled_lr(self.dataset.batch_size) for job in self.jobs]
        table = factors[:, None] * torch.tensor(base, dtype=factors.dtype)
        return table.to(torch.float32).to(self.device)

    # --- the loop ----------------------------------------------------------------------------------------------

    def run(self) -> list[Outcome]:
        """Train to the end and judge every job.

        Returns:
            The outcome of each specification, in order; each has been written to its job's folder already.

        Raises:
            KeyboardInterrupt: a signal asked to stop; every job's checkpoint has been saved.
        """
        everyone = list(self.jobs)
        try:
            for job in everyone:
                job.open(total_steps=self.total_steps, steps_per_epoch=self.dataset.steps_per_epoch)
            with StopRequest() as stop:
                self._train(stop)
            self._judge_and_finish()
        except BaseException as error:
            for job in everyone:
                job.abandon(error, packed=len(everyone) > 1)
            raise
        return [job.outcome for job in everyone if job.outcome is not None]

    def _train(self, stop: StopRequest) -> None:
        """Steps until the end of training, a signal, or no job left."""
        if self._epoch_pending:
            self._between_epochs()
        started = time.perf_counter()
        while self.step < self.total_steps and self.jobs:
            self._one_step()
            epoch_ends = self.step % self.dataset.steps_per_epoch == 0
            if epoch_ends or self.step % self.settings.log_every_steps == 0:
                started = self._share_time(started)
                self._log()
            self._epoch_pending = epoch_ends and self.step < self.total_steps
            if stop.requested:
                self._share_time(started)
                self._save()
                raise KeyboardInterrupt
            if self._epoch_pending and self.jobs:
                self._between_epochs()
                started = time.perf_counter()
        self._save()

    def _one_step(self) -> None:
        batch = self.streams.next()
        noise = self._noise(
            [job.model_generator for job in self.jobs], self.program.template.draw_noise, self.dataset.batch_size
        )
        self.tally.add(self.program.step(batch, noise, self.learning_rates[self.step]))
        self.step += 1

    def _share_time(self, started: float) -> float:
        """Charge the time since ``started`` to the jobs in equal parts; the new start."""
        now = time.perf_counter()
        for job in self.jobs:
            job.train_seconds += (now - started) / len(self.jobs)
        return now

    def _log(self) -> None:
        """Write a record of every job; jobs whose loss is no longer a number leave."""
        learning_rates = self.learning_rates[self.step - 1].tolist()
        count = self.tally.count
        gone = []
        for row, (job, means) in enumerate(zip(self.jobs, self.tally.take(), strict=True)):
            job.step = self.step
            if not job.log(means, count, learning_rates[row]):
                error = f"the loss was not finite by step {self.step}"
                job.finish("failed", error=error, reason="not_finite")
                gone.append(row)
        self._drop(gone)

    def _between_epochs(self) -> None:
        """Probes and checkpoints at the intervals asked for; pruned jobs leave."""
        epoch = self.step // self.dataset.steps_per_epoch
        every = self.settings.probe_every_epochs
        if every and epoch % every == 0:
            gone = []
            for row, report in enumerate(self._probe()):
                if self.jobs[row].report(epoch, report):
                    self.jobs[row].finish("pruned")
                    gone.append(row)
            self._drop(gone)
        self._epoch_pending = False
        every = self.settings.checkpoint_every_epochs
        if every and epoch % every == 0:
            self._save()

    def _judge_and_finish(self) -> None:
        for job, report in zip(self.jobs, self._probe() if self.jobs else [], strict=True):
            job.judge(report)
            if job.broken:
                error = f"the probe's result is not finite: {', '.join(job.broken)}"
                job.finish("failed", error=error, reason="not_finite")
            else:
                job.finish("finished")

    def _drop(self, rows: Sequence[int]) -> None:
        """Take jobs out of the program; the streams and states of the others go on unchanged."""
        if not rows:
            return
        keep = [row for row in range(len(self.jobs)) if row not in rows]
        self.jobs = [self.jobs[row] for row in keep]
        if self.jobs:
            self.program.select(keep)
            self.tally.select(keep)
            self._bind()

    def _save(self) -> None:
        for row, job in enumerate(self.jobs):
            job.step = self.step
            state = {**self.program.job_state(row), **job.state(), "tally": self.tally.state(row)}
            state["epoch_pending"] = self._epoch_pending
            checkpoint.save(job.spec.folder, state)

    # --- judging -----------------------------------------------------------------------------------------------

    def _probe(self) -> list[ProbeReport]:
        """Fit and judge the probes of every job on streams that training never sees; the same ones at every call."""
        seeds = [job.spec.seed for job in self.jobs]
        model_generators = [generator(seed, "probe/model", self.device) for seed in seeds]

        def rollout(batch: Batch) -> Rollout:
            noise = self._noise(model_generators, self.program.template.draw_rollout_noise, batch.states.shape[-4])
            return self.program.rollout(batch, noise)

        fit, judge = (self._streams_for(purpose) for purpose in ("probe_fit", "probe_judge"))
        reports = self.jobs[0].spec.probe.run_jobs(
            rollout,
            fit,
            judge,
            self.dataset,
            [generator(seed, "probe_init", self.device) for seed in seeds],
            context_frames=self.program.template.context_frames,
            predict_locations=self._head(),
        )
        if not self._warned:
            self._warned = True
            for text in reports[0].warnings:  # one probe fits all jobs
                log.info("warning: %s", text)
        return reports

    def _head(self) -> Callable[[Rollout], Tensor] | None:
        """The model's own map from embeddings to locations, where it has one (the supervised method)."""
        if not self.program.template.has_location_head:
            return None
        return lambda rollout: self.program.apply_eval("predict_locations", rollout)

    def _noise(
        self, generators: Sequence[torch.Generator], draw: Callable[..., Tensor | None], batch_size: int
    ) -> Tensor | None:
        """The models' own draws: one job's as they are, several stacked over J."""
        draws = [draw(job_generator, batch_size, self.device) for job_generator in generators]
        if draws[0] is None:
            return None
        return draws[0] if len(draws) == 1 else torch.stack([one for one in draws if one is not None])


def build_method(spec: RunSpec) -> Method:
    """The method with initial weights that follow from the seed alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(spec.seed, "init"))
        return spec.build_method()
