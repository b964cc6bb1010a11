"""What every environment keeps to: each file of conf/dataset, found by itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from jepa.config.compose import compose, config_hash, register
from jepa.config.search_path import group_options
from jepa.data.environment import Environment
from jepa.data.stream import Stream
from jepa.errors import ConfigError
from jepa.packing.streams import JobStreams
from jepa.prepare import make_plan
from jepa.types import Batch

NAMES = group_options("dataset")
TEXTURES = group_options("dataset/texture")


def made(name: str, *overrides: str) -> Environment:
    """The environment of a file; natural images are photographs."""
    register()
    if "structured" in name:
        pytest.importorskip("skimage")
        pytest.importorskip("sklearn")
        overrides = ("dataset.structured_source=photos", *overrides)
    return make_plan(compose([f"dataset={name}", *overrides])).dataset


def same(found: Batch, expected: Batch) -> bool:
    """Equal in every bit."""
    return all(
        torch.equal(ours, theirs) for ours, theirs in zip(tree_leaves(found), tree_leaves(expected), strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_values_are_what_the_environment_says(name: str) -> None:
    world = made(name, "dataset.num_steps=6", "dataset.normalize=false")
    shapes, batch = world.shapes, Stream(world, 0, "train", None, "cpu").next(5)
    T, C, H = shapes.num_steps, shapes.channels, shapes.image_size
    assert batch.states.shape == (T, 5, C, H, H) and batch.states.dtype == torch.float32
    assert batch.actions.shape == (T - 1, 5, shapes.action_size)
    assert batch.locations.shape == (T, 5, shapes.num_dots, 2)
    assert all(leaf.isfinite().all() for leaf in tree_leaves(batch))
    assert batch.states.min() >= 0 and batch.locations.min() >= 0 and batch.locations.max() <= H - 1
    assert set(world.classes) <= set(batch.targets)
    for label, count in world.classes.items():
        found = batch.targets[label]
        assert found.shape == (T, 5) and found.dtype == torch.int64
        assert found.min() >= 0 and found.max() < count
    for quantity in world.quantities:
        found = batch.targets[quantity]
        assert found.shape == (T, 5) and found.dtype == torch.float32
        assert torch.equal(world.unnormalize_quantity(quantity, found), found)  # dataset.normalize is false


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything_and_streams_resume(name: str) -> None:
    world = made(name, "dataset.batch_size=6", "dataset.num_steps=4")
    first, second, other = (Stream(world, seed, "train", None, "cpu") for seed in (0, 0, 1))
    assert same(first.next(), second.next())
    assert not torch.equal(first.next().states, other.next().states)
    state, expected = second.state_dict(), second.next()
    resumed = Stream(made(name, "dataset.batch_size=6", "dataset.num_steps=4"), 7, "train", None, "cpu")
    resumed.load_state_dict(state)
    assert same(resumed.next(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_normalised_has_mean_0_and_variance_1(name: str) -> None:
    """Frames of all steps; actions of all; locations at the start. Each within five standard errors."""
    world = made(name, "dataset.num_steps=4", "dataset.batch_size=64")
    normalizer = world.estimate_normalizer(0, "cpu", num_batches=10)
    stream = Stream(world, 0, "train", normalizer, "cpu")
    batches = [stream.next() for _ in range(10)]
    states = torch.cat([batch.states for batch in batches], dim=1).double()
    for values, expected in ((states, 0), (states.square(), 1)):
        by_sequence = values.mean((0, 2, 3, 4))  # which are independent; the normalizer's own error is as large
        assert abs(by_sequence.mean() - expected) < 5 * by_sequence.std() * math.sqrt(2 / len(by_sequence))
    for values in (
        torch.cat([batch.actions for batch in batches], dim=1),
        torch.cat([batch.locations[:1] for batch in batches], dim=1),
    ):
        values = values.double()
        count = values.shape[1] * values[0, 0].numel()  # independent numbers at the least
        assert abs(values.mean()) < 5 / math.sqrt(count)
        assert abs(values.square().mean() - 1) < 5 * math.sqrt(2 / count)


@pytest.mark.parametrize("name", NAMES)
def test_packed_jobs_are_given_what_they_get_alone(name: str) -> None:
    """Jobs that differ in their seeds and in every number that the environment allows."""
    small = ("dataset.num_steps=5", "dataset.batch_size=4")
    numbers = made(name).hyperparameter_names
    worlds = [made(name, *small, *(f"dataset.{key}={0.5 * job}" for key in numbers)) for job in range(3)]
    normalizers = [world.estimate_normalizer(seed, "cpu", num_batches=2) for seed, world in enumerate(worlds)]

    def streams() -> list[Stream]:
        return [
            Stream(world, seed, "train", normalizer, "cpu")
            for seed, (world, normalizer) in enumerate(zip(worlds, normalizers, strict=True))
        ]

    packed = JobStreams(streams(), common=False).next()
    for job, stream in enumerate(streams()):
        row = tree_map(lambda values, job=job: values[job], packed)
        alone = stream.next()
        assert row.targets.keys() == alone.targets.keys()
        for ours, theirs in zip(tree_leaves(row), tree_leaves(alone), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_steps_of_the_true_dynamics_lead_where_the_batch_went(name: str) -> None:
    world = made(name)
    stream = Stream(world, 0, "train", None, "cpu")
    draws = stream.draw(16)
    batch = world.assemble(draws, stream.coefficients, None)
    locations, actions = world.unnormalize_locations(batch.locations), world.unnormalize_actions(batch.actions)
    states = world.start(locations[0, :, 0], world.layouts(draws))
    for step, action in enumerate(actions, start=1):
        states = world.step(states, action)
        torch.testing.assert_close(states[:, :2], locations[step, :, 0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_who_knows_more_guesses_better(name: str) -> None:
    world = made(name)
    found = world.reference_lines()
    assert found is not None and len(found["dots"]) == world.shapes.num_dots
    lines = {line["name"]: line for line in found["prediction"]["lines"]}
    centre, actions, start, both = (
        lines[line]["per_dot_px"][0]
        for line in ("always the centre", "actions alone", "start alone", "start and actions, linear")
    )
    assert 0 < both < min(start, actions) and max(start, actions) < centre
    for line in lines.values():
        assert len(line["per_step_px"]) == world.shapes.num_steps and len(line["per_dot_px"]) == len(found["dots"])
        assert np.sqrt(np.square(line["per_step_px"]).mean()) == pytest.approx(line["rmse_px"], abs=1e-3)
    encoder = found["encoder"]["lines"][0]["rmse_px"]
    batch = Stream(made(name, "dataset.num_steps=2"), 0, "train", None, "cpu").next(2000)
    start_px = world.unnormalize_locations(batch.locations[0]) - (world.shapes.image_size - 1) / 2
    assert encoder == pytest.approx(float(start_px.square().sum(-1).mean().sqrt()), rel=0.03)


# --- textures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texture", [name for name in TEXTURES if name != "cifar10"])
def test_every_texture_gives_images_from_0_to_1(texture: str) -> None:
    if texture == "photos":
        pytest.importorskip("skimage")
        pytest.importorskip("sklearn")
    world = made("single", f"dataset/texture={texture}", "dataset.noise=1")
    for purpose in ("train", "probe_judge"):
        first, second = (Stream(world, 0, purpose, None, "cpu").draw(4).overlays["changing"] for _ in range(2))
        assert first.shape == (17, 4, 1, 28, 28) and first.dtype == torch.float32
        assert torch.equal(first, second) and first.min() >= 0 and first.max() <= 1 and first.std() > 0.05


@pytest.mark.parametrize(("short", "long"), [("structured_source=photos", "photos"), (None, "uniform")])
def test_both_spellings_of_a_texture_give_the_same_batches(short: str | None, long: str) -> None:
    if long == "photos":
        pytest.importorskip("skimage")
        pytest.importorskip("sklearn")
    words = ("dataset.noise=1", "dataset.batch_size=4")
    shortly = (f"dataset.{short}", "dataset.structured_noise=true") if short else ()
    first, second = (made("single", *words, *more) for more in (shortly, (f"dataset/texture={long}",)))
    assert same(Stream(first, 0, "train", None, "cpu").next(), Stream(second, 0, "train", None, "cpu").next())


def test_a_folder_of_images_is_a_key_of_the_texture_and_changes_no_hash(tmp_path: Path) -> None:
    register()
    first, second = (
        compose(["dataset/texture=cifar10", f"dataset.cifar10_folder={folder}"]) for folder in (tmp_path, "null")
    )
    assert first.dataset.texture.folder == str(tmp_path) and config_hash(first) == config_hash(second)
    assert config_hash(first) != config_hash(compose([]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=bouncing", "+dataset.fricton=0.1"], r"dataset\.fricton: no such key; did you mean 'dataset\.f"),
        (["dataset=bouncing", "+dataset.nois=0.1"], r"dataset\.nois: no such key; did you mean 'dataset\.noise'"),
        (["dataset=single", "+dataset.friction=0.1"], r"dataset\.friction: no such key"),
        (["dataset.texture=photos"], r"dataset\.texture='photos': is chosen with a slash: dataset/texture=photos"),
        (["dataset/texture=photos", "dataset.structured_noise=true"], r"structured_noise=true: .*leave one out"),
        (["dataset/texture=photos", "+dataset.texture.folder=x"], r"dataset\.texture\.folder: no such key"),
        (["dataset._target_=jepa.data.dots.DotWorld"], r"must be a class derived from jepa\.data\.environment\.Env"),
        (["dataset._target_=jepa.data.stream.Stream"], r"must be a class derived from jepa\.data\.environment\.Env"),
        (["dataset=backgrounds", "+dataset.distractors.background.texture=x"], r"background\.texture='x': must name a"),
        (
            ["dataset=backgrounds", "dataset.distractors.background.num_backgrounds=0"],
            r"dataset\.distractors\.background\.num_backgrounds=0: must be at least 2",
        ),
        (
            ["+dataset.distractors.x={_target_:jepa.data.textures.photos.Photos,coeff:1}"],
            r"dataset\.distractors\.x\._target_=.*must be a class derived from .*\.Distractor",
        ),
    ],
)
def test_what_no_environment_takes_is_refused_by_its_full_name(words: list[str], said: str) -> None:
    register()
    with pytest.raises(ConfigError, match=said):
        make_plan(compose(words))
