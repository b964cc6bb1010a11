"""MLPs, projectors and the action predictor."""

import copy

import pytest
import torch
from torch import nn

from jepa.errors import ConfigError, check_widths
from jepa.models.heads import MLP, ActionPredictor, IdentityProjector, MLPProjector


def embeddings(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("text", "widths"), [("512-64", [512, 64]), ("7", [7]), (7, [7]), ("", []), (None, [])])
def test_widths(text, widths):
    assert check_widths("key", text) == widths


@pytest.mark.parametrize("text", ["-", "12-", "a", "1.5", "0", "3--4", -3])
def test_wrong_widths_name_the_key(text):
    with pytest.raises(ConfigError, match=r"^model\.projector\.layers="):
        check_widths("model.projector.layers", text)


def test_mlp_layers():
    kinds = [type(layer) for layer in MLP(sizes=[3, 4, 5, 6]).model]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert list(MLP(sizes=[3, 6]).state_dict()) == ["model.0.weight"]
    assert MLP(sizes=[3, 4, 5, 6])(embeddings(7, 3)).shape == (7, 6)


def test_projector_takes_statistics_over_everything_or_step_by_step():
    projector = MLPProjector(embedding_size=4, layers="6-5")
    reference = copy.deepcopy(projector.model)
    x = embeddings(3, 7, 4)
    torch.testing.assert_close(projector(x), reference(x.flatten(0, 1)).view(3, 7, 5))
    torch.testing.assert_close(projector.steps(x), torch.stack([reference(step) for step in x]))
    torch.testing.assert_close(dict(projector.model.state_dict()), dict(reference.state_dict()))
    assert projector.output_size == 5


def test_identity_projector():
    projector, x = IdentityProjector(embedding_size=4), embeddings(3, 7, 4)
    assert projector(x) is x and projector.steps(x) is x and projector.output_size == 4


def test_a_projector_without_layers_is_refused():
    with pytest.raises(ConfigError, match=r"model/projector=identity"):
        MLPProjector(embedding_size=4, layers="")


def test_action_predictor_is_a_linear_of_both():
    predictor = ActionPredictor(input_size=8, action_size=2)
    before, after = embeddings(3, 7, 4), embeddings(3, 7, 4) + 1
    weight, bias = predictor.model.weight, predictor.model.bias
    expected = before @ weight[:, :4].T + after @ weight[:, 4:].T + bias
    torch.testing.assert_close(predictor(before, after), expected)
