"""A loss term of one's own: given to every method alike; without a weight it is not there at all."""

from functools import partial

import pytest
import torch
from method_samples import MLP_PROJECTOR, NETWORKS, SHAPES, B, D, T, batch, joint_embedding
from torch import nn

from jepa.errors import ConfigError
from jepa.losses.base import Embeddings, Sizes, Term
from jepa.losses.nt_xent import NTXent
from jepa.losses.prediction import Prediction
from jepa.losses.variance import Variance
from jepa.methods.rssm import RSSM
from jepa.models.decoders import Decoder

SEED = 3


class Smooth(Term):
    """Mean squared step of a learnt map of z_t; counts its calls in a buffer, which is not trained."""

    hyperparameter_names = ("coeff", "scale")

    def __init__(self, *, coeff, scale=1.0):
        super().__init__(coeff=coeff)
        self.register_buffer("scale", torch.tensor(float(scale)), persistent=False)
        self.register_buffer("calls", torch.zeros(()))

    def build(self, sizes: Sizes):
        self.map = nn.Linear(sizes.embedding_size, 2, bias=False)

    def forward(self, embeddings: Embeddings):
        self.calls.add_(1)
        mapped = self.map(embeddings.encodings)
        return self.scale * (mapped[1:] - mapped[:-1]).square().mean()


def vicreg(terms):
    own = {
        "prediction": Prediction(coeff=25.0, after_projector=False),
        "variance": Variance(coeff=10.0, space="projection", skip_first_step=True),
    }
    return joint_embedding({**own, **terms}, seed=SEED, projector=MLP_PROJECTOR)


def simclr(terms):
    own = {"nt_xent": NTXent(coeff=None, temperature=0.5, normalize_embeddings=True)}
    return joint_embedding({**own, **terms}, seed=SEED)


def rssm(terms):
    torch.manual_seed(SEED)
    decoder = partial(Decoder, width_factor=1)
    settings = {"min_var": 0.1, "free_nats": 3.0, "reparameterize": False}
    return RSSM(shapes=SHAPES, encoder=NETWORKS["encoder"], decoder=decoder, **settings, terms=terms)


METHODS = [vicreg, simclr, rssm]


def losses_of(method):
    noise = method.draw_latent_noise(torch.Generator().manual_seed(0), B, torch.device("cpu"))
    return method(batch(), noise)


@pytest.mark.parametrize("build", METHODS)
def test_a_term_adds_its_value_to_any_method(build):
    plain, extended = losses_of(build({})), losses_of(method := build({"smooth": Smooth(coeff=2.0)}))
    assert set(extended.terms) == {*plain.terms, "smooth"}
    torch.testing.assert_close(extended.total, plain.total + 2.0 * extended.terms["smooth"])
    assert method.terms.smooth.calls == 1 and "terms.smooth.map.weight" in method.state_dict()
    assert {"terms.smooth.coeff", "terms.smooth.scale"} <= set(method.hyperparameter_names)
    assert method.loss_weights()["smooth"] == "× 2"


@pytest.mark.parametrize("build", METHODS)
def test_a_term_without_weight_is_neither_built_nor_computed(build):
    plain, extended = build({}), build({"smooth": Smooth(coeff=0.0)})
    assert extended.structure() == plain.structure()
    ours, theirs = losses_of(plain), losses_of(extended)
    assert torch.equal(ours.total, theirs.total)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, extended.state_dict()[name]), name
    ours.total.backward()
    theirs.total.backward()
    for (name, left), right in zip(plain.named_parameters(), extended.parameters(), strict=True):
        assert torch.equal(left.grad, right.grad), name


def test_a_terms_value_and_gradient_reach_the_encoder():
    method = vicreg({"smooth": Smooth(coeff=2.0)})
    losses = losses_of(method)
    z = method.encode(batch().states)
    expected = (method.terms.smooth.map(z)[1:] - method.terms.smooth.map(z)[:-1]).square().sum() / ((T - 1) * B * 2)
    torch.testing.assert_close(losses.terms["smooth"], expected)
    [grad] = torch.autograd.grad(losses.terms["smooth"], [method.encoder.fc2.weight])
    assert grad.shape[0] == D and grad.any()


def test_projections_and_centred_features_are_made_once():
    method = vicreg({})
    calls = []
    method.projector.register_forward_hook(lambda *_: calls.append(1))
    method.terms["again"] = Variance(coeff=1.0, space="projection", skip_first_step=True)
    losses_of(method)
    assert len(calls) == 1


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match=r"^coeff=-1: must be at least 0"):
        Smooth(coeff=-1)
