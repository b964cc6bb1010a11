"""K = 3 jobs of every method as one batched program against the three alone; what may share a pack."""

from functools import partial

import pytest
import torch
from method_samples import (
    BURN_IN,
    MENET5,
    MLP_PROJECTOR,
    batch,
    idm,
    joint_embedding,
    simclr,
    supervised,
    untrained,
    vicreg,
)
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

from jepa.losses.action_hinge import ActionHinge
from jepa.losses.difference_decoder import DifferenceDecoder
from jepa.losses.inverse_dynamics import InverseDynamics
from jepa.losses.k_step_inverse import KStepInverse
from jepa.models.decoders import Decoder
from jepa.models.predictors import MLPPredictor

CONVOLUTIONS = {"encoder": MENET5}


def every_term(job):
    coefficients = {
        "sim": 25.0 + job,
        "std": 12.0 - job,
        "cov": 1.5,
        "enc_std": 0.7,
        "enc_cov": 0.3,
        "action": 1.0 + job,
    }
    return vicreg(
        seed=job,
        **coefficients,
        decoding=0.5,
        decoder=partial(Decoder, width_factor=1),
        projector=MLP_PROJECTOR,
        after_projector=True,
        networks=CONVOLUTIONS,
    )


def action_terms(job):
    terms = {
        "mlp": InverseDynamics(coeff=0.5 + job, action_input="faithful", head="mlp", hidden="8"),
        "k_step": KStepInverse(coeff=1.0 + job, max_steps=2, head="mlp", hidden="8"),
        "difference": DifferenceDecoder(coeff=2.0 - job / 2, head="linear", hidden=""),
        "hinge": ActionHinge(coeff=1.5, margin=0.3 + job / 2),
    }
    return joint_embedding(terms, seed=job, networks={**CONVOLUTIONS, "predictor": BURN_IN})


METHODS = {
    "action terms": action_terms,
    "vicreg with every term": every_term,
    "vicreg": lambda job: vicreg(seed=job, sim=20.0, std=9.0 + job, cov=1.0, networks=CONVOLUTIONS),
    "vicreg with burn-in": lambda job: vicreg(seed=job, sim=20.0, std=9.0, networks={"predictor": BURN_IN}),
    "vicreg on differences": lambda job: vicreg(
        seed=job, sim=20.0, std=9.0 + job, networks={**CONVOLUTIONS, "input": "difference"}
    ),
    "vicreg with mlp predictor": lambda job: vicreg(
        seed=job, sim=20.0 + job, std=9.0, networks={"predictor": partial(MLPPredictor, hidden="8")}
    ),
    "simclr": lambda job: simclr(seed=job, temperature=0.5 + job, projector=MLP_PROJECTOR, networks=CONVOLUTIONS),
    "idm": lambda job: idm(seed=job, action_coeff=0.5 + job, networks=CONVOLUTIONS),
    "supervised": lambda job: supervised(seed=job, networks=CONVOLUTIONS),
}


@pytest.mark.parametrize("method", METHODS)
def test_packed_jobs_are_the_jobs_alone(method):
    # in double precision, so that nothing but the mathematics can differ
    jobs = [METHODS[method](job).double() for job in range(3)]
    data = [batch(seed=job, dtype=torch.float64) for job in range(3)]
    params, buffers = stack_module_state(jobs)

    def losses_of(job_params, job_buffers, job_batch):
        return functional_call(jobs[0], (job_params, job_buffers), (job_batch, None))

    stacked = tree_map(lambda *values: torch.stack(values), *data)
    together = vmap(losses_of)(params, buffers, stacked)
    grads = torch.autograd.grad(together.total.sum(), list(params.values()), allow_unused=True, materialize_grads=True)
    for j, job in enumerate(jobs):
        alone = job(data[j], None)
        torch.testing.assert_close(together.total[j], alone.total)
        for name, value in alone.terms.items():
            torch.testing.assert_close(together.terms[name][j], value, msg=lambda text, name=name: f"{name}: {text}")
        singles = torch.autograd.grad(alone.total, list(job.parameters()), allow_unused=True, materialize_grads=True)
        for name, stacked_grad, single in zip(params, grads, singles, strict=True):
            torch.testing.assert_close(
                stacked_grad[j], single, rtol=1e-5, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
            )
        for name, value in job.named_buffers():
            torch.testing.assert_close(buffers[name][j], value, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("method", ["vicreg", "simclr"])
def test_packed_losses_agree_in_single_precision(method):
    jobs = [METHODS[method](job) for job in range(3)]
    params, buffers = stack_module_state(jobs)
    data = batch()
    together = vmap(lambda p, b: functional_call(jobs[0], (p, b), (data, None)).total)(params, buffers)
    for j, job in enumerate(jobs):
        torch.testing.assert_close(together[j], job(data, None).total, rtol=1e-5, atol=0)


def test_jobs_that_differ_in_numbers_have_one_structure():
    assert vicreg(sim=1.0, seed=1).structure() == vicreg(sim=2.0, seed=2).structure()
    assert hash(every_term(0).structure()) == hash(every_term(1).structure())
    assert simclr(temperature=1.0).structure() == simclr(temperature=2.0).structure()


@pytest.mark.parametrize(
    "other",
    [
        partial(vicreg, sim=1.0, std=1.0),  # another term is computed
        partial(vicreg, sim=1.0, after_projector=True),  # a switch
        partial(vicreg, sim=1.0, projector=MLP_PROJECTOR),  # a network
        partial(vicreg, sim=1.0, networks=CONVOLUTIONS),
        partial(vicreg, sim=1.0, networks={"predictor": BURN_IN}),
        idm,
        untrained,
    ],
)
def test_jobs_that_differ_otherwise_do_not(other):
    assert other().structure() != vicreg(sim=1.0).structure()
