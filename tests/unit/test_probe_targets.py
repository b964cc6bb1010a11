"""Targets of probes against numpy and torch's own modules; several in one run leave each other as they are."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from probe_samples import (
    CENTRE_PX,
    CLASSES,
    SCALE_PX,
    B,
    Batches,
    D,
    K,
    Model,
    PixelUnits,
    T,
    adam,
    collect,
    least_squares,
    loop_mean_square_px,
    run,
    run_job,
    run_packed,
)
from torch import Tensor, nn

from jepa.config.search_path import config_dir, group_options
from jepa.errors import ConfigError
from jepa.probes import AdamProbe, LeastSquares, ProbeReport
from jepa.probes.maps import load_map
from jepa.probes.targets.base import ProbeTarget, Regression
from jepa.probes.targets.label import Label
from jepa.probes.targets.location import Location
from jepa.probes.targets.quantity import Quantity
from jepa.probes.targets.start import Start
from jepa.seeding import generator
from jepa.types import Batch, Rollout

TRUST: dict[str, Any] = {"_execution_whitelist_": ["jepa.*"]}


class Radius(Regression):
    """How far the first dot is from the origin; no unit."""

    def values(self, batch: Batch) -> Tensor:
        return batch.locations[..., 0, :].norm(dim=-1, keepdim=True)


class Always(Regression):
    """A number that never varies."""

    unit = "s"

    def values(self, batch: Batch) -> Tensor:
        return torch.full_like(batch.locations[..., 0, :1], 2.5)


THREE: dict[str, ProbeTarget] = {"location": Location(), "start": Start(), "background": Label()}
PROBES: list[Any] = [
    pytest.param(least_squares, id="least squares"),
    pytest.param(adam, id="adam"),
    pytest.param(lambda **changes: adam(hidden="7", **changes), id="mlp"),
    pytest.param(lambda **changes: adam(fresh=True, **changes), id="fresh"),
]


def with_ones(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((*rows.shape[:-1], 1))], -1)


def solved(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """numpy's least squares over all rows."""
    rows = features.reshape(-1, features.shape[-1])
    return np.linalg.lstsq(rows, values.reshape(len(rows), -1), rcond=None)[0]


# --- against independent references --------------------------------------------------------------------------------


def test_the_start_equals_numpy_and_plain_loops() -> None:
    metrics = run(least_squares(targets=THREE)).as_metrics()
    trajectory, _, locations, _ = collect(Model(), Batches(2), 40)
    start = np.broadcast_to(locations[:1], locations.shape)
    weight = solved(trajectory, start)
    trajectory, _, locations, _ = collect(Model(), Batches(3), 30)
    start = np.broadcast_to(locations[:1], locations.shape)
    errors = loop_mean_square_px((trajectory @ weight).reshape(T, 30, K, 2), start)

    assert metrics["prediction_start_rmse_px"] == pytest.approx(math.sqrt(errors.mean()), rel=1e-9)
    assert metrics["prediction_start_rmse_px_per_step"] == pytest.approx(np.sqrt(errors.mean(1)), rel=1e-9)
    assert metrics["prediction_start_rmse_px_per_dot"] == pytest.approx(np.sqrt(errors.mean(0)), rel=1e-9)
    variance = (locations[0] * SCALE_PX).var(0).sum(-1).mean()  # px², over sequences
    assert metrics["prediction_start_r2"] == pytest.approx(1 - errors.mean() / variance, rel=1e-9)
    assert metrics["encoder_start_rmse_px"] == metrics["encoder_rmse_px"]  # in frame 0 the start is the location


def test_a_label_is_fitted_with_a_constant_as_numpy_does() -> None:
    metrics = run(least_squares(targets=THREE)).as_metrics()
    trajectory, encodings, _, identity = collect(Model(), Batches(2), 40)
    one_hot = np.eye(CLASSES)[identity.astype(int)]
    prediction, encoder = solved(with_ones(trajectory), one_hot), solved(with_ones(encodings[0]), one_hot[0])
    trajectory, encodings, _, identity = collect(Model(), Batches(3), 30)
    right = (with_ones(trajectory) @ prediction).argmax(-1) == identity
    right_encoder = (with_ones(encodings) @ encoder).argmax(-1) == identity

    assert metrics["prediction_background_accuracy"] == pytest.approx(right.mean())
    assert metrics["prediction_background_accuracy_per_step"] == pytest.approx(right.mean(1))
    assert metrics["encoder_background_accuracy"] == pytest.approx(right_encoder[0].mean())
    assert metrics["encoder_background_accuracy_per_step"] == pytest.approx(right_encoder.mean(1))
    chance = np.bincount(identity[0].astype(int)).max() / 30
    assert metrics["encoder_background_chance"] == metrics["prediction_background_chance"] == pytest.approx(chance)
    assert right_encoder[0].mean() > chance > 1 / CLASSES


def test_a_number_without_unit_has_a_constant() -> None:
    targets = {"location": Location(), "radius": Radius(), "always": Always()}
    metrics = run(least_squares(targets=targets)).as_metrics()
    _, encodings, locations, _ = collect(Model(), Batches(2), 40)
    weight = solved(with_ones(encodings[0]), np.linalg.norm(locations[0, :, 0], axis=-1))
    _, encodings, locations, _ = collect(Model(), Batches(3), 30)
    radius = np.linalg.norm(locations[0, :, 0], axis=-1)
    error = ((with_ones(encodings[0]) @ weight)[:, 0] - radius) ** 2
    assert metrics["encoder_radius_rmse"] == pytest.approx(math.sqrt(error.mean()), rel=1e-6)
    assert metrics["encoder_radius_r2"] == pytest.approx(1 - error.mean() / radius.var(), rel=1e-6)
    assert "encoder_radius_rmse_per_dot" not in metrics
    assert metrics["encoder_always_rmse_s"] == pytest.approx(0, abs=1e-9) and metrics["encoder_always_r2"] == 0


def test_adam_fits_labels_by_cross_entropy_as_torch_does() -> None:
    """The encoder probe against torch's Linear, cross_entropy and Adam, stepped over the same minibatches."""
    report = run(adam(targets=THREE, epochs=6))
    layer = nn.Linear(D, CLASSES)
    own = generator(7, "background")
    torch.rand(D, CLASSES, generator=own)  # the prediction probe's start
    with torch.no_grad():
        layer.weight.copy_(((2 * torch.rand(D, CLASSES, generator=own) - 1) / math.sqrt(D)).T)
        layer.bias.zero_()
    shuffles = torch.Generator().manual_seed(7)
    for _ in range(2):
        torch.rand(D, 2 * K, generator=shuffles)  # the start of the location's maps
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    _, encodings, _, identity = (torch.from_numpy(x) for x in collect(Model(), Batches(2), 40))
    for _ in range(6):
        for chosen in torch.randperm(40, generator=shuffles).split(B):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(layer(encodings[0, chosen].float()), identity[0, chosen].long())
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    state = report.maps["background"]["encoder"]
    torch.testing.assert_close(state["weights"][0], layer.weight.detach().T)
    torch.testing.assert_close(state["constant"][0], layer.bias.detach())


# --- several in one run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
def test_further_targets_leave_the_location_as_it_is(probe: Any) -> None:
    """Bit for bit, wherever they stand."""
    alone = run(probe()).as_metrics()
    for targets in (THREE, {name: THREE[name] for name in reversed(THREE)}):
        together = run(probe(targets=targets)).as_metrics()
        assert {name: together[name] for name in alone} == alone
    assert run(probe(targets=THREE)).as_metrics() == run(probe(targets=THREE)).as_metrics()


def test_all_targets_are_fitted_and_judged_in_one_pass() -> None:
    model = Model()
    run(least_squares(targets=THREE), model)
    assert model.frames_seen == T * B * (4 + 3)


@pytest.mark.parametrize("probe", PROBES)
def test_packed_jobs_get_the_report_of_the_job_alone(probe: Any) -> None:
    tolerance = 1e-9 if isinstance(probe(), LeastSquares) else 1e-4
    packed = run_packed(probe(targets=THREE))
    for job, report in enumerate(packed):
        [alone] = run_job(probe(targets=THREE), job)
        assert list(report.as_metrics()) == list(alone.as_metrics())
        for name, value in alone.as_metrics().items():
            assert report.as_metrics()[name] == pytest.approx(value, rel=tolerance), name
    assert packed[0].as_metrics()["prediction_start_rmse_px"] != packed[1].as_metrics()["prediction_start_rmse_px"]


@pytest.mark.parametrize("probe", PROBES)
def test_saved_maps_give_the_reported_errors(probe: Any) -> None:
    report: ProbeReport = run(probe(targets=THREE))
    trajectory, _, locations, identity = (torch.from_numpy(x) for x in collect(Model(), Batches(3), 30))
    rows = trajectory.flatten(0, 1).unsqueeze(0)
    answers = {name: load_map(report.maps[name]["prediction"], "cpu")(rows)[0] for name in THREE}
    right = answers["background"].argmax(-1) == identity.flatten()
    metrics = report.as_metrics()
    assert float(right.double().mean()) == pytest.approx(metrics["prediction_background_accuracy"], abs=1e-9)
    start = locations[:1].expand_as(locations).reshape(-1, K, 2)
    error = (answers["start"].view(-1, K, 2) - start).mul(SCALE_PX).square().sum(-1).mean().sqrt()
    assert float(error) == pytest.approx(metrics["prediction_start_rmse_px"], rel=1e-4)


def test_the_report_says_what_is_broken() -> None:
    def broken(batch: Batch) -> Rollout:
        rollout = Model()(batch)
        rollout.predictions[0, 0, 0] = math.inf
        return rollout

    report = run(least_squares(targets=THREE), broken)
    assert run(least_squares(targets=THREE)).broken == []
    measured = ("rmse_px", "start_rmse_px", "start_r2", "background_accuracy")
    assert report.broken == [f"prediction_{name}" for name in measured]


def test_names_of_the_numbers_are_known_before() -> None:
    probe: LeastSquares | AdamProbe = least_squares(targets={name: THREE[name] for name in reversed(THREE)})
    numbers = {name for name, value in run(probe).as_metrics().items() if isinstance(value, float)}
    assert set(probe.metric_names) == numbers and probe.metric_names[:2] == ["prediction_rmse_px", "encoder_rmse_px"]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"start": Start()}, r"probe\.targets\.location: must stay"),
        ({"location": Start()}, r"probe\.targets\.location: must stay"),
        ({"location": Location(), "two words": Start()}, r"probe\.targets\.two words: a name must be a word"),
    ],
)
def test_targets_that_cannot_be_asked_for(targets: dict[str, ProbeTarget], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        least_squares(targets=targets)


def test_a_label_that_the_environment_does_not_give() -> None:
    probe = least_squares(targets={"location": Location(), "bakground": Label()})
    with pytest.raises(ConfigError, match=r"the labels background; did you mean 'background'\?"):
        probe.asked(PixelUnits())
    with pytest.raises(ConfigError, match=r"probe\.targets\.bakground: .*the environment has no labels$"):
        probe.asked(SimpleNamespace(classes={}))


def test_a_number_that_the_environment_does_not_give() -> None:
    probe = least_squares(targets={"location": Location(), "wal": Quantity(unit="px")})
    with pytest.raises(ConfigError, match=r"probe\.targets\.wal: .*the numbers wall, door; did you mean 'wall'\?"):
        probe.asked(PixelUnits())
    with pytest.raises(ConfigError, match=r"the environment has no numbers$"):
        probe.asked(SimpleNamespace(quantities=()))


def test_a_number_is_reported_in_its_unit() -> None:
    """The encoder probe's map is an affine one, and its error that of numpy's regression."""
    model, fit, judge = Model(), Batches(2), Batches(3)
    found = run(least_squares(targets={"location": Location(), "wall": Quantity(unit="px")}), model).as_metrics()

    def columns(stream: Batches, sequences: int) -> tuple[np.ndarray, np.ndarray]:
        batches = [stream.next() for _ in range(-(-sequences // B))]
        encodings = torch.cat([model(batch).encodings[0] for batch in batches])[:sequences].double().numpy()
        walls = torch.cat([batch.targets["wall"][0] for batch in batches])[:sequences].double().numpy()
        return np.concatenate((encodings, np.ones((sequences, 1))), axis=1), SCALE_PX * walls + CENTRE_PX

    (features, walls), (judged, true) = columns(fit, 40), columns(judge, 30)
    errors = judged @ np.linalg.lstsq(features, walls, rcond=None)[0] - true
    per_step = found["encoder_wall_rmse_px_per_step"]
    assert isinstance(per_step, list) and per_step[0] == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-5)


# --- conformance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["location", *group_options("probe/targets")])
def test_every_target_conforms(option: str) -> None:
    """Shapes alone and packed; a map that answers what is right is reported as perfect, one that does not is not."""
    path = config_dir() / "probe" / "targets" / f"{option}.yaml"
    node = {"location": {"_target_": "jepa.probes.targets.location.Location"}}
    [(name, made)] = instantiate(node if option == "location" else OmegaConf.load(path), **TRUST).items()
    assert isinstance(made, ProbeTarget)
    target = made.of(name, PixelUnits())
    alone, packed = Batches(1).next(), Batches(1, 2, 3, packed=True).next()
    values = target.values(alone)
    assert values.shape[:2] == (T, B) and values.ndim == 3
    assert torch.equal(target.values(packed)[0], values) and target.values(packed).shape == (3, *values.shape)

    values = target.values(packed)
    answers = target.regressed(values)
    true, read = target.true(values), target.read(answers)
    assert true.shape == read.shape and true.shape[:3] == (3, T, B)
    errors = target.errors(read, true)
    assert errors.ndim == 4 and errors.dtype == torch.float64
    perfect, wrong = target.report(errors.mean().item()), target.report(target.errors(read.flip(2), true).mean().item())
    assert perfect == pytest.approx(float(not isinstance(target, Regression)), abs=1e-6)
    assert abs(wrong - perfect) > 0.1
    broken = target.read(torch.full_like(answers, torch.nan))
    assert target.errors(broken, true).isnan().all()

    rows, row_values = answers.flatten(1, 2).requires_grad_(), values.flatten(1, 2)
    loss = target.loss(rows, row_values)
    parts = [target.loss(rows[job : job + 1], row_values[job : job + 1]) for job in range(3)]
    assert loss.shape == () and torch.allclose(loss, torch.stack(parts).sum())  # gradients of jobs do not mix
    if target.comparison is not None:
        mean = target.statistics(true)[0].mean((0, 1)).numpy()
        assert 0 < target.compare(errors[0].mean().item(), mean) <= 1
