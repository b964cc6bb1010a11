"""Probes against numpy's least squares, plain loops, and each job alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from probe_samples import (
    CENTRE_PX,
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
    rmse,
    run,
    run_job,
    run_packed,
)
from torch import Tensor

from jepa.errors import ConfigError
from jepa.probes import AdamProbe, LeastSquares
from jepa.probes.least_squares import NormalInverse
from jepa.types import Batch, Rollout


def test_least_squares_equals_numpy_and_plain_loops() -> None:
    model = Model()
    report = run(least_squares(), model)

    trajectory, encodings, locations, _ = collect(model, Batches(2), 40)
    prediction_map = np.linalg.lstsq(trajectory.reshape(-1, D), locations.reshape(-1, 2 * K), rcond=None)[0]
    encoder_map = np.linalg.lstsq(encodings[0], locations[0].reshape(-1, 2 * K), rcond=None)[0]
    trajectory, encodings, locations, _ = collect(model, Batches(3), 30)
    prediction = loop_mean_square_px((trajectory @ prediction_map).reshape(T, 30, K, 2), locations)
    encoder = loop_mean_square_px((encodings @ encoder_map).reshape(T, 30, K, 2), locations)

    close = {"rel": 1e-9}
    assert rmse(report) == pytest.approx(math.sqrt(prediction.mean()), **close)
    assert rmse(report, "encoder") == pytest.approx(math.sqrt(encoder[0].mean()), **close)
    assert report.as_metrics()["prediction_rmse_px_per_step"] == pytest.approx(np.sqrt(prediction.mean(1)), **close)
    assert report.as_metrics()["encoder_rmse_px_per_step"] == pytest.approx(np.sqrt(encoder.mean(1)), **close)
    assert report.as_metrics()["prediction_rmse_px_per_dot"] == pytest.approx(np.sqrt(prediction.mean(0)), **close)
    assert report.as_metrics()["encoder_rmse_px_per_dot"] == pytest.approx(np.sqrt(encoder[0]), **close)


@pytest.mark.parametrize(
    ("probe", "probes"),
    [
        (least_squares(fit_sequences=100), []),
        (least_squares(fit_sequences=99), ["encoder"]),
        (least_squares(fit_sequences=100 // T), ["encoder"]),
        (least_squares(fit_sequences=100 // T - 1), ["prediction", "encoder"]),
        (adam(fit_sequences=99), ["encoder"]),
        (adam(fit_sequences=25, fresh=True), []),  # new sequences in each of four epochs
    ],
)
def test_a_probe_with_too_few_sequences_warns(probe: LeastSquares | AdamProbe, probes: list[str]) -> None:
    warnings = run(probe, Model(size=50)).warnings
    assert 100 % T == 0 and [text.split()[1] for text in warnings] == probes
    for text in warnings:
        assert f" {probe.fit_sequences} sequences" in text and "50 features" in text
        assert "set probe.fit_sequences=100 or more" in text  # enough for both probes


def test_report_names_its_metrics_and_keeps_samples() -> None:
    model = Model()
    report = run(least_squares(), model)
    metrics = report.as_metrics()
    assert set(metrics) == {
        f"{probe}_rmse_px{part}" for probe in ("prediction", "encoder") for part in ("", "_per_step", "_per_dot")
    }
    assert [type(value) for value in metrics.values()] == [float, float, list, list, list, list]

    batch = Batches(3).next()
    samples = report.samples
    np.testing.assert_allclose(samples.frames, batch.states[:, :3])
    np.testing.assert_allclose(samples.true_px, batch.locations[:, :3] * SCALE_PX + CENTRE_PX, rtol=1e-6)
    assert samples.predicted_px.shape == (T, 3, K, 2)
    assert run(least_squares(num_samples=0)).samples.frames.shape[1] == 0
    assert run(least_squares(num_samples=99)).samples.frames.shape[1] == B


@pytest.mark.parametrize("case", ["repeated", "dead", "identical", "scales"])
def test_rank_deficient_features_give_the_smallest_minimiser(case: str) -> None:
    """Against numpy's pseudo-inverse on features of unit mean square, the norm that the docstring promises."""
    rows = np.random.default_rng(0).normal(size=(200, D)).astype(np.float32)
    if case == "repeated":
        rows[:, 3:] = rows[:, :3]
    elif case == "dead":
        rows[:, 2] = 0
    elif case == "identical":
        rows[:] = rows[0]
    elif case == "scales":
        rows *= np.float32(10.0) ** np.array([-20, -10, 0, 5, 10, 15], dtype=np.float32)
    targets = np.random.default_rng(1).normal(size=(200, 4))
    wide = rows.astype(np.float64)
    norm = np.sqrt((wide**2).mean(0))
    scale = np.divide(1.0, norm, out=np.zeros(D), where=norm > 0)
    expected = scale[:, None] * np.linalg.lstsq(wide * scale, targets, rcond=1e-9)[0]

    h = torch.from_numpy(wide)[None]
    y = torch.from_numpy(targets)[None]
    weight = NormalInverse(h.mT @ h)(h.mT @ y)[0].numpy()
    np.testing.assert_allclose(weight, expected, rtol=1e-7, atol=1e-12 * np.abs(expected).max())


def test_ridge_is_the_minimiser_of_its_objective() -> None:
    rng = np.random.default_rng(0)
    rows, targets, ridge = 3 * rng.normal(size=(50, D)), rng.normal(size=(50, 4)), 0.2
    scale = 1 / np.sqrt((rows**2).mean(0))
    augmented = np.concatenate([rows * scale, math.sqrt(50 * ridge) * np.eye(D)])
    expected = scale[:, None] * np.linalg.lstsq(augmented, np.concatenate([targets, np.zeros((D, 4))]), rcond=None)[0]
    h, y = torch.from_numpy(rows)[None], torch.from_numpy(targets)[None]
    np.testing.assert_allclose(NormalInverse(h.mT @ h, ridge)(h.mT @ y)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 3, 300])
def test_collapsed_and_wide_embeddings_are_judged(size: int) -> None:
    """More features than rows, and an encoder that answers the same for every frame: finite errors, no warnings."""
    collapsed = Model(size)
    collapsed.encoder.zero_()
    collapsed.mover.zero_()
    true = Batches(3)
    location = torch.cat([true.next().locations for _ in range(3)], 1)[:, :30] * SCALE_PX
    zero_answer = float(location.square().sum(-1).mean().sqrt())
    assert rmse(run(least_squares(), collapsed)) == pytest.approx(zero_answer, rel=1e-6)
    for metric in run(least_squares(), Model(size)).as_metrics().values():
        assert np.isfinite(metric).all()


def test_non_finite_embeddings_give_nan_and_spare_other_jobs() -> None:
    def broken(batch: Batch) -> Rollout:
        rollout = Model()(batch)
        rollout.predictions[0, 1, 0, 0] = math.inf
        rollout.encodings[2] = math.nan
        return rollout

    alone = [run_job(least_squares(), job)[0] for job in range(3)]
    packed = least_squares().run_jobs(
        broken, Batches(10, 11, 12, packed=True), Batches(20, 21, 22, packed=True), PixelUnits(), []
    )
    assert math.isnan(rmse(packed[0])) and math.isfinite(rmse(packed[0], "encoder"))
    assert all(np.isnan(np.array(value)).all() for value in packed[2].as_metrics().values())
    assert rmse(packed[1]) == pytest.approx(rmse(alone[1]), rel=1e-9)


@pytest.mark.parametrize(
    "probe", [least_squares(), adam(), adam(hidden="7-5"), adam(fresh=True)], ids=["exact", "adam", "mlp", "fresh"]
)
def test_packed_jobs_get_the_report_of_the_job_alone(probe: LeastSquares | AdamProbe) -> None:
    packed = run_packed(probe)
    assert len(packed) == 3
    tolerance = 1e-9 if isinstance(probe, LeastSquares) else 1e-4
    for job, report in enumerate(packed):
        [alone] = run_job(probe, job)
        for name, value in alone.as_metrics().items():
            assert report.as_metrics()[name] == pytest.approx(value, rel=tolerance), name
        np.testing.assert_array_equal(report.samples.frames, alone.samples.frames)
        np.testing.assert_allclose(report.samples.predicted_px, alone.samples.predicted_px, rtol=1e-4)


def test_locations_may_be_shared_by_jobs() -> None:
    def both(batch: Batch) -> Rollout:
        models = [Model(seed=1)(batch), Model(seed=2)(batch)]
        return Rollout(*map(torch.stack, zip(*models, strict=True)))

    packed = least_squares().run_jobs(both, Batches(2), Batches(3), PixelUnits(), [])
    alone = [run(least_squares(), Model(seed=seed)) for seed in (1, 2)]
    for ours, reference in zip(packed, alone, strict=True):
        assert rmse(ours) == pytest.approx(rmse(reference), rel=1e-9)


def test_each_sequence_is_embedded_once_and_only_as_far_as_needed() -> None:
    model = Model()
    full = run(least_squares(), model)
    assert model.frames_seen == T * B * (4 + 3)

    model = Model()
    short = run(least_squares(), model, context_frames=1)
    assert model.frames_seen == B * 4 + T * B * 3
    for name, value in full.as_metrics().items():
        assert short.as_metrics()[name] == pytest.approx(value, rel=1e-6)

    model = Model()
    shortest = run(least_squares(every_frame=False), model, context_frames=2)
    assert model.frames_seen == 2 * B * (4 + 3)
    assert shortest.as_metrics()["encoder_rmse_px_per_step"] == [rmse(shortest, "encoder")]
    assert rmse(shortest) == pytest.approx(rmse(full), rel=1e-6)
    assert shortest.samples.frames.shape[0] == T


def test_later_frames_are_judged_on_the_first_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    full = run(least_squares())
    monkeypatch.setattr("jepa.probes.base.EVERY_FRAME_SEQUENCES", B + 1)
    model = Model()
    report = run(least_squares(), model, context_frames=2)
    assert model.frames_seen == 2 * B * 4 + (2 * T + 2) * B
    metrics, expected_metrics = report.as_metrics(), full.as_metrics()
    by_step = metrics["encoder_rmse_px_per_step"]
    assert isinstance(by_step, list) and by_step[0] == metrics["encoder_rmse_px"] == expected_metrics["encoder_rmse_px"]
    assert metrics["prediction_rmse_px_per_step"] == expected_metrics["prediction_rmse_px_per_step"]

    _, encodings, locations, _ = collect(Model(), Batches(2), 40)
    encoder_map = np.linalg.lstsq(encodings[0], locations[0].reshape(-1, 2 * K), rcond=None)[0]
    _, encodings, locations, _ = collect(Model(), Batches(3), 2 * B)  # of the batches that were begun
    expected = loop_mean_square_px((encodings @ encoder_map).reshape(T, -1, K, 2), locations)
    assert by_step[1:] == pytest.approx(np.sqrt(expected.mean(1))[1:], rel=1e-9)


def test_own_head_is_judged() -> None:
    def head(rollout: Rollout) -> Tensor:
        trajectory = torch.cat([rollout.encodings[:1], rollout.predictions])
        return trajectory[..., : 2 * K].unflatten(-1, (K, 2))

    report = run(least_squares(), predict_locations=head)
    trajectory, _, locations, _ = collect(Model(), Batches(3), 30)
    expected = loop_mean_square_px(trajectory[..., : 2 * K].reshape(T, 30, K, 2), locations)
    assert report.as_metrics()["head_rmse_px"] == pytest.approx(math.sqrt(expected.mean()), rel=1e-9)


def test_half_precision_embeddings_are_taken() -> None:
    for probe in (least_squares(), adam()):
        low, full = run(probe, Model(dtype=torch.bfloat16)), run(probe)
        assert rmse(low) == pytest.approx(rmse(full), rel=0.02)


def test_linear_adam_equals_torch_modules() -> None:
    """Against torch's own Linear and Adam, stepped over the same minibatches."""
    report = run(adam())

    generator = torch.Generator().manual_seed(7)
    layers = []
    for _ in range(2):
        layer = torch.nn.Linear(D, 2 * K, bias=False)
        start = torch.rand(D, 2 * K, generator=generator)
        with torch.no_grad():
            layer.weight.copy_(((2 * start - 1) / math.sqrt(D)).T)
        layers.append(layer)
    optimizer = torch.optim.Adam([layer.weight for layer in layers], lr=1e-2)
    trajectory, encodings, locations, _ = (torch.from_numpy(x).float() for x in collect(Model(), Batches(2), 40))
    for _ in range(4):
        for chosen in torch.randperm(40, generator=generator).split(B):
            target = locations[:, chosen].flatten(2)
            losses = [(layers[0](trajectory[:, chosen]) - target), (layers[1](encodings[0, chosen]) - target[0])]
            optimizer.zero_grad()
            sum(2 * loss.square().mean() for loss in losses).backward()
            optimizer.step()
    trajectory, encodings, locations, _ = (torch.from_numpy(x).float() for x in collect(Model(), Batches(3), 30))
    with torch.no_grad():
        prediction = loop_mean_square_px(layers[0](trajectory).view(T, 30, K, 2).numpy(), locations.numpy())
        encoder = loop_mean_square_px(layers[1](encodings).view(T, 30, K, 2).numpy(), locations.numpy())
    assert rmse(report) == pytest.approx(math.sqrt(prediction.mean()), rel=1e-5)
    assert report.as_metrics()["encoder_rmse_px_per_step"] == pytest.approx(np.sqrt(encoder.mean(1)), rel=1e-5)


def test_hidden_layers_equal_torch_modules() -> None:
    """The forward pass in both modes and the running statistics, against nn.Sequential, for the second of two jobs."""
    from jepa.probes.adam import PackedMLP

    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    packed = PackedMLP([D, 7, 4], generators, torch.device("cpu"))
    reference = torch.nn.Sequential(
        torch.nn.Linear(D, 7, bias=False), torch.nn.BatchNorm1d(7), torch.nn.ReLU(), torch.nn.Linear(7, 4, bias=False)
    )
    first, last, *_ = packed.parameters
    with torch.no_grad():
        reference[0].weight.copy_(first[1].T)
        reference[3].weight.copy_(last[1].T)
    features = torch.randn(2, 20, D, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(packed.train(features)[1], reference(features[1]))
    reference.eval()
    torch.testing.assert_close(packed.frozen()(features)[1], reference(features[1]))
    assert len(packed.parameters) == 4 and all(parameter.requires_grad for parameter in packed.parameters)


def test_adam_approaches_the_exact_minimiser() -> None:
    exact = run(least_squares(fit_sequences=120))
    fitted = run(adam(fit_sequences=120, epochs=120))
    assert rmse(fitted) == pytest.approx(rmse(exact), rel=0.02)


def test_adam_draws_new_sequences_when_asked_or_out_of_memory(caplog: pytest.LogCaptureFixture) -> None:
    streams = {}
    for name, probe in {"kept": adam(), "fresh": adam(fresh=True), "full": adam(cache_gib=0.0)}.items():
        streams[name] = Batches(2)
        probe.run(Model(), streams[name], Batches(3), PixelUnits(), torch.Generator().manual_seed(7))
    assert {name: stream.drawn for name, stream in streams.items()} == {"kept": 4, "fresh": 16, "full": 16}
    assert [record.message.split(":")[0] for record in caplog.records] == ["probe.cache_gib=0"]


def test_a_rest_of_one_sequence_does_not_stop_hidden_layers() -> None:
    assert math.isfinite(rmse(run(adam(fit_sequences=B + 1, hidden="3")), "encoder"))


def test_reports_repeat() -> None:
    assert run(adam(hidden="5")).as_metrics() == run(adam(hidden="5")).as_metrics()


@pytest.mark.parametrize(
    ("key", "value"),
    [("fit_sequences", 1), ("judge_sequences", 0), ("every_frame", "yes"), ("num_samples", -1), ("ridge", -0.1)],
)
def test_least_squares_refuses(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"probe.{key}={value!r}"):
        least_squares(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("learning_rate", 0.0), ("epochs", 0), ("hidden", "5-x"), ("hidden", "0"), ("fresh", 1), ("cache_gib", -1.0)],
)
def test_adam_refuses(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"probe.{key}={value!r}"):
        adam(**{key: value})
