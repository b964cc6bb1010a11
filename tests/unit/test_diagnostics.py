"""Diagnostics of a representation against independent references, and what a method loses to a copy of the overlay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from environment_samples import moving_dots
from torch import Tensor
from torch.func import vmap

from jepa.config.compose import compose, register
from jepa.data.normalization import Normalizer
from jepa.data.stream import Stream
from jepa.losses.base import Embeddings, Term
from jepa.losses.covariance import covariance_loss
from jepa.losses.variance import variance_loss
from jepa.methods.base import Method
from jepa.packing.program import PackedProgram
from jepa.packing.streams import JobStreams
from jepa.prepare import make_plan
from jepa.probes import diagnostics
from jepa.training.diagnosis import diagnose
from jepa.training.program import Program
from jepa.types import Batch

T, N, D = 4, 30, 6


def encodings(seed: int = 0, scale: float = 1.0) -> Tensor:
    """Sequences with means of their own, [T, N, D]."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, generator=generator)
    means = torch.randn(N, D, generator=generator)
    return scale * (means + 0.5 * torch.randn(T, N, D, generator=generator)) @ mixing + 2.0


def test_variance_between_and_within_sequences_add_up() -> None:
    z = encodings().double().numpy()
    between = np.mean([np.sum((z[:, n].mean(0) - z.mean((0, 1))) ** 2) for n in range(N)])
    within = np.mean([np.sum((z[t, n] - z[:, n].mean(0)) ** 2) for t in range(T) for n in range(N)])
    assert diagnostics.variance_between_share(encodings()) == pytest.approx(between / (between + within), rel=1e-9)
    fixed = encodings()[:1].expand(T, -1, -1)
    assert diagnostics.variance_between_share(fixed) == pytest.approx(1)
    independent = torch.randn(T, 20_000, D, generator=torch.Generator().manual_seed(1))
    assert diagnostics.variance_between_share(independent) == pytest.approx(1 / T, abs=0.01)
    assert math.isnan(diagnostics.variance_between_share(torch.ones(T, N, D)))


def test_rankme_is_the_entropy_of_the_singular_values() -> None:
    z = encodings().double().flatten(0, 1).numpy()
    values = np.linalg.svd(z, compute_uv=False)
    shares = values / values.sum()
    assert diagnostics.rankme(encodings()) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    axes = torch.eye(D).repeat(T * N // D, 1).view(T, N, D)
    assert diagnostics.rankme(axes) == pytest.approx(D)
    assert diagnostics.rankme(axes[..., :1] * torch.ones(D)) == pytest.approx(1, abs=1e-5)


def test_the_spectrum_is_that_of_numpys_covariance() -> None:
    z = encodings().double().flatten(0, 1).numpy()
    values = np.sort(np.linalg.eigvalsh(np.cov(z.T)))[::-1]
    shares = values / values.sum()
    found = diagnostics.spectrum(encodings())
    np.testing.assert_allclose(found.numpy(), shares, rtol=1e-8)
    count = int(np.searchsorted(np.cumsum(shares), 0.9))  # whole components below 90 %
    assert count < diagnostics.components_for(found) <= count + 1
    assert diagnostics.components_for(torch.tensor([0.5, 0.3, 0.2]), 0.9) == pytest.approx(2.5)
    metrics = diagnostics.of_encodings(encodings())
    assert metrics["covariance_spectrum"] == pytest.approx(list(shares))
    assert diagnostics.of_encodings(torch.ones(T, N, D)).keys() == {"rankme"}  # nothing varies
    assert diagnostics.of_encodings(torch.full((T, N, D), torch.nan)) == {}


def test_the_allocation_ratio_compares_two_distances() -> None:
    z = encodings()[0]
    overlay, dots = torch.zeros(N, D), torch.zeros(N, D)
    overlay[:, 0], dots[::2, 1] = 3.0, 2.0  # every second row moves by 2: a root mean square of √2
    assert diagnostics.allocation_ratio(z, z + overlay, z + dots) == pytest.approx(3 / math.sqrt(2), rel=1e-5)


def test_copies_are_standardised_and_linear_in_the_overlay() -> None:
    generator = torch.Generator().manual_seed(0)
    overlay, projection = torch.rand(T, N, 1, 3, 3, generator=generator), torch.randn(9, D, generator=generator)
    projection[:, -1] = 0
    copies = diagnostics.copies_of(overlay, projection)
    by_hand = overlay.flatten(2).numpy() @ projection.numpy()
    by_hand = (by_hand - by_hand.mean((0, 1))) / np.maximum(by_hand.std((0, 1)), 1e-9)
    np.testing.assert_allclose(copies.numpy(), by_hand, atol=1e-5)
    assert not copies[..., -1].any()
    both = diagnostics.copies_of(torch.stack([overlay, 2 * overlay]), torch.stack([projection, projection]))
    torch.testing.assert_close(both[1], copies)


def test_the_best_scale_is_found_for_each_job() -> None:
    wanted = torch.tensor([0.05, 1.0, 12.0])
    found = diagnostics.best_scale(lambda scale: (scale.log() - wanted.log()).square(), wanted)
    assert ((found / wanted).log10().abs() <= 0.051).all()
    undefined = diagnostics.best_scale(lambda scale: torch.full_like(scale, torch.nan), wanted)
    assert undefined.isfinite().all()


# --- the environment -------------------------------------------------------------------------------------------------


def test_counterfactuals_change_one_thing() -> None:
    dataset = moving_dots(static_noise=1.25, noise=0.5, num_steps=3, batch_size=4)
    normalizer = Normalizer(torch.tensor(0.1), torch.tensor(0.2))
    stream = Stream(dataset, 0, "probe_judge", normalizer, "cpu")
    found = stream.counterfactuals()
    same = Stream(dataset, 0, "probe_judge", normalizer, "cpu")
    first, second = same.draw(), same.draw()
    clean = moving_dots(num_steps=3, batch_size=4)
    coefficients = same.coefficients
    assert found is not None
    torch.testing.assert_close(found.batch, dataset.assemble(first, coefficients, normalizer))
    for draws, states in ((first, found.batch.states), (first, found.other_overlay), (second, found.other_dots)):
        overlay = states - clean.assemble(draws._replace(overlays={}), coefficients, normalizer).states
        of_first = states is not found.other_overlay
        brightest = clean.assemble(draws._replace(overlays={}), coefficients, None).states.amax()
        drawn = (first if of_first else second).overlays
        expected = brightest / 0.2 * (1.25 * drawn["static"] + 0.5 * drawn["changing"])
        torch.testing.assert_close(overlay, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.overlay, found.batch.states - clean.assemble(
        first._replace(overlays={}), coefficients, normalizer).states)  # fmt: skip


# --- losses of the trivial solution ----------------------------------------------------------------------------------

SMALL = [
    *("dataset.batch_size=16", "dataset.size=64", "dataset.num_steps=5", "dataset.static_noise=1.25"),
    *("model.encoder.width_factor=1", "model.encoder.embedding_size=8", "progress=none", "device=cpu"),
]


def make(*overrides: str) -> tuple[Any, Method]:
    register()
    plan = make_plan(compose([*SMALL, *overrides], with_hydra=True))
    return plan, plan.initial_method()


def sample(seed: int = 0) -> tuple[Batch, Tensor]:
    stream = Stream(moving_dots(static_noise=1.25, num_steps=5, batch_size=16), seed, "probe_judge", None, "cpu")
    copies = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(seed)).expand(5, -1, -1)
    return stream.next(), copies


def test_the_trivial_loss_of_vicreg_is_its_variance_and_covariance() -> None:
    _, method = make("model=vicreg", "model.sim_coeff=3", "model.std_coeff=2", "model.cov_coeff=5")
    batch, copies = sample()
    centred = copies[1:] - copies[1:].mean(1, keepdim=True)
    expected = 2 * variance_loss(centred) + 5 * covariance_loss(centred)
    torch.testing.assert_close(method.trivial_loss(batch, copies), expected)
    moving = copies + torch.arange(5.0).view(5, 1, 1)  # a copy that moves costs the predictor t², mean 7.5
    torch.testing.assert_close(method.trivial_loss(batch, moving), expected + 3 * 7.5)


def test_the_trivial_loss_of_inverse_dynamics_is_the_variance_of_actions() -> None:
    _, method = make("model=idm", "model.action_coeff=0.5")
    batch, copies = sample()
    expected = 0.5 * batch.actions.double().numpy().reshape(-1, 2).var(0).mean()
    assert float(method.trivial_loss(batch, copies)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model", ["supervised", "rssm"])
def test_methods_with_other_targets_have_no_trivial_loss(model: str) -> None:
    assert math.isnan(float(make(f"model={model}")[1].trivial_loss(*sample())))


def test_a_term_without_networks_is_computed_as_usual() -> None:
    class Mean(Term):
        def forward(self, embeddings: Embeddings) -> Tensor:
            return embeddings.encodings.mean()

    batch, copies = sample()
    _, method = make()
    projector: Any = method.projector
    embeddings = Embeddings(encodings=copies, predictions=copies[1:], batch=batch, projector=projector)
    torch.testing.assert_close(Mean(coeff=1.0).trivial(embeddings), copies.mean())


# --- all of them -----------------------------------------------------------------------------------------------------


def diagnosed(*overrides: str) -> dict[str, Any]:
    plan, method = make(*overrides)
    stream = Stream(plan.dataset, 1, "probe_judge", None, "cpu")
    generator = torch.Generator().manual_seed(0)
    [metrics] = diagnose(
        Program(method, plan.optimizer, device=plan.device, precision="fp32"),
        method,
        stream,
        num_sequences=30,
        draw=lambda draw: draw(generator, 16, plan.device),
        generators=[torch.Generator().manual_seed(3)],
    )
    return metrics


REPRESENTATION = {"variance_between_share", "rankme", "components_90_percent", "covariance_spectrum"}
LOSSES = {"final_loss", "shuffled_actions_loss"}
TRIVIAL = {"trivial_loss", "collapsed_loss"}


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["model=vicreg"], {*REPRESENTATION, "allocation_ratio", *LOSSES, *TRIVIAL}),
        (["model=vicreg", "dataset.static_noise=0"], {*REPRESENTATION, *LOSSES, "collapsed_loss"}),
        (["model=rssm"], {*REPRESENTATION, "allocation_ratio", *LOSSES}),
        (["model=random"], {*REPRESENTATION, "allocation_ratio"}),
    ],
)
def test_a_run_has_the_diagnostics_that_are_defined_for_it(overrides: list[str], names: set[str]) -> None:
    metrics = diagnosed(*overrides)
    assert set(metrics) == names
    assert all(math.isfinite(value) for value in metrics.values() if not isinstance(value, list))


def test_the_final_loss_is_the_methods_own_in_evaluation_mode() -> None:
    plan, method = make("model=vicreg")
    stream = Stream(plan.dataset, 1, "probe_judge", None, "cpu")
    method.eval()
    totals = []
    for _ in range(2):  # 30 sequences are two batches of 16; each takes two draws
        batch = stream.next()
        stream.draw()
        shuffled = batch._replace(actions=torch.stack([batch.actions[:, (n - 1) % 16] for n in range(16)], 1))
        with torch.no_grad():
            totals.append([float(method(batch).total), float(method(shuffled).total)])
    found = diagnosed("model=vicreg")
    expected = np.mean(totals, 0)
    assert [found[name] for name in ("final_loss", "shuffled_actions_loss")] == pytest.approx(list(expected), rel=1e-5)
    assert expected[1] != expected[0]


def test_packed_jobs_have_the_diagnostics_of_each_job_alone() -> None:
    changes = [["seed=1"], ["seed=2", "dataset.static_noise=0"]]
    made = [make("model=vicreg", *change) for change in changes]
    plans, methods = zip(*made, strict=True)
    streams = [Stream(plan.dataset, 1, "probe_judge", None, "cpu") for plan in plans]
    packed = diagnose(
        PackedProgram(
            methods=methods,
            optimizers=[plan.optimizer for plan in plans],
            device=plans[0].device,
            precision="fp32",
        ),
        methods[0],
        JobStreams(streams, common=False),
        num_sequences=30,
        draw=lambda draw: None,
        generators=[torch.Generator().manual_seed(3) for _ in plans],
    )
    for change, metrics in zip(changes, packed, strict=True):
        alone = diagnosed("model=vicreg", *change)
        assert metrics.keys() == alone.keys()
        for name, value in alone.items():
            assert metrics[name] == pytest.approx(value, rel=1e-4), name


def test_a_model_that_cannot_be_diagnosed_costs_only_the_diagnostics(caplog: pytest.LogCaptureFixture) -> None:
    plan, method = make("model=vicreg")
    program = Program(method, plan.optimizer, device=plan.device, precision="fp32")
    stream: Any = None
    [metrics] = diagnose(
        program, method, stream, num_sequences=4, draw=lambda draw: None, generators=[torch.Generator()]
    )
    assert metrics == {} and "the run goes on without them" in caplog.text


def test_trivial_losses_of_packed_jobs_are_those_of_each_job() -> None:
    _, method = make("model=vicreg")
    batch, copies = sample()
    both = vmap(method.trivial_loss, in_dims=(None, 0))(batch, torch.stack([copies, 2 * copies]))
    torch.testing.assert_close(both[1], method.trivial_loss(batch, 2 * copies))


def test_differences_of_frames_cannot_copy_a_fixed_overlay() -> None:
    metrics = diagnosed("model=vicreg", "model.input=difference")
    assert metrics["trivial_loss"] == pytest.approx(metrics["collapsed_loss"])
    assert metrics["allocation_ratio"] < 1e-3
