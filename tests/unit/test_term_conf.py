"""The files of conf/model/term: each is a term that any method takes, alone and packed, in every precision, resumed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from method_samples import SHAPES, B, batch
from torch import Tensor
from torch.utils._pytree import tree_map

from jepa.config.check import check_open, references
from jepa.config.compose import compose, config_dir, register, resolved
from jepa.config.search_path import group_options
from jepa.errors import ConfigError
from jepa.methods.base import Method
from jepa.optim.lars import LARS
from jepa.optim.schedules import Constant
from jepa.packing.program import EXECUTORS, PackedProgram
from jepa.prepare import BASES, make_method
from jepa.run import command_line
from jepa.training.program import Program
from jepa.types import Batch

TERMS = group_options("model/term")
HOSTS = ["vicreg", "simclr", "rssm"]
SMALL = ["model.encoder.width_factor=1", "model.encoder.embedding_size=8"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


def added(term: str, coeff: float | None = None) -> list[str]:
    """The words that add a term to a method."""
    words = [f"+model/term@model.terms.added={term}"]
    return words if coeff is None else [*words, f"model.terms.added.coeff={coeff}"]


def build(*overrides: str, seed: int = 0) -> Method:
    cfg = compose([*SMALL, *overrides])
    plain, referred = resolved(cfg), references(cfg, "model")
    check_open(plain, BASES, referred)
    torch.manual_seed(seed)
    return make_method(plain, referred, SHAPES)


def noise_of(method: Method, seed: int) -> Tensor | None:
    return method.draw_latent_noise(torch.Generator().manual_seed(seed), B, CPU)


def optimizer() -> LARS:
    numbers = {"momentum": 0.9, "weight_decay": 0.0, "trust_coefficient": 0.01}
    return LARS(base_lr=1.0, scale_lr_with_batch=True, schedule=Constant(), **numbers)


def program(method: Method, precision: str = "fp32") -> Program:
    return Program(method, optimizer(), device=CPU, precision=precision)


def take_steps(trained: Program, seed: int, steps: Sequence[int]) -> list[float]:
    """The totals of these steps, each with a batch and latent noise of its own."""
    rate = torch.tensor(0.1)
    return [
        trained.step(batch(10 * seed + step), noise_of(trained.method, 10 * seed + step), rate).total.item()
        for step in steps
    ]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("term", TERMS)
def test_a_term_adds_a_finite_value_and_a_gradient_to_any_method(term: str, host: str) -> None:
    method = build(f"model={host}", *added(term, 0.5))
    losses = method(batch(), noise_of(method, 0))
    value = losses.terms["added"]
    assert value.isfinite() and losses.total.isfinite() and value.dtype == torch.float32
    weights = [parameter for name, parameter in method.named_parameters() if name.startswith("encoder")]
    grads = torch.autograd.grad(value, weights, retain_graph=True)
    assert all(grad.isfinite().all() for grad in grads) and any(grad.any() for grad in grads)
    alone = build(f"model={host}")
    plain = alone(batch(), noise_of(alone, 0))
    assert set(losses.terms) == {*plain.terms, "added"}
    torch.testing.assert_close(losses.total - 0.5 * value, plain.total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("term", TERMS)
def test_without_weight_the_run_is_that_of_the_method_alone(term: str, host: str) -> None:
    ours, theirs = program(build(f"model={host}", *added(term, 0))), program(build(f"model={host}"))
    assert ours.method.structure() == theirs.method.structure()
    assert take_steps(ours, 1, [0, 1]) == take_steps(theirs, 1, [0, 1])
    for name, value in theirs.saved()["model"].items():
        assert torch.equal(ours.saved()["model"][name], value), name


@pytest.mark.parametrize("term", TERMS)
def test_in_bf16_the_value_is_near_that_of_single_precision(term: str) -> None:
    def value(precision: str) -> float:
        trained = program(build("model=simclr", *added(term)), precision)
        return trained.step(batch(), noise_of(trained.method, 0), torch.tensor(0.1)).terms["added"].item()

    assert value("bf16") == pytest.approx(value("fp32"), rel=0.05, abs=0.02)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("term", TERMS)
def test_packed_jobs_are_the_jobs_alone(term: str, executor: str) -> None:
    words = [["model=vicreg", *added(term, 0.1 + job)] for job in range(2)]
    methods = [build(*each, seed=job).double() for job, each in enumerate(words)]
    packed = PackedProgram(
        methods=methods, optimizers=[optimizer() for _ in methods], device=CPU, precision="fp32", executor=executor
    )
    alone = [program(build(*each, seed=job).double()) for job, each in enumerate(words)]
    for step in range(2):
        data = [batch(10 * job + step, dtype=torch.float64) for job in range(2)]
        noise = [noise_of(method.method, 10 * job + step) for job, method in enumerate(alone)]
        noise = [None if each is None else each.double() for each in noise]
        stacked: Batch = tree_map(lambda *values: torch.stack(values), *data)
        together = packed.step(
            stacked, None if noise[0] is None else torch.stack(noise), torch.full((2,), 0.1, dtype=torch.float64)
        )
        for job, single in enumerate(alone):
            losses = single.step(data[job], noise[job], torch.tensor(0.1, dtype=torch.float64))
            torch.testing.assert_close(together.terms["added"][job], losses.terms["added"], rtol=1e-7, atol=1e-10)
    for job, single in enumerate(alone):
        saved = packed.saved(job)["model"]
        for name, value in single.saved()["model"].items():
            torch.testing.assert_close(saved[name], value, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("term", TERMS)
def test_a_continued_job_is_the_undisturbed_one(term: str) -> None:
    whole, first, second = (program(build("model=vicreg", *added(term, 0.5))) for _ in range(3))
    take_steps(whole, 1, range(4))
    take_steps(first, 1, range(2))
    second.load(first.saved())
    take_steps(second, 1, range(2, 4))
    for name, value in whole.saved()["model"].items():
        assert torch.equal(second.saved()["model"][name], value), name


@pytest.mark.parametrize("term", TERMS)
def test_numbers_of_a_term_are_in_range_and_explained(term: str) -> None:
    text = (config_dir() / "model" / "term" / f"{term}.yaml").read_text()
    assert f"+model/term@model.terms.{term}={term}" in text
    assert compose(added(term)).model.terms.added.coeff > 0
    with pytest.raises(ConfigError, match=r"model\.terms\.added\.coeff=-1"):
        build(*added(term, -1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+model/term@model.terms.s=strightening"], "did you mean 'straightening'?"),
        (["+model/terms@model.terms.s=straightening"], "did you mean 'model/term'?"),
        (["model/term=straightening"], "write +model/term@model.terms.NAME=NAME (one of "),
        (["+model/term=straightening"], "write +model/term@model.terms.NAME=NAME (one of "),
        (["+model.terms.s=straightening"], "write +model/term@model.terms.straightening=straightening"),
        (["model/term@model.terms.s=straightening"], "add it by +model/term@model.terms.s=NAME"),
        (["+model/term@model.terms.s=straightening", "model.terms.s.coef=1"], "did you mean 'model.terms.s.coeff'?"),
        (["+model/term@model.terms.s=straightening", "dataset.num_steps=2"], "must be at least 3 for model.terms.s"),
    ],
)
def test_a_mistaken_term_is_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line([*words, "dry_run=true"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
