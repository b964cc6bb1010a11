"""Training where the host sees nothing: torch's meta device stands for a GPU.

Nothing is computed there. What is left shows whether a program keeps to its device: a number that the host reads is an
error, so is a tensor left on the CPU, and a transfer in a step is found by its operator.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jepa import prepare
from jepa.config.compose import compose, register
from jepa.packing.program import EXECUTORS
from jepa.packing.trainer import PackTrainer
from jepa.prepare import make_plan
from jepa.training.outcome import Outcome
from jepa.training.trainer import Trainer

META = torch.device("meta")
TINY = [
    *("dataset.batch_size=4", "dataset.num_steps=4", "dataset.size=16", "dataset.noise=1", "trainer.epochs=1"),
    *("dataset.normalize=false",),  # statistics of frames are read once, before training
    *("trainer.warmup_epochs=0", "progress=none"),
]
CASES = [
    ["model=vicreg"],
    ["model=vicreg", "model/encoder=resnet18", "model.encoder.base_width=8"],
    ["model=vicreg", "dataset=multiple", "dataset.static_noise_speed=1"],
    ["model=vicreg", "dataset.structured_noise=true", "dataset.structured_source=photos"],
    ["model=simclr", "optimizer=adam"],
    ["model=idm"],
    ["model=supervised"],
    ["model=rssm"],
]


class _Generator(torch.Generator):
    """There is none for the meta device: this one says that it is of it, and keeps its state on the CPU."""

    device = META

    def __new__(cls, device: Any = None) -> _Generator:
        return super().__new__(cls)

    def __init__(self, device: Any = None) -> None:
        super().__init__()


class _Strangers(TorchDispatchMode):
    """Notes operators that take or give a tensor of another device, if it is more than a number known to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        moved = "copy" in str(func) and len(devices) > 1
        if moved or any(tensor.device != META and tensor.dim() for tensor in tensors):
            self.found.add(str(func))
        return result


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "resolve_device", lambda name: META)
    monkeypatch.setattr(torch, "Generator", _Generator)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # not made for this device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)


def trainer_of(folder: Path, num_jobs: int, executor: str, *overrides: str) -> Trainer | PackTrainer:
    register()
    plans = []
    for job in range(num_jobs):
        chosen = [*TINY, *overrides, f"seed={job}", f"folder={folder / str(job)}", f"dataset.static_noise={0.5 + job}"]
        plans.append(make_plan(compose(chosen, with_hydra=True)))
    return Trainer(plans[0]) if num_jobs == 1 else PackTrainer(plans, executor=executor)


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize(("num_jobs", "executor"), [(1, "vmap"), *((3, executor) for executor in EXECUTORS)])
@pytest.mark.parametrize("overrides", CASES, ids=" ".join)
def test_a_program_keeps_to_its_device(overrides: list[str], num_jobs: int, executor: str, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, num_jobs, executor, *overrides)
    trainer.advance()  # what is sent once, and kept
    with _Strangers() as strangers:
        trainer.advance()
    assert not strangers.found
    program = trainer.program
    state = [program.state.params, *program.state.hyper.values(), *program.state.optimizer_state.values()]
    if isinstance(trainer, Trainer):
        state += trainer.program.method.state_dict().values()
        noise = trainer.program.method.draw_rollout_noise(trainer.run_state.model_generator, 4, META)
    else:
        state += trainer.program.buffers.values()
        generators = [job.model_generator for job in trainer.jobs]
        noise = trainer._latent_noise(generators, trainer.program.template.draw_rollout_noise, 4)
    assert all(tensor.device == META for tensor in state)
    rollout = program.rollout(trainer.next_batch(), noise)
    assert rollout.encodings.device == rollout.predictions.device == META
    if isinstance(trainer, PackTrainer):
        trainer.jobs[1].outcome = Outcome("pruned", 0.0)
        trainer._drop_ended()
        trainer.advance()
        assert trainer.program.num_jobs == 2
