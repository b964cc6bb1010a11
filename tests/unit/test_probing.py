"""Probes against numpy's least squares, plain loops, and each job alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from jepa.errors import ConfigError
from jepa.probes import AdamProbe, LeastSquares, ProbeReport
from jepa.probes.least_squares import solve_normal_equations
from jepa.types import Batch, Rollout

T, B, K, D, SIZE = 5, 12, 2, 6, 4
SCALE_PX, CENTRE_PX = 6.5, 13.5


class PixelUnits:
    """A data set of which only the units matter."""

    def unnormalize_locations(self, locations: Tensor) -> Tensor:
        return locations * SCALE_PX + CENTRE_PX


class Batches:
    """A stream of random batches, of one job or of several with a seed each."""

    def __init__(self, *seeds: int, packed: bool = False, batch_size: int = B) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.packed, self.batch_size, self.drawn = packed, batch_size, 0

    def next(self) -> Batch:
        self.drawn += 1
        jobs = [self._one(generator) for generator in self.generators]
        return tree_map(lambda *values: torch.stack(values), *jobs) if self.packed else jobs[0]

    def _one(self, generator: torch.Generator) -> Batch:
        states = torch.randn(T, self.batch_size, 1, SIZE, SIZE, generator=generator)
        actions = torch.randn(T - 1, self.batch_size, 2, generator=generator)
        mixing = torch.randn(SIZE * SIZE, K * 2, generator=torch.Generator().manual_seed(0))
        noise = 0.3 * torch.randn(T, self.batch_size, K, 2, generator=generator)
        locations = (states.flatten(2) @ mixing / SIZE).view(T, self.batch_size, K, 2) + noise
        return Batch(states, actions, locations)


class Model:
    """A frozen linear encoder; its prediction is the encoding of the first frame plus the actions so far."""

    def __init__(self, size: int = D, seed: int = 1, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.encoder = torch.randn(SIZE * SIZE, size, generator=generator)
        self.mover = torch.randn(2, size, generator=generator)
        self.dtype, self.frames_seen = dtype, 0

    def __call__(self, batch: Batch) -> Rollout:
        encodings = batch.states.flatten(-3) @ self.encoder
        self.frames_seen += encodings.shape[:-1].numel()
        first = encodings.narrow(encodings.ndim - 3, 0, 1)
        predictions = first + (batch.actions @ self.mover).cumsum(batch.actions.ndim - 3)
        return Rollout(encodings.to(self.dtype), predictions.to(self.dtype))


def least_squares(**changes: object) -> LeastSquares:
    settings = dict(fit_sequences=40, judge_sequences=30, every_frame=True, num_samples=3, ridge=0.0)
    return LeastSquares(**{**settings, **changes})  # type: ignore[arg-type]


def adam(**changes: object) -> AdamProbe:
    settings: dict[str, object] = dict(fit_sequences=40, judge_sequences=30, every_frame=True, num_samples=3)
    settings |= dict(learning_rate=1e-2, epochs=4, hidden="", fresh=False, cache_gib=1.0)
    return AdamProbe(**{**settings, **changes})  # type: ignore[arg-type]


def run(probe: LeastSquares | AdamProbe, model: object = None, **options: object) -> ProbeReport:
    generator = torch.Generator().manual_seed(7)
    return probe.run(model or Model(), Batches(2), Batches(3), PixelUnits(), generator, **options)  # type: ignore[arg-type]


def collect(model: Model, stream: Batches, num_sequences: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trajectories [T, N, D], encodings [T, N, D] and locations [T, N, K, 2] of a whole pass, as float64 arrays."""
    batches = [stream.next() for _ in range(math.ceil(num_sequences / stream.batch_size))]
    rollouts = [model(batch) for batch in batches]
    encodings = torch.cat([rollout.encodings for rollout in rollouts], 1)
    predictions = torch.cat([rollout.predictions for rollout in rollouts], 1)
    locations = torch.cat([batch.locations for batch in batches], 1)
    trajectory = torch.cat([encodings[:1], predictions])
    return tuple(x[:, :num_sequences].double().numpy() for x in (trajectory, encodings, locations))  # type: ignore[return-value]


def loop_mean_square_px(answers: np.ndarray, locations: np.ndarray) -> np.ndarray:
    """Mean over sequences of |answer - location|², px, by plain loops: [S, K]."""
    result = np.zeros((answers.shape[0], K))
    for step in range(answers.shape[0]):
        for dot in range(K):
            total = 0.0
            for sequence in range(answers.shape[1]):
                for axis in range(2):
                    total += ((answers - locations)[step, sequence, dot, axis] * SCALE_PX) ** 2
            result[step, dot] = total / answers.shape[1]
    return result


def test_least_squares_equals_numpy_and_plain_loops() -> None:
    model = Model()
    report = run(least_squares(), model)

    trajectory, encodings, locations = collect(model, Batches(2), 40)
    prediction_map = np.linalg.lstsq(trajectory.reshape(-1, D), locations.reshape(-1, 2 * K), rcond=None)[0]
    encoder_map = np.linalg.lstsq(encodings[0], locations[0].reshape(-1, 2 * K), rcond=None)[0]
    trajectory, encodings, locations = collect(model, Batches(3), 30)
    prediction = loop_mean_square_px((trajectory @ prediction_map).reshape(T, 30, K, 2), locations)
    encoder = loop_mean_square_px((encodings @ encoder_map).reshape(T, 30, K, 2), locations)

    close = {"rel": 1e-9}
    assert report.as_metrics()["prediction_rmse_px"] == pytest.approx(math.sqrt(prediction.mean()), **close)
    assert report.as_metrics()["encoder_rmse_px"] == pytest.approx(math.sqrt(encoder[0].mean()), **close)
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
    assert samples.predicted_px.shape == samples.encoded_px.shape == (T, 3, K, 2)
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
    weight = solve_normal_equations(h.mT @ h, h.mT @ y)[0].numpy()
    np.testing.assert_allclose(weight, expected, rtol=1e-7, atol=1e-12 * np.abs(expected).max())


def test_ridge_is_the_minimiser_of_its_objective() -> None:
    rng = np.random.default_rng(0)
    rows, targets, ridge = 3 * rng.normal(size=(50, D)), rng.normal(size=(50, 4)), 0.2
    scale = 1 / np.sqrt((rows**2).mean(0))
    augmented = np.concatenate([rows * scale, math.sqrt(50 * ridge) * np.eye(D)])
    expected = scale[:, None] * np.linalg.lstsq(augmented, np.concatenate([targets, np.zeros((D, 4))]), rcond=None)[0]
    h, y = torch.from_numpy(rows)[None], torch.from_numpy(targets)[None]
    np.testing.assert_allclose(solve_normal_equations(h.mT @ h, h.mT @ y, ridge)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 3, 300])
def test_collapsed_and_wide_embeddings_are_judged(size: int) -> None:
    """More features than rows, and an encoder that answers the same for every frame: finite errors, no warnings."""
    collapsed = Model(size)
    collapsed.encoder.zero_()
    collapsed.mover.zero_()
    true = Batches(3)
    location = torch.cat([true.next().locations for _ in range(3)], 1)[:, :30] * SCALE_PX
    zero_answer = float(location.square().sum(-1).mean().sqrt())
    assert run(least_squares(), collapsed).as_metrics()["prediction_rmse_px"] == pytest.approx(zero_answer, rel=1e-6)
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
    assert math.isnan(packed[0].as_metrics()["prediction_rmse_px"]) and math.isfinite(packed[0].as_metrics()["encoder_rmse_px"])
    assert all(np.isnan(np.array(value)).all() for value in packed[2].as_metrics().values())
    assert packed[1].as_metrics()["prediction_rmse_px"] == pytest.approx(alone[1].as_metrics()["prediction_rmse_px"], rel=1e-9)


def run_job(probe: LeastSquares | AdamProbe, job: int) -> list[ProbeReport]:
    generator = torch.Generator().manual_seed(30 + job)
    return probe.run_jobs(Model(), Batches(10 + job), Batches(20 + job), PixelUnits(), [generator])


@pytest.mark.parametrize(
    "probe", [least_squares(), adam(), adam(hidden="7-5"), adam(fresh=True)], ids=["exact", "adam", "mlp", "fresh"]
)
def test_packed_jobs_get_the_report_of_the_job_alone(probe: LeastSquares | AdamProbe) -> None:
    generators = [torch.Generator().manual_seed(30 + job) for job in range(3)]
    packed = probe.run_jobs(
        Model(), Batches(10, 11, 12, packed=True), Batches(20, 21, 22, packed=True), PixelUnits(), generators
    )
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
        assert ours.as_metrics()["prediction_rmse_px"] == pytest.approx(reference.as_metrics()["prediction_rmse_px"], rel=1e-9)


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
    assert shortest.as_metrics()["encoder_rmse_px_per_step"] == [shortest.as_metrics()["encoder_rmse_px"]]
    assert shortest.as_metrics()["prediction_rmse_px"] == pytest.approx(full.as_metrics()["prediction_rmse_px"], rel=1e-6)
    assert shortest.samples.frames.shape[0] == T


def test_later_frames_are_judged_on_the_first_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    full = run(least_squares())
    monkeypatch.setattr("jepa.probes.base.EVERY_FRAME_SEQUENCES", B + 1)
    model = Model()
    report = run(least_squares(), model, context_frames=2)
    assert model.frames_seen == 2 * B * 4 + (2 * T + 2) * B
    assert report.as_metrics()["encoder_rmse_px_per_step"][0] == report.as_metrics()["encoder_rmse_px"] == full.as_metrics()["encoder_rmse_px_per_step"][0]
    assert report.as_metrics()["prediction_rmse_px_per_step"] == full.as_metrics()["prediction_rmse_px_per_step"]

    _, encodings, locations = collect(Model(), Batches(2), 40)
    encoder_map = np.linalg.lstsq(encodings[0], locations[0].reshape(-1, 2 * K), rcond=None)[0]
    _, encodings, locations = collect(Model(), Batches(3), 2 * B)  # of the batches that were begun
    expected = loop_mean_square_px((encodings @ encoder_map).reshape(T, -1, K, 2), locations)
    assert report.as_metrics()["encoder_rmse_px_per_step"][1:] == pytest.approx(np.sqrt(expected.mean(1))[1:], rel=1e-9)


def test_own_head_is_judged() -> None:
    def head(rollout: Rollout) -> Tensor:
        trajectory = torch.cat([rollout.encodings[:1], rollout.predictions])
        return trajectory[..., : 2 * K].unflatten(-1, (K, 2))

    report = run(least_squares(), predict_locations=head)
    trajectory, _, locations = collect(Model(), Batches(3), 30)
    expected = loop_mean_square_px(trajectory[..., : 2 * K].reshape(T, 30, K, 2), locations)
    assert report.as_metrics()["head_rmse_px"] == pytest.approx(math.sqrt(expected.mean()), rel=1e-9)
    assert report.as_metrics()["head_rmse_px"] == report.as_metrics()["head_rmse_px"]


def test_half_precision_embeddings_are_taken() -> None:
    for probe in (least_squares(), adam()):
        low, full = run(probe, Model(dtype=torch.bfloat16)), run(probe)
        assert low.as_metrics()["prediction_rmse_px"] == pytest.approx(full.as_metrics()["prediction_rmse_px"], rel=0.02)


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
    trajectory, encodings, locations = (torch.from_numpy(x).float() for x in collect(Model(), Batches(2), 40))
    for _ in range(4):
        for chosen in torch.randperm(40, generator=generator).split(B):
            target = locations[:, chosen].flatten(2)
            losses = [(layers[0](trajectory[:, chosen]) - target), (layers[1](encodings[0, chosen]) - target[0])]
            optimizer.zero_grad()
            sum(2 * loss.square().mean() for loss in losses).backward()
            optimizer.step()
    trajectory, encodings, locations = (torch.from_numpy(x).float() for x in collect(Model(), Batches(3), 30))
    with torch.no_grad():
        prediction = loop_mean_square_px(layers[0](trajectory).view(T, 30, K, 2).numpy(), locations.numpy())
        encoder = loop_mean_square_px(layers[1](encodings).view(T, 30, K, 2).numpy(), locations.numpy())
    assert report.as_metrics()["prediction_rmse_px"] == pytest.approx(math.sqrt(prediction.mean()), rel=1e-5)
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
    assert fitted.as_metrics()["prediction_rmse_px"] == pytest.approx(exact.as_metrics()["prediction_rmse_px"], rel=0.02)


def test_adam_draws_new_sequences_when_asked_or_out_of_memory(caplog: pytest.LogCaptureFixture) -> None:
    streams = {}
    for name, probe in {"kept": adam(), "fresh": adam(fresh=True), "full": adam(cache_gib=0.0)}.items():
        streams[name] = Batches(2)
        probe.run(Model(), streams[name], Batches(3), PixelUnits(), torch.Generator().manual_seed(7))
    assert {name: stream.drawn for name, stream in streams.items()} == {"kept": 4, "fresh": 16, "full": 16}
    assert [record.message.split(":")[0] for record in caplog.records] == ["probe.cache_gib=0"]


def test_a_rest_of_one_sequence_does_not_stop_hidden_layers() -> None:
    assert math.isfinite(run(adam(fit_sequences=B + 1, hidden="3")).as_metrics()["encoder_rmse_px"])


def test_reports_repeat() -> None:
    assert run(adam(hidden="5")).as_metrics() == run(adam(hidden="5")).as_metrics()
    assert replace(run(least_squares()), head_rmse_px=1.0).as_metrics()["head_rmse_px"] == 1.0


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
