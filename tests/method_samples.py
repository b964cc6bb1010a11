"""Small methods and batches for the tests of every method."""

from functools import partial

import torch

from jepa.losses.covariance import Covariance
from jepa.losses.inverse_dynamics import InverseDynamics
from jepa.losses.location import Location
from jepa.losses.nt_xent import NTXent
from jepa.losses.prediction import Prediction
from jepa.losses.reconstruction import Reconstruction
from jepa.losses.variance import Variance
from jepa.methods.joint_embedding import JointEmbedding
from jepa.models.encoders import MeNet5, MLPEncoder
from jepa.models.heads import IdentityProjector, MLPProjector
from jepa.models.predictors import RNN, RNNBurnIn
from jepa.types import Batch, DataShapes

T, B, K, D = 5, 7, 3, 6
SHAPES = DataShapes(num_steps=T, channels=1, image_size=28, num_dots=K, action_size=2)
MLP_ENCODER = partial(MLPEncoder, embedding_size=D, mlp="")
MENET5 = partial(MeNet5, width_factor=1, embedding_size=D, mlp="")
MLP_PROJECTOR = partial(MLPProjector, layers="8-9")
NETWORKS = {"shapes": SHAPES, "encoder": MLP_ENCODER, "predictor": partial(RNN, num_layers=1)}
BURN_IN = partial(RNNBurnIn, num_layers=1, burn_in=3)


def joint_embedding(terms, *, seed=0, projector=IdentityProjector, networks=None):
    """The networks of NETWORKS, changed by ``networks``, with these terms."""
    torch.manual_seed(seed)
    return JointEmbedding(**{**NETWORKS, **(networks or {})}, projector=projector, terms=terms)


def vicreg_terms(
    *,
    sim=0.0,
    std=0.0,
    cov=0.0,
    enc_std=0.0,
    enc_cov=0.0,
    action=0.0,
    decoding=0.0,
    decoder=None,
    after_projector=False,
    skip_first_step=True,
    action_input="faithful",
):
    """The terms of conf/model/vicreg.yaml with the coefficients named (``sim=1.0``); all others are 0."""
    return {
        "prediction": Prediction(coeff=sim, after_projector=after_projector),
        "variance": Variance(coeff=std, space="projection", skip_first_step=skip_first_step),
        "covariance": Covariance(coeff=cov, space="projection", skip_first_step=skip_first_step),
        "encoder_variance": Variance(coeff=enc_std, space="embedding", skip_first_step=skip_first_step),
        "encoder_covariance": Covariance(coeff=enc_cov, space="embedding", skip_first_step=skip_first_step),
        "action": InverseDynamics(coeff=action, action_input=action_input),
        "reconstruction": Reconstruction(coeff=decoding, decoder=decoder),
    }


def vicreg(*, seed=0, projector=IdentityProjector, networks=None, **changes):
    return joint_embedding(vicreg_terms(**changes), seed=seed, projector=projector, networks=networks)


def simclr(*, seed=0, projector=IdentityProjector, networks=None, temperature=0.5, normalize_embeddings=True):
    term = NTXent(coeff=None, temperature=temperature, normalize_embeddings=normalize_embeddings)
    return joint_embedding({"nt_xent": term}, seed=seed, projector=projector, networks=networks)


def idm(*, seed=0, networks=None, action_coeff=1.3, action_input="faithful"):
    term = InverseDynamics(coeff=action_coeff, action_input=action_input)
    return joint_embedding({"action": term}, seed=seed, networks=networks)


def supervised(*, seed=0, networks=None):
    return joint_embedding({"location": Location(coeff=None)}, seed=seed, networks=networks)


def untrained(*, seed=0, networks=None):
    return joint_embedding({}, seed=seed, networks=networks)


def batch(seed=0, dtype=torch.float32, size=B):
    source = torch.Generator().manual_seed(seed)
    shapes = ((T, size, 1, 28, 28), (T - 1, size, 2), (T, size, K, 2))
    return Batch(*(torch.randn(shape, generator=source, dtype=torch.float64).to(dtype) for shape in shapes))
