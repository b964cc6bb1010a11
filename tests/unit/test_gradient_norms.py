"""The gradient norm of each term at the encoder: against autograd by hand, in packs, and without effect on training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from method_samples import MENET5, batch, vicreg
from test_term_conf import optimizer

from jepa.methods.base import Method
from jepa.packing.program import EXECUTORS, PackedProgram
from jepa.run import command_line
from jepa.store import checkpoint
from jepa.training.program import Program
from jepa.types import Batch

CPU = torch.device("cpu")
TINY = [
    *("dataset.size=32", "dataset.batch_size=8", "dataset.num_steps=5", "trainer.epochs=2", "trainer.warmup_epochs=1"),
    *("model.encoder.width_factor=1", "model.encoder.embedding_size=16", "trainer.log_every_steps=3"),
    *("probe.fit_sequences=80", "probe.judge_sequences=40", "progress=none", "plots=false"),
]


def made(job: int) -> Method:
    return vicreg(seed=job, sim=20.0 + job, std=9.0, action=1.5, networks={"encoder": MENET5})


def by_hand(method: Any, data: Batch) -> dict[str, float]:
    """From one backward pass to the encodings for each term."""
    method.train()
    z = method.encode(data.states)
    values = method.contributions(z, data, None)
    grads = {name: torch.autograd.grad(value, z, retain_graph=True)[0] for name, value in values.items()}
    return {name: float(grad.square().sum().sqrt()) for name, grad in grads.items()}


def test_norms_are_those_of_the_weighted_terms_alone_and_packed() -> None:
    data = [batch(seed=job) for job in range(2)]
    expected = [by_hand(made(job), data[job]) for job in range(2)]
    plain = made(0).contributions(made(0).encode(data[0].states), data[0], None)
    terms = made(0)(data[0]).terms
    torch.testing.assert_close(plain["prediction"], 20 * terms["prediction"])
    torch.testing.assert_close(plain["action"], 1.5 * terms["action"])
    alone = Program(made(0), optimizer(), device=CPU, precision="fp32")
    before = {name: value.clone() for name, value in alone.method.state_dict().items()}
    found = {name: value.item() for name, value in alone.gradient_norms(data[0], None).items()}
    assert found == pytest.approx(expected[0], rel=1e-4) and min(found.values()) > 0
    assert all(torch.equal(before[name], value) for name, value in alone.method.state_dict().items())
    stacked = Batch(*(torch.stack(parts) for parts in zip(*(each[:3] for each in data), strict=True)))
    for executor in EXECUTORS:
        packed = PackedProgram(
            methods=[made(0), made(1)],
            optimizers=[optimizer(), optimizer()],
            device=CPU,
            precision="fp32",
            executor=executor,
        )
        together = packed.gradient_norms(stacked, None)
        for job in range(2):
            found = {name: value[job].item() for name, value in together.items()}
            assert found == pytest.approx(expected[job], rel=1e-3), executor


@pytest.mark.parametrize("words", [["model=vicreg"], ["model=rssm"], ["model=sigreg", "model.projector.layers=16-16"]])
def test_an_epoch_records_them_and_training_does_not_change(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*words, *(["model/projector=mlp"] if "model=sigreg" in words else [])]
    assert command_line([*words, *TINY, f"folder={tmp_path / 'with'}"]) == 0
    monkeypatch.setattr(Method, "has_contributions", False)
    assert command_line([*words, *TINY, f"folder={tmp_path / 'without'}"]) == 0
    records = [json.loads(line) for line in (tmp_path / "with" / "metrics.jsonl").read_text().splitlines()]
    pulls = {name for record in records for name in record if name.startswith("gradient_norms/")}
    terms = {name for record in records for name in record if name.startswith("loss/")} - {"loss/total"}
    assert {name.partition("/")[2] for name in pulls} == {name.partition("/")[2] for name in terms}
    assert [record["step"] for record in records if pulls & set(record)] == [4, 8]
    ours, theirs = (checkpoint.load(tmp_path / name / checkpoint.LAST) for name in ("with", "without"))
    for name, value in theirs["model"].items():
        assert torch.equal(ours["model"][name], value), name
