"""SimCLR against plain loops in double precision, written from the definition."""

import copy
import math

import pytest
import torch
from method_samples import BURN_IN, MENET5, MLP_PROJECTOR, B, T, batch, simclr

from jepa.errors import ConfigError
from jepa.losses.nt_xent import nt_xent_loss
from jepa.models.heads import IdentityProjector


def slow_nt_xent(predictions, targets, temperature):
    """NT-Xent of one time step, [B, F] each: every vector against its positive and its 2B - 2 negatives."""
    vectors, size = [*predictions.tolist(), *targets.tolist()], len(predictions)

    def similarity(i, j):
        return sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True)) / temperature

    losses = []
    for i in range(2 * size):
        others = [similarity(i, j) for j in range(2 * size) if j != i]
        largest = max(others)
        log_sum = largest + math.log(sum(math.exp(value - largest) for value in others))
        losses.append(log_sum - similarity(i, (i + size) % (2 * size)))
    return sum(losses) / len(losses)


def unit(vectors):
    return torch.stack([vector / math.sqrt(sum(x**2 for x in vector.tolist())) for vector in vectors])


@pytest.mark.parametrize("projector", [IdentityProjector, MLP_PROJECTOR])
@pytest.mark.parametrize(("temperature", "normalized"), [(0.5, True), (8.0, True), (16.0, False), (0.1, False)])
def test_loss_against_plain_loops(temperature, normalized, projector):
    objective = simclr(projector=projector, temperature=temperature, normalize_embeddings=normalized).double()
    data = batch(dtype=torch.float64)
    reference = copy.deepcopy(objective)
    z, predicted = reference.rollout(data.states, data.actions)
    project = getattr(reference.projector, "model", reference.projector)
    targets = project(z.flatten(0, 1)).reshape(T, B, -1)
    values = []
    for t in range(1, T):
        pair = project(predicted[t - 1]), targets[t]
        values.append(slow_nt_xent(*(unit(v) if normalized else v for v in pair), temperature))
    losses = objective(data, None)
    expected = sum(values) / len(values)
    assert losses.total.item() == pytest.approx(expected, rel=1e-6)  # hyperparameters and loss are single precision
    assert losses.terms == {"nt_xent": losses.total}


def test_gradient_in_double_precision():
    source = torch.Generator().manual_seed(0)
    pair = [torch.randn(2, 3, 4, generator=source, dtype=torch.float64).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: nt_xent_loss(a, b, torch.tensor(0.7, dtype=torch.float64)), pair)


def test_large_dot_products_stay_finite_and_exact():
    source = torch.Generator().manual_seed(0)
    pair = [30 * torch.randn(1, 5, 8, generator=source) for _ in range(2)]
    expected = slow_nt_xent(pair[0][0].double(), pair[1][0].double(), 0.1)
    assert float(nt_xent_loss(*pair, torch.tensor(0.1))) == pytest.approx(expected, rel=1e-5)


def test_burn_in_leaves_out_the_frames_shown():
    objective, data = simclr(networks={"predictor": BURN_IN}).double(), batch(dtype=torch.float64)
    z, predicted = objective.rollout(data.states, data.actions)
    values = [slow_nt_xent(unit(predicted[t - 1]), unit(z[t]), 0.5) for t in (3, 4)]
    assert objective(data).total.item() == pytest.approx(sum(values) / 2, rel=1e-6)


def test_bfloat16_is_close():
    objective, data = simclr(networks={"encoder": MENET5}), batch(size=32)
    exact = objective(data).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = objective(data).total
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, r"temperature=0\.0: must be at least 1e-06"),
        ({"temperature": -1}, r"temperature=-1"),
        ({"normalize_embeddings": "true"}, r"normalize_embeddings='true': must be true or false"),
    ],
)
def test_errors_name_the_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        simclr(**changes)
