"""Small objectives and batches for the tests of every method."""

from functools import partial

import torch

from jepa.models.encoders import MeNet5, MLPEncoder
from jepa.models.heads import IdentityProjector, MLPProjector
from jepa.models.predictors import RNN, RNNBurnIn
from jepa.objectives.info_nce import SimCLR
from jepa.objectives.inverse_dynamics import InverseDynamics
from jepa.objectives.supervised import Supervised
from jepa.objectives.untrained import Untrained
from jepa.objectives.vicreg import VICReg
from jepa.types import Batch, DataShapes

T, B, K, D = 5, 7, 3, 6
SHAPES = DataShapes(num_steps=T, channels=1, image_size=28, num_dots=K, action_size=2)
MLP_ENCODER = partial(MLPEncoder, embedding_size=D, mlp="")
MENET5 = partial(MeNet5, width_factor=1, embedding_size=D, mlp="")
MLP_PROJECTOR = partial(MLPProjector, layers="8-9")
NETWORKS = {"shapes": SHAPES, "encoder": MLP_ENCODER, "predictor": partial(RNN, num_layers=1)}
BURN_IN = partial(RNNBurnIn, num_layers=1, burn_in=3)
COEFFICIENTS = ("sim", "std", "cov", "enc_std", "enc_cov", "action", "decoding")
SWITCHES = {
    "repr_loss_after_projector": False,
    "skip_first_step_variance_covariance": True,
    "action_input": "faithful",
}


def vicreg(*, seed=0, projector=IdentityProjector, networks=None, **changes):
    """VICReg with the coefficients named (``sim=1.0``); all others are 0."""
    torch.manual_seed(seed)
    coefficients = {f"{name}_coeff": changes.pop(name, 0.0) for name in COEFFICIENTS}
    settings = {**NETWORKS, **(networks or {}), **coefficients, **SWITCHES, **changes}
    return VICReg(projector=projector, **settings)


def simclr(*, seed=0, projector=IdentityProjector, networks=None, temperature=0.5, normalize_embeddings=True):
    torch.manual_seed(seed)
    settings = {"temperature": temperature, "normalize_embeddings": normalize_embeddings}
    return SimCLR(**{**NETWORKS, **(networks or {})}, projector=projector, **settings)


def idm(*, seed=0, networks=None, action_coeff=1.3, action_input="faithful"):
    torch.manual_seed(seed)
    return InverseDynamics(**{**NETWORKS, **(networks or {})}, action_coeff=action_coeff, action_input=action_input)


def supervised(*, seed=0, networks=None):
    torch.manual_seed(seed)
    return Supervised(**{**NETWORKS, **(networks or {})})


def untrained(*, seed=0, networks=None):
    torch.manual_seed(seed)
    return Untrained(**{**NETWORKS, **(networks or {})})


def batch(seed=0, dtype=torch.float32, size=B):
    source = torch.Generator().manual_seed(seed)
    shapes = ((T, size, 1, 28, 28), (T - 1, size, 2), (T, size, K, 2))
    return Batch(*(torch.randn(shape, generator=source, dtype=torch.float64).to(dtype) for shape in shapes))
