"""Terms against slow features, each against plain loops in double precision, written from its definition."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from method_samples import BURN_IN, MLP_PROJECTOR, B, D, T, batch, joint_embedding
from numpy.typing import NDArray
from torch import Tensor

from jepa.errors import ConfigError
from jepa.losses.base import Embeddings, Term
from jepa.losses.info_nce import InfoNCE, across_sequences_loss, within_sequence_loss
from jepa.losses.prediction import Prediction
from jepa.losses.sigreg import SIGReg
from jepa.losses.straightening import Straightening, straightening_loss
from jepa.losses.temporal import TemporalCovariance, TemporalSimilarity, TemporalVariance
from jepa.losses.within_sequence import SlowFeatureWhitening, WithinCovariance, WithinVariance
from jepa.models.heads import IdentityProjector

FEATURES = 4
Array = NDArray[np.float64]


def draw(num_steps: int = 5, batch_size: int = 3, num_features: int = FEATURES, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(num_steps, batch_size, num_features, generator=source, dtype=torch.float64)


def value(term: Term, z: Tensor, predictions: Tensor | None = None, normals: Tensor | None = None) -> float:
    """The term of these embeddings, without a projector."""
    term = term.double()
    projector = IdentityProjector(embedding_size=z.shape[-1])
    shown = z[1:] if predictions is None else predictions
    embeddings = Embeddings(encodings=z, predictions=shown, batch=batch(), projector=projector, normals=normals)
    return term(embeddings).item()


# --- contrast --------------------------------------------------------------------------------------------------------


def cosine(a: Array, b: Array) -> float:
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def slow_info_nce(predictions: Tensor, z: Tensor, candidates: Any, temperature: float, similarity: Any) -> float:
    """candidates(t, b): the frames and sequences with which the prediction of frame t of sequence b is compared."""
    predicted, embedded = predictions.numpy(), z.numpy()
    losses = []
    for t in range(1, len(embedded)):
        for b in range(embedded.shape[1]):
            own = predicted[t - 1, b]
            scores = [math.exp(similarity(own, embedded[s, c]) / temperature) for s, c in candidates(t, b)]
            positive = math.exp(similarity(own, embedded[t, b]) / temperature)
            losses.append(-math.log(positive / sum(scores)))
    return float(np.mean(losses))


def circle(t: int, step: int, num_steps: int) -> int:
    """The frame ``step`` frames after t, counted in a circle over 1 ... num_steps - 1."""
    return (t - 1 + step) % (num_steps - 1) + 1


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize(
    ("negatives", "repeats", "num_steps"),
    [("within", 2, 5), ("cross", 2, 5), ("mixed", 2, 5), ("mixed", 3, 7), ("mixed", 4, 5), ("mixed", 2, 6)],
)
def test_info_nce_against_plain_loops(negatives: str, repeats: int, num_steps: int, similarity: str) -> None:
    z, predictions = draw(num_steps), draw(num_steps - 1, seed=1)
    sequences = range(z.shape[1])
    spacing = (num_steps - 1) // repeats
    candidates = {
        "within": lambda t, b: [(s, b) for s in range(1, num_steps)],
        "cross": lambda t, b: [(t, c) for c in sequences],
        "mixed": lambda t, b: [(circle(t, k * spacing, num_steps), c) for k in range(repeats) for c in sequences],
    }
    term = InfoNCE(coeff=1.0, negatives=negatives, similarity=similarity, temperature=0.5, repeats=repeats)
    by = cosine if similarity == "cosine" else np.dot
    expected = slow_info_nce(predictions, z, candidates[negatives], 0.5, by)
    assert value(term, z, predictions) == pytest.approx(expected, rel=1e-9)


def test_mixed_batches_hold_each_sequence_so_often() -> None:
    """Where R divides T - 1 the loss is that of (T - 1) / R batches of R frames of every sequence."""
    z, predictions = draw(7), draw(6, seed=1)
    losses = []
    for start in range(2):
        rows = [start, start + 2, start + 4]  # three frames of every sequence
        pairs = predictions[rows].flatten(0, 1), z[1:][rows].flatten(0, 1)
        similarity = pairs[0] @ pairs[1].T / 0.5
        losses.append(torch.nn.functional.cross_entropy(similarity, torch.arange(len(similarity))))
    found = across_sequences_loss(predictions, z[1:], torch.tensor(0.5, dtype=torch.float64), 3)
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_within_the_sequence_a_constant_part_is_of_no_use() -> None:
    """A large constant vector for each sequence solves the loss across the batch, and nothing within the sequence."""
    constant = 5 * draw(1, batch_size=6, num_features=16).expand(5, -1, -1)
    temperature = torch.tensor(0.5, dtype=torch.float64)
    assert across_sequences_loss(constant[1:], constant[1:], temperature).item() < 0.01
    assert within_sequence_loss(constant[1:], constant[1:], temperature).item() == pytest.approx(math.log(4))


def test_info_nce_in_a_method_uses_projections_and_leaves_out_the_frames_shown() -> None:
    term = InfoNCE(coeff=2.0, negatives="within", similarity="cosine", temperature=0.1, repeats=2)
    method = joint_embedding({"info_nce": term}, projector=MLP_PROJECTOR, networks={"predictor": BURN_IN}).double()
    data = batch(dtype=torch.float64)
    z, predictions = method.rollout(data.states, data.actions)
    predicted = torch.stack([method.projector.model(step) for step in predictions[2:]]).detach()
    projected = method.projector.model(z[2:].flatten(0, 1)).reshape(T - 2, B, -1).detach()
    frames = range(1, T - 2)
    expected = slow_info_nce(predicted, projected, lambda t, b: [(s, b) for s in frames], 0.1, cosine)
    losses = method(data)
    assert losses.terms["info_nce"].item() == pytest.approx(expected, rel=1e-6)
    assert losses.total.item() == pytest.approx(2 * expected, rel=1e-6)


@pytest.mark.parametrize("negatives", ["within", "mixed"])
def test_sixty_five_frames_take_little_memory_and_time(negatives: str) -> None:
    """At B = 64, D = 128: 64 to 128 similarities for each of the 4096 predictions, not 4096."""
    z, predictions = (draw(65, 64, 128, seed=seed).float().requires_grad_() for seed in range(2))
    term = InfoNCE(coeff=1.0, negatives=negatives, similarity="cosine", temperature=0.1, repeats=2)
    projector = IdentityProjector(embedding_size=128)
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.untyped_storage().nbytes())
        return tensor

    started = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = term(Embeddings(encodings=z, predictions=predictions[1:], batch=batch(), projector=projector))
    loss.backward()
    assert time.perf_counter() - started < 5 and z.grad is not None and z.grad.isfinite().all()
    embeddings_bytes = 4 * 64 * 64 * 128
    assert max(sizes) <= 1.1 * embeddings_bytes and sum(sizes) < 20 * embeddings_bytes


# --- variance and covariance in time ---------------------------------------------------------------------------------


def covariance_of(rows: Array, freedom: int) -> Array:
    """rows: [N, F], centred."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for row in rows:
        total += np.outer(row, row)
    return total / freedom


def off_diagonal(matrix: Array) -> float:
    return float(sum(matrix[i, j] ** 2 for i in range(len(matrix)) for j in range(len(matrix)) if i != j))


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("num_features", [2, 9])
def test_variance_and_covariance_in_time_against_plain_loops(skip: bool, num_features: int) -> None:
    z = draw(6, 4, num_features)
    frames = z.numpy()[1:] if skip else z.numpy()
    variances, covariances = [], []
    for b in range(frames.shape[1]):
        sequence = frames[:, b] - frames[:, b].mean(axis=0)
        deviations = [math.sqrt(float(np.var(frames[:, b, d], ddof=1)) + 1e-4) for d in range(num_features)]
        variances += [max(0.0, 1.5 - deviation) for deviation in deviations]
        covariances.append(off_diagonal(covariance_of(sequence, len(frames) - 1)) / num_features)
    numbers: dict[str, Any] = {"coeff": 1.0, "space": "projection", "skip_first_step": skip}
    assert value(TemporalVariance(**numbers, target=1.5), z) == pytest.approx(float(np.mean(variances)), rel=1e-9)
    assert value(TemporalCovariance(**numbers), z) == pytest.approx(float(np.mean(covariances)), rel=1e-9)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("num_features", [3, 40])
def test_variance_and_covariance_within_sequences_against_plain_loops(skip: bool, num_features: int) -> None:
    z = draw(6, 4, num_features)
    frames = z.numpy()[1:] if skip else z.numpy()
    rows = np.array([frames[t, b] - frames[:, b].mean(axis=0) for t in range(len(frames)) for b in range(4)])
    matrix = covariance_of(rows, 4 * (len(frames) - 1))
    deviations = [math.sqrt(matrix[d, d] + 1e-4) for d in range(num_features)]
    numbers: dict[str, Any] = {"coeff": 1.0, "space": "embedding", "skip_first_step": skip}
    expected = float(np.mean([max(0.0, 1 - deviation) for deviation in deviations]))
    assert value(WithinVariance(**numbers), z) == pytest.approx(expected, rel=1e-9)
    assert value(WithinCovariance(**numbers), z) == pytest.approx(off_diagonal(matrix) / num_features, rel=1e-9)


def test_what_is_constant_in_a_sequence_does_not_count() -> None:
    z = draw(6, 4, 3)
    moved = z + 10 * draw(1, 4, 3, seed=1)
    numbers: dict[str, Any] = {"coeff": 1.0, "space": "embedding", "skip_first_step": True}
    terms: list[Term] = [
        TemporalVariance(**numbers, target=1.0),
        TemporalCovariance(**numbers),
        TemporalSimilarity(coeff=1.0, space="embedding"),
        WithinVariance(**numbers),
        WithinCovariance(**numbers),
        SlowFeatureWhitening(coeff=1.0, space="embedding"),
        Straightening(coeff=1.0),
    ]
    for term in terms:
        assert value(term, z) == pytest.approx(value(term, moved), rel=1e-9), term


def test_temporal_similarity_against_plain_loops() -> None:
    z = draw()
    frames = z.numpy()
    steps = [np.mean((frames[t + 1, b] - frames[t, b]) ** 2) for t in range(4) for b in range(3)]
    assert value(TemporalSimilarity(coeff=1.0, space="projection"), z) == pytest.approx(float(np.mean(steps)))


@pytest.mark.parametrize("num_features", [3, 30])
def test_slow_feature_whitening_against_plain_loops(num_features: int) -> None:
    z = draw(num_features=num_features)
    frames = z.numpy()
    steps = np.array([frames[t + 1, b] - frames[t, b] for t in range(4) for b in range(3)])
    moments = covariance_of(steps, len(steps))
    expected = sum((moments[i, j] - (i == j)) ** 2 for i in range(num_features) for j in range(num_features))
    found = value(SlowFeatureWhitening(coeff=1.0, space="projection"), z)
    assert found == pytest.approx(float(expected) / num_features, rel=1e-9)
    assert value(SlowFeatureWhitening(coeff=1.0, space="projection"), torch.zeros_like(z)) == 1


def test_straightening_against_plain_loops() -> None:
    z = draw()
    frames = z.numpy()
    turns = [
        1 - cosine(frames[t + 1, b] - frames[t, b], frames[t + 2, b] - frames[t + 1, b])
        for t in range(3)
        for b in range(3)
    ]
    assert value(Straightening(coeff=1.0), z) == pytest.approx(float(np.mean(turns)), rel=1e-9)
    line = torch.arange(5.0, dtype=torch.float64).view(5, 1, 1) * draw(1)
    assert value(Straightening(coeff=1.0), line) == pytest.approx(0, abs=1e-12)


def test_straightening_of_a_dot_that_rests_pulls_at_nothing() -> None:
    """Two frames that are alike have one embedding: the step between them has no direction."""
    moving = draw().float()
    z = moving[[0, 1, 1, 2]].requires_grad_()
    loss = straightening_loss(z)
    loss.backward()
    assert loss.item() == 1 and z.grad is not None and not z.grad.any()
    z = moving[[0, 1, 2, 2, 3, 4]].requires_grad_()
    straightening_loss(z).backward()
    assert z.grad is not None and 0 < z.grad.abs().max() < 1


# --- SIGReg ----------------------------------------------------------------------------------------------------------


def sigreg(num_projections: int) -> SIGReg:
    term = SIGReg(coeff=1.0, space="embedding", num_projections=num_projections)
    term.num_features, term.num_normals = FEATURES, FEATURES * num_projections
    return term


def test_sigreg_against_plain_loops() -> None:
    z, normals = draw(3, 6), draw(1, 1, FEATURES * 2, seed=5).flatten()
    directions = normals.numpy().reshape(FEATURES, 2)
    values = []
    for frame in z.numpy():
        for m in range(2):
            unit = directions[:, m] / np.linalg.norm(directions[:, m])
            projected = [float(row @ unit) for row in frame]
            total = 0.0
            for k in range(17):
                knot = 3 * k / 16
                weight = (2 if 0 < k < 16 else 1) * (3 / 16) * math.exp(-(knot**2) / 2)
                real = sum(math.cos(x * knot) for x in projected) / 6 - math.exp(-(knot**2) / 2)
                imaginary = sum(math.sin(x * knot) for x in projected) / 6
                total += weight * (real**2 + imaginary**2)
            values.append(6 * total)
    assert value(sigreg(2), z, normals=normals) == pytest.approx(float(np.mean(values)), rel=1e-9)


def test_sigreg_is_small_for_a_normal_cloud_and_large_for_a_point() -> None:
    normals = draw(1, 1, FEATURES * 64, seed=5).flatten()
    cloud = draw(1, 2000)
    assert value(sigreg(64), cloud, normals=normals) < 2 < 100 < value(sigreg(64), 0 * cloud, normals=normals)


def test_sigreg_draws_its_directions_from_the_given_generator() -> None:
    method = joint_embedding({"sigreg": SIGReg(coeff=1.0, space="embedding", num_projections=3)})

    def drawn(seed: int) -> Tensor:
        noise = method.draw_latent_noise(torch.Generator().manual_seed(seed), B, torch.device("cpu"))
        assert noise is not None and noise.shape == (3 * D,)
        return method(batch(), noise).total.detach()

    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))
    other = joint_embedding({"prediction": Prediction(coeff=1.0, after_projector=False)})
    assert other.draw_latent_noise(torch.Generator(), B, torch.device("cpu")) is None


# --- averaged targets ------------------------------------------------------------------------------------------------


def test_predictions_are_compared_with_the_averaged_networks_without_a_gradient() -> None:
    def method(**changes: Any) -> Any:
        terms = {"prediction": Prediction(coeff=1.0, after_projector=True)}
        return joint_embedding(terms, projector=MLP_PROJECTOR, networks=changes).double()

    averaged, data = method(target_decay=0.5), batch(dtype=torch.float64)
    average = averaged.encoder.fc1.weight.detach().clone()
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.mul_(1.1)
    averaged.after_step()
    average = 0.5 * average + 0.5 * averaged.encoder.fc1.weight.detach()
    torch.testing.assert_close(averaged.target.encoder.network.fc1.weight, average)
    targets = averaged.target.encoder.network(data.states[1:].flatten(0, 1))
    encodings = averaged.target.encoder.network(data.states.flatten(0, 1))
    projected = averaged.target.projector.network(encodings.reshape(T, B, -1))[1:]
    assert targets.shape == (len(projected) * B, D)
    _, predictions = averaged.rollout(data.states, data.actions)
    predicted = torch.stack([averaged.projector.model(step) for step in predictions])
    torch.testing.assert_close(averaged(data).total, (predicted - projected).square().mean())
    assert "terms" not in str(averaged.hyperparameter_names[-1]) and "target_decay" in averaged.hyperparameter_names
    assert not any(name.startswith("target") for name, _ in averaged.named_parameters())


def test_a_target_that_keeps_nothing_is_the_encoder_with_its_gradient_stopped() -> None:
    terms = {"prediction": Prediction(coeff=1.0, after_projector=False)}
    stopped = joint_embedding(terms, networks={"target_decay": 0.0}).double()
    data = batch(dtype=torch.float64)
    stopped.after_step()
    total = stopped(data).total
    [grad] = torch.autograd.grad(total, [stopped.encoder.fc1.weight])
    z, predictions = stopped.rollout(data.states, data.actions)
    expected = (predictions - z[1:].detach()).square().mean()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, [stopped.encoder.fc1.weight])[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoNCE(coeff=1, negatives="witin", similarity="dot", temperature=1, repeats=2), r"negatives='witin'"),
        (lambda: InfoNCE(coeff=1, negatives="within", similarity="l2", temperature=1, repeats=2), r"similarity='l2'"),
        (
            lambda: InfoNCE(coeff=1, negatives="mixed", similarity="dot", temperature=1, repeats=1),
            r"repeats=1: must be",
        ),
        (lambda: InfoNCE(coeff=1, negatives="within", similarity="dot", temperature=0, repeats=2), r"temperature=0"),
        (lambda: SIGReg(coeff=1, space="embedding", num_projections=0), r"num_projections=0: must be at least 1"),
        (lambda: joint_embedding({}, networks={"target_decay": 1.5}), r"model\.target_decay=1\.5: must be at least 0"),
        (
            lambda: joint_embedding(
                {"c": InfoNCE(coeff=1, negatives="mixed", similarity="dot", temperature=1, repeats=5)}
            ),
            r"dataset\.num_steps=5: must be at least 6 for model\.terms\.c",
        ),
    ],
)
def test_errors_name_the_key(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
