"""What every distractor keeps to: each file of conf/dataset/distractor, found by itself."""

from __future__ import annotations

import pytest
import torch
from test_environments import made, same
from torch.utils._pytree import tree_leaves, tree_map

from jepa.config.compose import compose, config_hash, register
from jepa.config.search_path import config_dir, group_options
from jepa.data.stream import Stream
from jepa.packing.streams import JobStreams

NAMES = group_options("dataset/distractor")
SMALL = ("dataset.num_steps=6", "dataset.batch_size=5")


def chosen(name: str, *overrides: str) -> list[str]:
    return [f"+dataset/distractor@dataset.distractors.own={name}", *SMALL, *overrides]


@pytest.mark.parametrize("dataset", ["multiple", "photos"])
@pytest.mark.parametrize("name", NAMES)
def test_frames_are_clean_frames_and_coeff_times_the_overlay(name: str, dataset: str) -> None:
    texture = []
    if dataset == "photos":
        pytest.importorskip("skimage")
        pytest.importorskip("sklearn")
        dataset, texture = "single", ["dataset/texture=photos"]
    words = [*texture, "dataset.normalize=false"]
    world = made(dataset, *chosen(name, *words, "dataset.distractors.own.coeff=1.5"))
    clean = made(dataset, *chosen(name, *words, "dataset.distractors.own.coeff=0"))
    stream = Stream(world, 0, "train", None, "cpu")
    draws = stream.draw()
    frames = world.overlays.distractors["own"].frames(draws.overlays["own"], 6)
    assert frames.shape == (6, 5, world.num_dots, 28, 28) and frames.isfinite().all() and frames.std() > 0.01
    noisy, without = (Stream(one, 0, "train", None, "cpu").next().states for one in (world, clean))
    unit = float(without.max())
    torch.testing.assert_close(noisy, without + 1.5 * unit * frames, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_coefficient_of_zero_draws_nothing_and_leaves_frames_as_they_are(name: str) -> None:
    off = made("single", *chosen(name, "dataset.distractors.own.coeff=0", "dataset.noise=0.5"))
    plain = made("single", *SMALL, "dataset.noise=0.5")
    assert off.classes or "own" not in off.drawn
    found, expected = (Stream(world, 0, "train", None, "cpu").next() for world in (off, plain))
    assert same(found._replace(targets={}), expected)


@pytest.mark.parametrize("name", NAMES)
def test_packed_jobs_get_what_they_get_alone_and_streams_resume(name: str) -> None:
    worlds = [made("multiple", *chosen(name, f"dataset.distractors.own.coeff={coeff}")) for coeff in (0, 1, 2.5)]
    packed = JobStreams([Stream(w, seed, "train", None, "cpu") for seed, w in enumerate(worlds)], common=False).next()
    for job, world in enumerate(worlds):
        alone = Stream(world, job, "train", None, "cpu").next()
        row = tree_map(lambda values, job=job: values[job], packed)
        pairs = (tree_leaves(batch._replace(targets={})) for batch in (row, alone))
        for ours, theirs in zip(*pairs, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    first, second = (Stream(worlds[1], seed, "train", None, "cpu") for seed in (0, 7))
    first.next()
    second.load_state_dict(first.state_dict())
    assert same(first.next(), second.next())


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_explained_and_the_choice_enters_the_hash(name: str) -> None:
    text = (config_dir() / "dataset" / "distractor" / f"{name}.yaml").read_text()
    assert text.startswith("# ") and f"dataset/distractor@dataset.distractors.{name}={name}" in text
    assert all("  # " in line for line in text.splitlines() if not line.startswith(("#", "_target_")))
    register()
    assert config_hash(compose(chosen(name))) != config_hash(compose(list(SMALL)))


def test_distractors_combine_on_the_command_line_and_have_textures_of_their_own() -> None:
    world = made(
        "single",
        *chosen("tag"),
        "+dataset/distractor@dataset.distractors.slow=ar1",
        "+dataset/texture@dataset.distractors.slow.texture=smooth",
        "dataset.distractors.slow.texture.correlation_length=5",
    )
    assert world.drawn == {"own", "slow"}
    assert world.overlays.distractors["slow"].texture.correlation_length == 5
    assert Stream(world, 0, "train", None, "cpu").next().states.isfinite().all()
