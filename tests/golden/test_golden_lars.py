"""LARS steps of VICReg and SimCLR against the original: learning rates, losses, weights after the last step."""

import pytest
import torch
from golden_arrays import ARRAYS, LOSS, NETWORKS, batch_of, group, load, with_golden_weights
from method_samples import vicreg_terms

from jepa.losses.nt_xent import NTXent
from jepa.methods.joint_embedding import JointEmbedding
from jepa.optim import LARS, FlatLayout, WarmupCosine


def vicreg():
    return JointEmbedding(**NETWORKS, terms=vicreg_terms(sim=52.7, std=118.4, cov=1.0))


def simclr():
    return JointEmbedding(
        **NETWORKS, terms={"nt_xent": NTXent(coeff=None, temperature=0.5, normalize_embeddings=True)}
    )


@pytest.mark.parametrize(("name", "build"), [("vicreg_paper", vicreg), ("simclr_paper", simclr)])
def test_lars_steps(name, build):
    arrays = load(name)
    objective = with_golden_weights(build(), arrays)
    optimizer = LARS(
        base_lr=0.4,
        scale_lr_with_batch=True,
        momentum=0.9,
        weight_decay=1e-6,
        trust_coefficient=1e-3,
        schedule=WarmupCosine(warmup_epochs=10, final_factor=0.001),
    )
    num_steps = len(arrays["lars/losses"])
    rates = optimizer.scaled_lr(16) * optimizer.schedule.factors(30 * 20, 20)[100 : 100 + num_steps]
    torch.testing.assert_close(rates.float(), arrays["lars/learning_rates"], rtol=1e-6, atol=0.0)

    parameters = dict(objective.named_parameters())
    layout = FlatLayout.of(parameters)
    params = layout.flatten([value.detach() for value in parameters.values()])
    for parameter, view in zip(parameters.values(), layout.views(params).values(), strict=True):
        parameter.data = view  # the optimizer moves the model by moving the flat tensor
    state = optimizer.init_state(params)
    hyper = {key: torch.tensor(value) for key, value in optimizer.hyperparameters().items()}
    losses = []
    for rate in rates:
        total = objective(batch_of(arrays), None).total
        losses.append(total.detach())
        grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True, materialize_grads=True)
        optimizer.update(params, layout.flatten(grads), state, rate, hyper, layout)
    torch.testing.assert_close(torch.stack(losses), arrays["lars/losses"], **LOSS)
    after = group(arrays, "lars/weight_after")
    for key, parameter in parameters.items():
        torch.testing.assert_close(parameter.detach(), after[key], **ARRAYS, msg=lambda text, key=key: f"{key}: {text}")
