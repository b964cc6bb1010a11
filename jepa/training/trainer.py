"""The trainer of a single run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from jepa.kernels import KERNELS, install
from jepa.loggers.base import Logger
from jepa.methods.base import Method
from jepa.probes import ProbeReport
from jepa.probes.diagnostics import NUM_SEQUENCES
from jepa.probes.report import FloatArray, Metrics
from jepa.training import runtime
from jepa.training.diagnosis import diagnose
from jepa.training.interrupts import StopRequest
from jepa.training.loop import Trainee, train
from jepa.training.outcome import Outcome
from jepa.training.plan import Plan
from jepa.training.program import Program
from jepa.training.run_state import RunState
from jepa.training.tally import Tally
from jepa.types import Batch, Rollout

log = logging.getLogger(__name__)

_Streams = TypeVar("_Streams")

# trainer.compile=auto compiles only in bf16 on a CPU: it takes half a minute and saves a quarter of each step. In fp32
# compiling saves nothing.
STEPS_WORTH_COMPILING = 5000
DECODED_SEQUENCES = 3  # judged sequences whose decoded frames are plotted


class Trainer(Trainee):
    """Trains, probes and saves one run."""

    def __init__(self, plan: Plan, *, loggers: Sequence[Logger] = (), resume: bool = False) -> None:
        """Build the program. With ``resume``, continue from the folder's checkpoint.

        Args:
            plan: the run.
            loggers: they receive the run's numbers.
            resume: continue from the checkpoint, if there is one.

        Raises:
            ConfigError: ``init_from`` is missing, is damaged or has other shapes; the checkpoint belongs to another
                configuration; images are missing.
        """
        self.plan = plan
        method = plan.initial_method()
        self.total_steps = plan.total_steps(method)
        self.run_state = RunState(plan, loggers=loggers, resume=resume)
        self.run_state.describe(method)
        self.program = Program(method, plan.optimizer, device=plan.device, precision=plan.config.precision)
        allowed = KERNELS if plan.config.trainer.kernels else ()
        installed = install(method, device=plan.device, precision=plan.config.precision, only=allowed)
        self.run_state.record["kernels"] = installed
        self.tally = Tally()
        self._last: tuple[Batch, Tensor | None] | None = None  # of the epoch's last step, until it is logged
        self.learning_rates = plan.learning_rates(self.total_steps)  # [steps]
        self._restore()
        if is_to_be_compiled(plan, method, self.total_steps):
            log.info("the train step is compiled first: about half a minute")
            self.program.compile()
        if plan.config.trainer.cuda_graph:
            self.program.replay_steps()
        elif plan.device.type == "cuda":
            log.info("trainer.cuda_graph=true replays the train step in one launch, which is faster with small batches")

    def _restore(self) -> None:
        restored = self.run_state.restore(self.program.method.state_dict(), total_steps=self.total_steps)
        if restored.state is not None:
            self.program.load(restored.state)
            self.tally.load(restored.state["tally"], self.plan.device)
            self.epoch_pending = restored.state["epoch_pending"]
        elif restored.initial_model is not None:
            self.program.load_model(restored.initial_model)
        self.step = self.run_state.step

    @property
    def is_over(self) -> bool:
        return super().is_over or self.run_state.outcome is not None

    def run(self) -> Outcome:
        """Train to the end, judge the model, and write the outcome to the run's folder.

        Raises:
            KeyboardInterrupt: a signal asked to stop; the checkpoint has been saved.
        """
        try:
            self.run_state.open(self.total_steps)
            with StopRequest() as stop:
                train(self, stop)
            if self.run_state.outcome is None:
                decode = self._decode if self.program.method.has_decoder else None
                model = self.program.saved()["model"]
                self.run_state.judge(self._probe(), model, decode, diagnostics=self._diagnose())
        except BaseException as error:
            self.run_state.abandon(error)
            raise
        assert self.run_state.outcome is not None
        return self.run_state.outcome

    def advance(self) -> None:
        latent_noise = self._latent_noise(self.program.method.draw_latent_noise, self.run_state.model_generator)
        batch = self.next_batch()
        self.tally.add(self.program.step(batch, latent_noise, self.learning_rates[self.step]))
        self.step += 1
        self._last = (batch, latent_noise) if self.step % self.plan.dataset.steps_per_epoch == 0 else None

    def next_batch(self) -> Batch:
        """The next batch of training, [T, B, ...]."""
        return self.run_state.stream.next()

    def charge(self, seconds: float) -> None:
        self.run_state.train_seconds += seconds

    def log(self) -> None:
        count = self.tally.count
        self.run_state.step = self.step
        norms: dict[str, float] = {}
        if self._last is not None and self.program.method.has_contributions:
            found, self._last = self.program.gradient_norms(*self._last), None
            norms = {f"gradient_norms/{name}": value.item() for name, value in found.items()}
        self.run_state.log({**self.tally.take(), **norms}, count, float(self.learning_rates[self.step - 1]))

    def probe_between(self, epoch: int) -> None:
        self.run_state.report(epoch, self._probe())

    def save(self) -> None:
        if self.run_state.outcome is None:
            self.run_state.step = self.step
            saved = {**self.program.saved(), "tally": self.tally.state(), "epoch_pending": self.epoch_pending}
            self.run_state.save(saved)

    def _probe(self) -> ProbeReport:
        """Fit and judge the probes on streams that training never uses. Every call uses the same sequences."""
        run_state, method = self.run_state, self.program.method
        model_generator = run_state.generator("probe/model")

        def rollout(batch: Batch) -> Rollout:
            latent_noise = method.draw_rollout_noise(model_generator, batch.states.shape[1], self.plan.device)
            return self.program.rollout(batch, latent_noise)

        def predict_locations(rollout: Rollout) -> Tensor:
            located: Tensor = self.program.apply_eval("predict_locations", rollout)
            return located

        fitted, judged, conditions = probe_streams(self.plan, run_state.separate_stream)
        report = self.plan.probe.run(
            rollout,
            fitted,
            judged,
            self.plan.dataset,
            run_state.generator("probe_init"),
            predict_locations if method.has_location_head else None,
            context_frames=method.context_frames,
            first_judged=method.first_judged,
            conditions=conditions,
        )
        self.say_warnings(report)
        return report

    def _diagnose(self) -> Metrics:
        """The diagnostics of the trained model, on the first judged sequences."""
        run_state, plan = self.run_state, self.plan
        model_generator = run_state.generator("diagnostics/model")
        [metrics] = diagnose(
            self.program,
            self.program.method,
            run_state.separate_stream(plan.probe.judging_purpose),
            num_sequences=min(NUM_SEQUENCES, plan.probe.judge_sequences),
            draw=lambda draw: self._latent_noise(draw, model_generator),
            generators=[run_state.generator("diagnostics/copies")],
        )
        return metrics

    def _decode(self) -> dict[str, FloatArray]:
        """Images decoded from the first judged sequences, by what they are decoded from, each [T, n, C, H, W]."""
        run_state, method = self.run_state, self.program.method
        judged = run_state.separate_stream(self.plan.probe.judging_purpose)
        states, actions = first_sequences(judged.next(), self.plan)
        generator = run_state.generator("probe/decoder")
        latent_noise = method.draw_latent_noise(generator, states.shape[-4], self.plan.device)
        return as_arrays(self.program.apply_eval("reconstructions", states, actions, latent_noise))

    def _latent_noise(self, draw: Callable[..., Tensor | None], generator: torch.Generator) -> Tensor | None:
        return draw(generator, self.plan.dataset.batch_size, self.plan.device)


def probe_streams(
    plan: Plan, fresh: Callable[..., _Streams]
) -> tuple[_Streams, _Streams, dict[str, tuple[_Streams, _Streams]]]:
    """The streams that probes are fitted and judged on: two of the run's own noise, and two for each condition by name.

    fresh: makes a stream for a purpose and, as its second argument, the name of a condition.
    """

    def pair(*condition: str) -> tuple[_Streams, _Streams]:
        return fresh("probe_fit", *condition), fresh(plan.probe.judging_purpose, *condition)

    return (*pair(), {name: pair(name) for name in plan.conditions})


def first_sequences(batch: Batch, plan: Plan) -> tuple[Tensor, Tensor]:
    """States and actions of the sequences whose decoded frames the plots show, [(J,) T, n, ...]."""
    count = min(DECODED_SEQUENCES, plan.probe.num_samples)
    return batch.states[..., :count, :, :, :], batch.actions[..., :count, :]


def as_arrays(images: Mapping[str, Tensor]) -> dict[str, FloatArray]:
    """``images`` as arrays of single precision on the CPU."""
    return {name: tensor.float().cpu().numpy() for name, tensor in images.items()}


def is_to_be_compiled(plan: Plan, method: Method, total_steps: int) -> bool:
    """Whether to compile the train step with ``torch.compile``.

    The answer depends on the whole run's length, so a resumed run gets the same answer.
    """
    wanted = str(plan.config.trainer.compile).lower()
    if wanted != "auto":
        return wanted == "true"
    suited = plan.device.type == "cpu" and plan.config.precision == "bf16" and method.gains_compiled
    return suited and total_steps >= STEPS_WORTH_COMPILING and runtime.has_cpp_compiler()
