"""Reads the arrays that the original computed, and compares a model of ours with them."""

from functools import partial
from pathlib import Path

import numpy
import torch

from jepa.kernels import install
from jepa.models.encoders import MeNet5
from jepa.models.predictors import RNN
from jepa.types import Batch, DataShapes

FOLDER = Path(__file__).parent
SHAPES = DataShapes(num_steps=6, channels=1, image_size=28, num_dots=1, action_size=2)
NETWORKS = {
    "shapes": SHAPES,
    "encoder": partial(MeNet5, width_factor=1, embedding_size=48, mlp=""),
    "predictor": partial(RNN, num_layers=1),
}
ACTION_PREDICTOR = "terms.action.action_predictor."
LOSS = {"rtol": 1e-5, "atol": 0.0}
ARRAYS = {"rtol": 1e-4, "atol": 1e-6}


def load(name):
    """The arrays of one file by key, fp32."""
    arrays = numpy.load(FOLDER / f"{name}.npz")
    return {key: torch.tensor(value, dtype=torch.float32) for key, value in arrays.items()}


def batch_of(arrays):
    locations = torch.zeros(*arrays["states"].shape[:2], 1, 2)
    return Batch(arrays["states"], arrays["actions"], locations)


def group(arrays, prefix):
    """The arrays under ``prefix/`` by our names: backbone is encoder here, and inverse dynamics is a term."""
    start = len(prefix) + 1
    return {
        key[start:].replace("backbone.", "encoder.").replace("action_predictor.", ACTION_PREDICTOR): value
        for key, value in arrays.items()
        if key.startswith(f"{prefix}/")
    }


kernels_in_use: tuple[str, ...] = ()  # set by a fixture of tests/golden/conftest.py


def with_golden_weights(objective, arrays):
    """``objective`` with the file's weights; only an action predictor that takes no part may be left over."""
    weights, ours = group(arrays, "weight"), objective.state_dict()
    assert set(ours) <= set(weights)
    assert all(name.startswith(ACTION_PREDICTOR) for name in set(weights) - set(ours))
    objective.load_state_dict({name: weights[name] for name in ours})
    install(objective, device=torch.device("cpu"), precision="fp32", only=kernels_in_use)
    return objective.train()


def assert_gradients(objective, arrays):
    parameters = dict(objective.named_parameters())
    for name, expected in group(arrays, "grad").items():
        if name not in parameters:  # of a network that the original builds and does not use
            assert not expected.any(), name
            continue
        grad = parameters[name].grad
        grad = torch.zeros_like(expected) if grad is None else grad
        if name == "projector.model.0.bias":
            # BatchNorm takes this bias away again: the gradient is 0, the file holds the rounding of one order of sums
            assert grad.abs().max() < 1e-5 and expected.abs().max() < 1e-5
            continue
        torch.testing.assert_close(grad, expected, **ARRAYS, msg=lambda text, name=name: f"{name}: {text}")


def assert_running_values(objective, arrays):
    ours = objective.state_dict()
    expected = group(arrays, "running_after")
    assert set(expected) == {name for name in ours if "running_" in name}
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, **ARRAYS, msg=lambda text, name=name: f"{name}: {text}")
