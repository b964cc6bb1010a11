"""The GRU, plain and by its kernel, against torch.nn.GRU; packed, under autocast, traced."""

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from jepa.kernels import install
from jepa.kernels.recurrence import recurrence
from jepa.models.gru import GRU

CPU = torch.device("cpu")
T, B, A, D = 5, 4, 2, 7


@pytest.fixture(params=[True, False], ids=["kernel", "plain"])
def kernel(request):
    """Whether the recurrence is the kernel's."""
    return request.param


def make_gru(num_layers, kernel):
    gru = GRU(input_size=A, hidden_size=D, num_layers=num_layers)
    assert install(gru, device=CPU, precision="fp32", only=("recurrence",) if kernel else ()) == ["recurrence"] * kernel
    return gru


def gru_and_reference(num_layers, kernel, dtype=torch.float64):
    torch.manual_seed(0)
    ours = make_gru(num_layers, kernel).to(dtype)
    theirs = torch.nn.GRU(A, D, num_layers).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def inputs(num_layers, dtype=torch.float64):
    source = torch.Generator().manual_seed(1)
    shapes = ((T, B, A), (num_layers, B, D))
    return [torch.randn(shape, generator=source, dtype=dtype).requires_grad_() for shape in shapes]


def outputs_and_gradients(gru, x, hidden):
    states, last = gru(x, hidden)
    weights = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states)
    loss = (states * weights).sum() + last.square().sum()
    return [states, last, *torch.autograd.grad(loss, [x, hidden, *gru.parameters()])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_states_and_gradients_are_those_of_torch(num_layers, kernel, dtype):
    ours, theirs = gru_and_reference(num_layers, kernel, dtype)
    x, hidden = inputs(num_layers, dtype)
    for ours_value, value in zip(
        outputs_and_gradients(ours, x, hidden), outputs_and_gradients(theirs, x, hidden), strict=True
    ):
        torch.testing.assert_close(ours_value, value)


def test_initialised_as_torch_does():
    torch.manual_seed(3)
    ours = GRU(input_size=A, hidden_size=D, num_layers=2)
    torch.manual_seed(3)
    theirs = torch.nn.GRU(A, D, 2)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for ours_value, value in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours_value, value, rtol=0, atol=0)


def test_steps_one_by_one_are_the_recurrence(kernel):
    gru, _ = gru_and_reference(2, kernel)
    x, hidden = inputs(2)
    states, last = gru(x, hidden)
    for t in range(T):
        hidden = gru.step(x[t], hidden)
        torch.testing.assert_close(hidden[-1], states[t])
    torch.testing.assert_close(hidden, last)


def test_recurrence_passes_gradcheck():
    source = torch.Generator().manual_seed(0)
    shapes = ((3, 2, 12), (2, 4), (12, 4), (4,))
    tensors = [torch.randn(shape, generator=source, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(recurrence, tensors)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_packed_jobs_are_the_jobs_alone(num_layers, kernel):
    jobs = [make_gru(num_layers, kernel) for _ in range(3)]
    params, _ = stack_module_state(jobs)
    x, hidden = (torch.stack([value.detach().float() * (job + 1) for job in range(3)]) for value in inputs(num_layers))
    hidden.requires_grad_()

    def states(job_params, job_x, job_hidden):
        return functional_call(jobs[0], job_params, (job_x, job_hidden))[0]

    together = vmap(states)(params, x, hidden)
    grads = torch.autograd.grad(together.square().sum(), [hidden, *params.values()])
    inside = vmap(grad(lambda *args: states(*args).square().sum()))(params, x, hidden.detach())
    for j, job in enumerate(jobs):
        alone = job(x[j], hidden[j])[0]
        torch.testing.assert_close(together[j], alone)
        hidden_grad, *param_grads = torch.autograd.grad(alone.square().sum(), [hidden, *job.parameters()])
        torch.testing.assert_close(grads[0][j], hidden_grad[j])
        for stacked, inner, single in zip(grads[1:], inside.values(), param_grads, strict=True):
            torch.testing.assert_close(stacked[j], single)
            torch.testing.assert_close(inner[j], single)


def test_packed_data_with_shared_weights(kernel):
    gru = make_gru(1, kernel)
    x, hidden = (torch.stack([value.detach().float()] * 2) for value in inputs(1))
    together = vmap(lambda job_x, job_hidden: gru(job_x, job_hidden)[0])(x, hidden)
    torch.testing.assert_close(together[1], gru(x[1], hidden[1])[0])


def test_bfloat16_products_leave_the_state_in_single_precision(kernel):
    gru, _ = gru_and_reference(2, kernel, torch.float32)
    x, hidden = inputs(2, torch.float32)
    exact = outputs_and_gradients(gru, x, hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, _ = gru(x, hidden)
        reduced = outputs_and_gradients(gru, x, hidden)
    assert states.dtype == torch.float32
    for value, reference in zip(reduced, exact, strict=True):
        assert value.dtype == torch.float32
        assert (value - reference).norm() < 0.02 * reference.norm()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # within torch.compile
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize("packed", [False, True])
def test_traced_as_one_graph(packed):
    jobs = [make_gru(1, True) for _ in range(2)]
    params, x, hidden = stack_module_state(jobs)[0], *(value.detach().float() for value in inputs(1))

    def states(params, x, hidden):
        return functional_call(jobs[0], params, (x, hidden))[0]

    if packed:
        arguments, call = (params, x.expand(2, -1, -1, -1), hidden.expand(2, -1, -1, -1)), vmap(states)
    else:
        params = {name: value[0].detach().requires_grad_() for name, value in params.items()}
        arguments, call = (params, x, hidden), states
    expected = call(*arguments)
    traced = torch.compile(call, backend="aot_eager", fullgraph=True)(*arguments)
    torch.testing.assert_close(traced, expected)
    for value, reference in zip(
        torch.autograd.grad(traced.square().sum(), list(params.values())),
        torch.autograd.grad(expected.square().sum(), list(params.values())),
        strict=True,
    ):
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-5)
