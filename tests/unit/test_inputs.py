"""Differences of frames as input: a method on them is the method on frames, given a batch of differences."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from method_samples import BURN_IN, MENET5, NETWORKS, B, D, T, batch, joint_embedding, vicreg_terms
from probe_samples import Batches, Model, PixelUnits, least_squares, rmse
from probe_samples import T as JUDGED_T
from torch import Tensor

from jepa.errors import ConfigError
from jepa.losses.inverse_dynamics import InverseDynamics
from jepa.losses.location import Location
from jepa.methods.joint_embedding import JointEmbedding
from jepa.models.inputs import inputs
from jepa.types import Batch, DataShapes, Rollout

KINDS = ["difference", "stacked"]
PREDICTORS = [NETWORKS["predictor"], BURN_IN]
DATA = batch(dtype=torch.float64)


def shown(states: Tensor, kind: str) -> Tensor:
    """The inputs of frames 1 ... T-1, in plain loops."""
    frames = []
    for before, now in zip(states[:-1], states[1:], strict=True):
        images = [now - before] if kind == "difference" else [now, now - before]
        frames.append(torch.cat(images, dim=1))
    return torch.stack(frames)


def methods(kind: str, predictor: Any, terms: Any = None) -> tuple[JointEmbedding, JointEmbedding, Batch]:
    """A method on ``kind``; the same networks on frames; and the batch that makes the latter the former."""
    made = terms or partial(vicreg_terms, sim=2.0, std=1.0, cov=0.5, enc_std=0.3, action=1.5)
    networks = {"encoder": MENET5, "predictor": predictor}
    ours = joint_embedding(made(), networks={**networks, "input": kind}).double()
    images = shown(DATA.states, kind)
    shapes = DataShapes(num_steps=T - 1, channels=images.shape[2], image_size=28, num_dots=3, action_size=2)
    plain = joint_embedding(made(), seed=1, networks={**networks, "shapes": shapes}).double()
    plain.load_state_dict(ours.state_dict())
    return ours, plain, Batch(images, DATA.actions[1:], DATA.locations[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_against_plain_loops(kind: str) -> None:
    torch.testing.assert_close(inputs(DATA.states, kind), shown(DATA.states, kind))
    assert inputs(DATA.states, "frames") is DATA.states


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_method_on_a_batch_of_inputs(kind: str, predictor: Any) -> None:
    ours, plain, data = methods(kind, predictor)
    left, right = ours(DATA), plain(data)
    assert left.terms.keys() == right.terms.keys()
    for name, value in left.terms.items():
        torch.testing.assert_close(value, right.terms[name], msg=name)
    left.total.backward()
    right.total.backward()
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    torch.testing.assert_close(dict(ours.named_buffers()), dict(plain.named_buffers()))


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_keep_their_places(kind: str, predictor: Any) -> None:
    ours, plain, data = (part.eval() if isinstance(part, JointEmbedding) else part for part in methods(kind, predictor))
    rollout, expected = ours.rollout(DATA.states, DATA.actions), plain.rollout(data.states, data.actions)
    assert rollout.encodings.shape == (T, B, D) and rollout.predictions.shape == (T - 1, B, D)
    torch.testing.assert_close(rollout.encodings[1:], expected.encodings)
    torch.testing.assert_close(rollout.predictions[1:], expected.predictions)
    torch.testing.assert_close(rollout.predictions[0], expected.encodings[0])  # frame 1 is shown
    torch.testing.assert_close(rollout.encodings[0], rollout.encodings[1])  # nothing is known before
    few = ours.rollout(DATA.states[: ours.context_frames], DATA.actions)
    torch.testing.assert_close(few.predictions, rollout.predictions)
    assert ours.first_judged == 1 and ours.context_frames == plain.context_frames + 1


def test_a_fixed_overlay_cancels_in_differences() -> None:
    overlay = torch.randn(B, 1, 28, 28, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    noisy = DATA._replace(states=DATA.states + overlay)
    values = {}
    for kind in ("frames", "difference"):
        ours = joint_embedding(vicreg_terms(sim=1.0, std=1.0), networks={"input": kind}).double()
        values[kind] = ours(DATA).total.item(), ours(noisy).total.item()
    assert values["difference"][0] == pytest.approx(values["difference"][1], rel=1e-9)
    assert values["frames"][0] != pytest.approx(values["frames"][1], rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_of_its_own_answers_for_every_frame(kind: str) -> None:
    ours, plain, data = methods(kind, PREDICTORS[0], lambda: {"location": Location(coeff=None)})
    torch.testing.assert_close(ours(DATA).total, plain(data).total)
    ours.eval(), plain.eval()
    answers = ours.predict_locations(ours.rollout(DATA.states[:2], DATA.actions))
    assert answers.shape == DATA.locations.shape
    torch.testing.assert_close(answers[1:], plain.predict_locations(plain.rollout(data.states, data.actions)))


def test_errors_name_the_key() -> None:
    term = {"action": InverseDynamics(coeff=1.0, action_input="encodings")}
    with pytest.raises(ConfigError, match=r"^model\.input='stack': must be one of .* did you mean 'stacked'"):
        joint_embedding(term, networks={"input": "stack"})
    short = DataShapes(num_steps=4, channels=1, image_size=28, num_dots=3, action_size=2)
    joint_embedding(term, networks={"shapes": short, "predictor": BURN_IN})
    with pytest.raises(ConfigError, match=r"^model\.predictor\.burn_in=3: must be below dataset\.num_steps=4 - 1"):
        joint_embedding(term, networks={"shapes": short, "predictor": BURN_IN, "input": "difference"})


@pytest.mark.parametrize("context_frames", [2, None])
def test_probes_judge_from_the_first_frame_that_tells_something(context_frames: int | None) -> None:
    """The same numbers as for sequences that begin with frame 1, whatever stands in the place of frame 0."""

    class Shorter(Batches):
        def next(self) -> Batch:
            return super().next().from_frame(1)

    def shifted(one: Batch) -> Rollout:
        rest = one._replace(states=one.states[1:], actions=one.actions[1:])
        encodings, predictions = Model()(rest)
        unknown = torch.full_like(encodings[:1], math.nan)
        return Rollout(torch.cat([unknown, encodings]), torch.cat([encodings[:1], predictions]))

    environment: Any = PixelUnits()
    probe, generator = least_squares(), torch.Generator()
    report = probe.run(
        shifted, Batches(2), Batches(3), environment, generator, context_frames=context_frames, first_judged=1
    )
    expected = probe.run(Model(), Shorter(2), Shorter(3), environment, generator)
    assert rmse(report) == pytest.approx(rmse(expected), rel=1e-9)
    metrics = report.as_metrics()
    assert metrics.pop("judged_from_frame") == 1 and report.broken == []
    for name, value in expected.as_metrics().items():
        ours = metrics[name]
        if name.endswith("_per_step"):
            assert isinstance(ours, list) and math.isnan(ours[0]) and len(ours) == JUDGED_T
            ours = ours[1:]
        assert ours == pytest.approx(value, rel=1e-9), name
    samples, theirs = report.samples, expected.samples
    np.testing.assert_allclose(samples.frames[1:], theirs.frames)
    np.testing.assert_allclose(samples.true_px[1:], theirs.true_px)
    np.testing.assert_allclose(samples.predicted_px[1:], theirs.predicted_px, rtol=1e-5)
    assert len(samples.true_px) == JUDGED_T and np.isnan(samples.predicted_px[0]).all()
