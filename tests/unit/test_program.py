"""The packed program against the same jobs alone, and the gradients against torch's own autograd."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from method_samples import vicreg_terms
from torch import Tensor
from torch.utils._pytree import tree_map

from jepa.methods.joint_embedding import JointEmbedding
from jepa.models.encoders import MeNet5
from jepa.models.heads import IdentityProjector, MLPProjector
from jepa.models.predictors import RNN
from jepa.optim.lars import LARS
from jepa.optim.schedules import Constant
from jepa.packing import executors
from jepa.packing.executors import choose_executor
from jepa.packing.program import EXECUTORS, PackedProgram
from jepa.training.cuda_graph import WARMUP_STEPS
from jepa.training.program import Program
from jepa.types import Batch, DataShapes, Losses

SHAPES = DataShapes(num_steps=4, channels=1, image_size=28, num_dots=1, action_size=2)
BATCH_SIZE = 6


def make_method(job: int, *, projector: bool = True) -> JointEmbedding:
    """A job of its own: other weights, other coefficients."""
    torch.manual_seed(job)
    return JointEmbedding(
        shapes=SHAPES,
        encoder=partial(MeNet5, width_factor=1, embedding_size=12, mlp=""),
        predictor=partial(RNN, num_layers=1),
        projector=partial(MLPProjector, layers="16-16") if projector else IdentityProjector,
        terms=vicreg_terms(
            sim=1.0 + job,
            std=2.0 + 0.5 * job,
            cov=1.0,
            enc_std=0.5,
            enc_cov=0.1 * (job + 1),
            action=0.3,
            after_projector=projector,
            skip_first_step=False,
        ),
    )


def make_optimizer(job: int) -> LARS:
    return LARS(
        base_lr=0.1 * (job + 1),
        scale_lr_with_batch=True,
        momentum=0.9,
        weight_decay=1e-6 * (job + 1),
        trust_coefficient=0.001,
        schedule=Constant(),
    )


def make_single(job: int) -> Program:
    return Program(make_method(job), make_optimizer(job), device=torch.device("cpu"), precision="fp32")


def make_program(jobs: range | list[int], executor: str = "vmap") -> PackedProgram:
    return PackedProgram(
        methods=[make_method(job) for job in jobs],
        optimizers=[make_optimizer(job) for job in jobs],
        device=torch.device("cpu"),
        precision="fp32",
        executor=executor,
    )


def batch_of(job: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(1000 * job + step)
    states = torch.randn(4, BATCH_SIZE, 1, 28, 28, generator=generator)
    actions = torch.randn(3, BATCH_SIZE, 2, generator=generator)
    return Batch(states, actions, torch.randn(4, BATCH_SIZE, 1, 2, generator=generator))


def stacked(jobs: range | list[int], step: int) -> Batch:
    return tree_map(lambda *values: torch.stack(values), *(batch_of(job, step) for job in jobs))


def assert_states_agree(ours: dict[str, dict[str, Tensor]], theirs: dict[str, dict[str, Tensor]]) -> None:
    """Rounding alone may differ: within 1e-4 of each tensor's largest element (batched kernels sum in other orders)."""
    for part in ("model", "optimizer"):
        assert list(ours[part]) == list(theirs[part])
        for name, value in theirs[part].items():
            bound = 1e-4 * value.abs().max().item()
            torch.testing.assert_close(ours[part][name], value, rtol=0.0, atol=bound, msg=lambda m, n=name: f"{n}: {m}")


def learning_rates(jobs: range | list[int]) -> Tensor:
    return torch.tensor([0.05 * (job + 1) for job in jobs])


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("num_jobs", [2, 5])
def test_each_packed_job_gives_what_it_gives_alone(num_jobs: int, executor: str) -> None:
    jobs = range(num_jobs)
    packed = make_program(jobs, executor)
    alone = [make_single(job) for job in jobs]
    for step in range(3):
        losses = packed.step(stacked(jobs, step), None, learning_rates(jobs))
        for job in jobs:
            single = alone[job].step(batch_of(job, step), None, learning_rates([job])[0])
            torch.testing.assert_close(losses.total[job], single.total, rtol=1e-5, atol=1e-6)
            assert set(losses.terms) == set(single.terms)
            for name, term in single.terms.items():
                torch.testing.assert_close(losses.terms[name][job], term, rtol=1e-5, atol=1e-6)
    for job in jobs:
        assert_states_agree(packed.saved(job), alone[job].saved())


def test_executors_are_measured_and_leave_no_trace() -> None:
    jobs = range(2)
    packed, other = make_program(jobs), make_program(jobs)
    for program in (packed, other):
        program.step(stacked(jobs, 0), None, learning_rates(jobs))
    seconds = choose_executor(packed, stacked(jobs, 1), None)
    assert set(seconds) == set(EXECUTORS)
    assert packed.executor == min(seconds, key=seconds.__getitem__)
    packed.executor = other.executor
    for program in (packed, other):
        program.step(stacked(jobs, 2), None, learning_rates(jobs))
    for job in jobs:
        for part, values in other.saved(job).items():
            assert all(torch.equal(packed.saved(job)[part][name], value) for name, value in values.items())


def test_an_executor_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    packed = make_program(range(2))
    fails = set[str]()
    whole = executors.seconds_per_step

    def seconds(program: PackedProgram, *inputs: object) -> float:
        whole(program, *inputs)  # type: ignore[arg-type]
        if program.executor in fails:
            raise RuntimeError("no kernel\nfor this")
        return 1.0

    monkeypatch.setattr(executors, "seconds_per_step", seconds)
    fails |= {"vmap", "loop"}
    assert choose_executor(packed, stacked(range(2), 0), None) == {"mixed": 1.0}
    assert packed.executor == "mixed"
    assert "executor=loop is left out: no kernel" in caplog.text
    fails.add("mixed")
    assert choose_executor(packed, stacked(range(2), 0), None) == {}
    assert packed.executor == "mixed"


def test_a_recorded_step_is_recorded_anew_for_another_executor() -> None:
    packed = make_program(range(2))
    recorded = []

    def record(call: Callable[[], Losses]) -> Callable[[], Losses]:
        recorded.append(packed.executor)
        return call

    packed.replay_steps(record)
    for packed.executor in ("vmap", "loop"):
        for step in range(WARMUP_STEPS + 2):
            packed.step(stacked(range(2), step), None, learning_rates(range(2)))
    assert recorded == ["vmap", "loop"]


def test_a_step_that_cannot_be_recorded_says_which_setting_asked_for_it() -> None:
    def record(call: Callable[[], Losses]) -> Callable[[], Losses]:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors may come later")

    packed = make_program(range(2))
    packed.replay_steps(record)
    with pytest.raises(RuntimeError, match="cuda_graph=true: .* when stream is capturing.; trainer.cuda_graph=false"):
        for step in range(WARMUP_STEPS + 1):
            packed.step(stacked(range(2), step), None, learning_rates(range(2)))


def test_jobs_that_stay_are_unchanged_when_another_leaves() -> None:
    packed = make_program(range(3))
    packed.step(stacked(range(3), 0), None, learning_rates(range(3)))
    before = packed.saved(2)
    packed.select([0, 2])
    after = packed.saved(1)
    for part in ("model", "optimizer"):
        for name, value in before[part].items():
            assert torch.equal(after[part][name], value), name
    alone = make_single(2)
    alone.load(before)
    packed.step(stacked([0, 2], 1), None, learning_rates([0, 2]))
    alone.step(batch_of(2, 1), None, learning_rates([2])[0])
    assert_states_agree(packed.saved(1), alone.saved())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_packed_gradients_are_those_of_plain_autograd(executor: str) -> None:
    packed = make_program([3, 4], executor)
    packed.template.train()
    losses = packed._model(stacked([3, 4], 0), None)
    found = torch.autograd.grad(losses.total.sum(), packed.state.leaves, allow_unused=True, materialize_grads=True)
    grads = dict(zip(packed.leaves, found, strict=True))
    for row, job in enumerate([3, 4]):
        method = make_method(job)
        reference = method(batch_of(job, 0))
        reference.total.backward()
        torch.testing.assert_close(losses.total[row], reference.total)
        for name, parameter in method.named_parameters():
            torch.testing.assert_close(grads[name][row], parameter.grad, rtol=1e-4, atol=1e-5)


def test_rollouts_of_packed_jobs_use_running_statistics_of_their_own() -> None:
    packed = make_program(range(2))
    packed.step(stacked(range(2), 0), None, learning_rates(range(2)))
    rollout = packed.rollout(stacked(range(2), 1), None)
    for job in range(2):
        alone = make_single(job)
        alone.load(packed.saved(job))
        single = alone.rollout(batch_of(job, 1), None)
        torch.testing.assert_close(rollout.encodings[job], single.encodings, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(rollout.predictions[job], single.predictions, rtol=1e-5, atol=1e-6)


def test_jobs_of_other_shapes_are_refused() -> None:
    methods = [make_method(0), make_method(1, projector=False)]
    with pytest.raises(ValueError, match="do not agree in shapes"):
        PackedProgram(
            methods=methods,
            optimizers=[make_optimizer(0), make_optimizer(1)],
            device=torch.device("cpu"),
            precision="fp32",
        )
