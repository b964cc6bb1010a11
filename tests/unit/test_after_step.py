"""A method with an averaged target: state that is not trained, alone and packed, saved and continued."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from jepa.errors import ConfigError
from jepa.methods.joint_embedding import JointEmbedding
from jepa.models.average import AveragedCopy
from jepa.models.encoders import MeNet5
from jepa.models.predictors import RNN
from jepa.optim.lars import LARS
from jepa.optim.schedules import Constant
from jepa.packing.program import EXECUTORS, PackedProgram
from jepa.training.program import Program
from jepa.types import Batch, DataShapes, Losses

SHAPES = DataShapes(num_steps=4, channels=1, image_size=28, num_dots=1, action_size=2)
SIZE = 6
DECAYS = (0.9, 0.5)


class AveragedTarget(JointEmbedding):
    """Predictions near the encodings of an averaged encoder."""

    def __init__(self, *, decay: float) -> None:
        super().__init__(
            shapes=SHAPES,
            encoder=partial(MeNet5, width_factor=1, embedding_size=8, mlp=""),
            predictor=partial(RNN, num_layers=1),
            terms={},
        )
        self.trainable = True
        self.target = AveragedCopy(self.encoder, decay=decay)

    def forward(self, batch: Batch, noise: Tensor | None = None) -> Losses:
        _, predictions = self.rollout(batch.states, batch.actions)
        targets = self.target(batch.states.flatten(0, 1)).reshape(*batch.states.shape[:2], -1)
        loss = F.mse_loss(predictions.float(), targets[1:].float())
        return Losses(loss, {"prediction": loss})

    def after_step(self) -> None:
        self.target.follow(self.encoder)


def make(job: int) -> AveragedTarget:
    torch.manual_seed(job)
    return AveragedTarget(decay=DECAYS[job])


def program(jobs: list[int], *, executor: str = "vmap", precision: str = "fp32") -> Program | PackedProgram:
    optimizers = [
        LARS(
            base_lr=1.0,
            scale_lr_with_batch=True,
            momentum=0.9,
            weight_decay=0.0,
            trust_coefficient=0.01,
            schedule=Constant(),
        )
        for _ in jobs
    ]
    methods = [make(job) for job in jobs]
    device = torch.device("cpu")
    if len(jobs) == 1:
        return Program(methods[0], optimizers[0], device=device, precision=precision)
    return PackedProgram(
        methods=methods, optimizers=optimizers, device=device, precision=precision, executor=executor
    )


def batch_of(job: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(100 * job + step)
    states = torch.randn(4, SIZE, 1, 28, 28, generator=generator)
    return Batch(states, torch.randn(3, SIZE, 2, generator=generator), torch.randn(4, SIZE, 1, 2, generator=generator))


def train(trained: Program | PackedProgram, jobs: list[int], steps: range) -> None:
    for step in steps:
        batches = [batch_of(job, step) for job in jobs]
        if len(jobs) == 1:
            trained.step(batches[0], None, torch.tensor(0.5))
        else:
            trained.step(tree_map(lambda *values: torch.stack(values), *batches), None, torch.full((len(jobs),), 0.5))


def model(trained: Program | PackedProgram, job: int = 0) -> dict[str, Tensor]:
    saved = trained.saved() if isinstance(trained, Program) else trained.saved(job)
    return saved["model"]


def test_the_target_is_the_average_of_the_encoders_weights() -> None:
    alone = program([0])
    name = "encoder.fc.weight"
    average = model(alone)[name].double()
    for step in range(4):
        train(alone, [0], range(step, step + 1))
        average = DECAYS[0] * average + (1 - DECAYS[0]) * model(alone)[name].double()
    after = model(alone)
    torch.testing.assert_close(after["target.network.fc.weight"].double(), average, rtol=1e-5, atol=1e-7)
    assert not torch.equal(after["target.network.fc.weight"], after[name])
    assert not any(parameter.startswith("target") for parameter in dict(alone.method.named_parameters()))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_packed_jobs_average_as_they_would_alone(executor: str) -> None:
    packed = program([0, 1], executor=executor)
    train(packed, [0, 1], range(3))
    for job in range(2):
        alone = program([job])
        train(alone, [job], range(3))
        for name, value in model(alone).items():
            torch.testing.assert_close(model(packed, job)[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_continued_job_is_the_undisturbed_one(precision: str) -> None:
    whole, first = program([1], precision=precision), program([1], precision=precision)
    train(whole, [1], range(4))
    train(first, [1], range(2))
    second = program([1], precision=precision)
    second.load(first.saved())
    train(second, [1], range(2, 4))
    for name, value in model(whole).items():
        assert torch.equal(model(second)[name], value), name


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"decay=1\.5: must be at least 0 and at most 1"):
        AveragedCopy(torch.nn.Linear(2, 2), decay=1.5)
