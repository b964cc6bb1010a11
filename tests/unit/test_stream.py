"""Streams of batches: the noise formula against a slow reference, randomness, resuming, packing, refusals."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.dots import DotDraws
from jepa.data.draws import PURPOSES, Streams
from jepa.data.moving_dots import MovingDots
from jepa.data.normalization import Normalizer
from jepa.data.render import render
from jepa.data.stream import Stream
from jepa.data.textures import cifar10, photos
from jepa.data.textures.base import Images
from jepa.errors import ConfigError
from jepa.packing.streams import JobStreams
from jepa.types import Batch, DataShapes

BASE: dict[str, Any] = {
    "num_dots": 1,
    "channels": 1,
    "num_steps": 5,
    "dot_std": 1.3,
    "noise": 0.0,
    "static_noise": 0.0,
    "structured_noise": False,
    "static_noise_speed": 0.0,
    "structured_source": None,
    "cifar10_folder": None,
    "batch_size": 8,
    "size": 100,
    "normalize": True,
}


def data_set(**changes: Any) -> MovingDots:
    return MovingDots(**{**BASE, **changes})


def stack(records: list[Any]) -> Any:
    """Stack trees of tensors over jobs."""
    return tree_map(lambda *tensors: torch.stack(tensors), *records)


def row(batch: Batch, job: int) -> Batch:
    found: Batch = tree_map(lambda values: values[job], batch)
    return found


def same(found: Batch, expected: Batch) -> bool:
    """Equal in every bit."""
    return all(
        torch.equal(ours, theirs) for ours, theirs in zip(tree_leaves(found), tree_leaves(expected), strict=True)
    )


def assert_batches(found: Batch, expected: Batch, atol: float) -> None:
    for ours, theirs in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.fixture
def fake_banks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Banks of grey levels that tell training (below 100) from judging (above)."""

    def bank(*arguments: Any) -> torch.Tensor:
        image_size, judging, device = arguments[-3:]
        levels = torch.arange(50, dtype=torch.uint8) + (150 if judging else 20)
        return levels.view(50, 1, 1).expand(50, image_size, image_size).contiguous().to(device)

    for texture in (cifar10, photos):
        monkeypatch.setattr(texture, "load_bank", bank)


# --- What a batch is --------------------------------------------------------------------------------------------------


def slow_states(dataset: MovingDots, draws: DotDraws, batch: Batch, normalizer: Normalizer) -> np.ndarray:
    """The formula of docs/science.md, frame by frame in float64, from the draws and the batch's own locations."""
    locations = dataset.unnormalize_locations(batch.locations)
    clean = render(locations, 28, dataset.dot_std).double().numpy()
    brightest = clean.max()
    states = np.empty_like(clean)
    for t, b, k in np.ndindex(*clean.shape[:3]):
        noisy = clean[t, b, k]
        if "static" in draws.overlays:
            shift = int(t * dataset.overlays.distractors["static"].speed)
            overlay = np.roll(draws.overlays["static"][b, k].numpy(), shift, axis=1)
            noisy = noisy + brightest * dataset.static_noise * overlay
        if "changing" in draws.overlays:
            noisy = noisy + brightest * dataset.noise * draws.overlays["changing"][t, b, k].numpy()
        states[t, b, k] = noisy
    if dataset.channels < dataset.num_dots:
        states = states.sum(2, keepdims=True)
    return (states - float(normalizer.state_mean)) / float(normalizer.state_std)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("num_dots", "channels"), [(1, 1), (3, 3), (3, 1), (2, 1)])
@pytest.mark.parametrize(("noise", "static_noise", "speed"), [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.5, 1.25, 1.5)])
def test_a_batch_is_what_the_formula_says(
    normalize: bool, num_dots: int, channels: int, noise: float, static_noise: float, speed: float
) -> None:
    dataset = data_set(
        num_dots=num_dots,
        channels=channels,
        noise=noise,
        static_noise=static_noise,
        static_noise_speed=speed,
        normalize=normalize,
    )
    normalizer = dataset.estimate_normalizer(0, "cpu", num_batches=3)
    draws = Stream(dataset, 0, "train", None, "cpu").draw()
    batch = dataset.assemble(draws, dataset.coefficients("cpu"), normalizer)
    assert batch.states.shape == (5, 8, channels, 28, 28) and batch.states.dtype == torch.float32
    assert batch.states.is_contiguous()
    assert batch.actions.shape == (4, 8, 2)
    assert batch.locations.shape == (5, 8, num_dots, 2)
    expected = slow_states(dataset, draws, batch, normalizer)
    np.testing.assert_allclose(batch.states.numpy(), expected, rtol=1e-4, atol=3e-5 if normalize else 1e-7)


def test_shapes_and_counts() -> None:
    dataset = data_set(num_dots=3, channels=3, batch_size=32, size=100)
    assert dataset.shapes == DataShapes(num_steps=5, channels=3, image_size=28, num_dots=3, action_size=2)
    assert dataset.steps_per_epoch == 3
    assert dataset.padding == 2.6


def test_actions_are_the_action_dots_in_normalised_units() -> None:
    raw, normal = (
        Stream(data_set(num_dots=3, normalize=flag), 0, "train", None, "cpu").next() for flag in (False, True)
    )
    moved = (raw.locations[:-1, :, 0] + raw.actions).clamp(2.6, 24.4)
    torch.testing.assert_close(raw.locations[1:, :, 0], moved)
    torch.testing.assert_close(normal.actions, raw.actions / (0.4102 * 4 + 1e-7))
    assert torch.equal(raw.locations[0, :, 2], raw.locations[-1, :, 2])  # the stationary dot


def test_locations_in_px_and_back() -> None:
    raw, normal = (Stream(data_set(normalize=flag), 0, "train", None, "cpu").next() for flag in (False, True))
    dataset = data_set()
    torch.testing.assert_close(dataset.unnormalize_locations(normal.locations), raw.locations)
    assert torch.equal(data_set(normalize=False).unnormalize_locations(raw.locations), raw.locations)


def test_each_dot_has_noise_of_its_own_and_fixed_noise_stays() -> None:
    dataset = data_set(num_dots=3, channels=3, static_noise=2.0, normalize=False)
    stream = Stream(dataset, 0, "train", None, "cpu")
    draws = stream.draw()
    assert set(draws.overlays) == {"static"}
    states = dataset.assemble(draws, stream.coefficients, None).states
    background = states - render(dataset.unnormalize_locations(stream_locations(dataset, draws)), 28, 1.3)
    torch.testing.assert_close(background, background[:1].expand_as(background), rtol=0, atol=1e-7)
    for first, second in itertools.combinations(range(3), 2):
        assert not torch.allclose(background[:, :, first], background[:, :, second], atol=1e-2)


def stream_locations(dataset: MovingDots, draws: DotDraws) -> torch.Tensor:
    return dataset.assemble(draws, dataset.coefficients("cpu"), None).locations


# --- Randomness -------------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_and_purposes_differ() -> None:
    dataset = data_set(noise=1.0, static_noise=1.0)
    batches = {purpose: Stream(dataset, 0, purpose, None, "cpu").next() for purpose in PURPOSES}
    again = Stream(dataset, 0, "train", None, "cpu").next()
    assert same(batches["train"], again)
    other = Stream(dataset, 1, "train", None, "cpu").next()
    for first, second in itertools.combinations([*batches.values(), other], 2):
        assert not torch.equal(first.states, second.states)
        assert not torch.equal(first.locations, second.locations)


def test_motion_and_overlays_do_not_depend_on_each_other() -> None:
    both, changing, static, clean = (
        [Stream(data_set(noise=noise, static_noise=fixed), 0, "train", None, "cpu") for noise, fixed in [pair]][0]
        for pair in [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
    )
    for _ in range(2):
        draws = [stream.draw() for stream in (both, changing, static, clean)]
        assert all(torch.equal(draws[0].motion, other.motion) for other in draws[1:])
        assert torch.equal(draws[0].overlays["changing"], draws[1].overlays["changing"])
        assert torch.equal(draws[0].overlays["static"], draws[2].overlays["static"])
        assert draws[3].overlays == {}


def test_resuming_continues_exactly() -> None:
    dataset = data_set(noise=1.0, static_noise=1.0)
    stream = Stream(dataset, 0, "train", None, "cpu")
    stream.next()
    file = io.BytesIO()
    torch.save(stream.state_dict(), file)
    expected = [stream.next() for _ in range(2)]
    file.seek(0)
    resumed = Stream(dataset, 5, "train", None, "cpu")
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for batch in expected:
        assert same(resumed.next(), batch)


def test_a_state_of_other_streams_is_refused() -> None:
    stream = Stream(data_set(), 0, "train", None, "cpu")
    state = stream.state_dict()
    del state["static"]
    with pytest.raises(ValueError, match="do not fit"):
        stream.load_state_dict(state)


# --- Normalisation ----------------------------------------------------------------------------------------------------


def test_the_normalizer_gives_mean_0_and_standard_deviation_1() -> None:
    dataset = data_set(noise=1.0, static_noise=0.5, batch_size=32)
    normalizer = dataset.estimate_normalizer(0, "cpu")
    assert normalizer.state_mean.shape == normalizer.state_std.shape == ()
    stream = Stream(dataset, 0, "train", normalizer, "cpu")
    states = torch.stack([stream.next().states for _ in range(20)]).double()
    assert abs(states.mean()) < 0.01
    assert abs(states.std() - 1) < 0.01


def test_the_normalizer_pools_its_batches() -> None:
    dataset = data_set(noise=1.0)
    normalizer = dataset.estimate_normalizer(3, "cpu", num_batches=4)
    stream = Stream(dataset, 3, "normalization", None, "cpu")
    states = np.stack([stream.next().states.double().numpy() for _ in range(4)])
    assert float(normalizer.state_mean) == pytest.approx(states.mean(), rel=1e-6)
    assert float(normalizer.state_std) == pytest.approx(states.std(), rel=1e-6)


def test_raw_data_have_the_identity_normalizer() -> None:
    normalizer = data_set(normalize=False).estimate_normalizer(0, "cpu")
    assert [float(value) for value in normalizer] == [0.0, 1.0]


# --- Packing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.0, 1.5])
@pytest.mark.parametrize(("num_dots", "channels"), [(1, 1), (3, 1)])
def test_packed_jobs_get_the_batches_they_would_get_alone(speed: float, num_dots: int, channels: int) -> None:
    """Jobs with other seeds and coefficients, zero among them, through one vmap."""
    settings = [(0.0, 1.25), (2.0, 0.0), (0.5, 0.5)]
    shared = {"static_noise_speed": speed, "num_dots": num_dots, "channels": channels}
    datasets = [data_set(noise=noise, static_noise=fixed, **shared) for noise, fixed in settings]
    normalizers = [dataset.estimate_normalizer(seed, "cpu", num_batches=2) for seed, dataset in enumerate(datasets)]
    alone = [
        Stream(dataset, seed, "train", normalizer, "cpu").next()
        for seed, (dataset, normalizer) in enumerate(zip(datasets, normalizers, strict=True))
    ]
    packed = [
        Stream(dataset, seed, "train", normalizer, "cpu")
        for seed, (dataset, normalizer) in enumerate(zip(datasets, normalizers, strict=True))
    ]
    draws = stack([stream.draw(drawn={"changing", "static"}) for stream in packed])
    coefficients = stack([stream.coefficients for stream in packed])
    batch = torch.func.vmap(datasets[0].assemble)(draws, coefficients, stack(normalizers))
    for job, expected in enumerate(alone):
        assert_batches(row(batch, job), expected, atol=1e-6)


def test_what_is_not_drawn_is_absent_under_vmap() -> None:
    dataset = data_set(noise=1.0)
    streams = [Stream(dataset, seed, "train", None, "cpu") for seed in range(3)]
    drawn = [stream.draw() for stream in streams]
    draws, coefficients = stack(drawn), stack([stream.coefficients for stream in streams])
    assert set(draws.overlays) == {"changing"}
    in_dims = (0, 0, None)
    batch = torch.func.vmap(dataset.assemble, in_dims=in_dims)(draws, coefficients, None)
    for job in range(3):
        assert_batches(row(batch, job), dataset.assemble(drawn[job], streams[job].coefficients, None), atol=1e-6)


def test_jobs_may_share_their_draws() -> None:
    """Common random numbers: one set of draws, each job's coefficients."""
    datasets = [data_set(noise=noise, static_noise=1.0) for noise in (0.0, 0.5, 2.0)]
    draws = Stream(datasets[0], 0, "train", None, "cpu").draw(drawn={"changing", "static"})
    coefficients = stack([dataset.coefficients("cpu") for dataset in datasets])
    batch = torch.func.vmap(datasets[0].assemble, in_dims=(None, 0, None))(draws, coefficients, None)
    for job, dataset in enumerate(datasets):
        expected = dataset.assemble(draws, dataset.coefficients("cpu"), None)
        torch.testing.assert_close(batch.states[job], expected.states, rtol=0, atol=1e-6)


def test_a_coefficient_of_zero_adds_exactly_nothing() -> None:
    dataset = data_set(noise=1.0)
    normalizer = dataset.estimate_normalizer(0, "cpu", num_batches=2)
    without, forced = (
        dataset.assemble(
            Stream(dataset, 0, "train", None, "cpu").draw(drawn=drawn), dataset.coefficients("cpu"), normalizer
        )
        for drawn in (None, {"changing", "static"})
    )
    assert torch.equal(without.states, forced.states)
    assert Stream(dataset, 0, "train", None, "cpu").draw(drawn=()).overlays == {}


def test_assembling_leaves_the_draws_alone() -> None:
    dataset = data_set(noise=1.0, static_noise=1.0)
    draws = Stream(dataset, 0, "train", None, "cpu").draw()
    before = [field.clone() for field in tree_leaves(draws)]
    first, second = (dataset.assemble(draws, dataset.coefficients("cpu"), None) for _ in range(2))
    assert all(torch.equal(field, kept) for field, kept in zip(tree_leaves(draws), before, strict=True))
    assert torch.equal(first.states, second.states)


# --- Structured noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", PURPOSES)
def test_judging_sees_test_images_only(fake_banks: None, purpose: str) -> None:
    dataset = data_set(noise=1.0, static_noise=1.0, structured_noise=True, structured_source="photos")
    draws = Stream(dataset, 0, purpose, None, "cpu").draw()
    judging = purpose in ("probe_judge", "plots", "planning")
    for overlay in draws.overlays.values():
        levels = overlay * 255
        assert bool((levels > 100).all()) == judging
        assert bool((levels < 100).all()) != judging
    assert {name: tuple(drawn.shape) for name, drawn in draws.overlays.items()} == {
        "static": (8, 1, 28, 28),
        "changing": (5, 8, 1, 28, 28),
    }


def test_the_normalizer_is_estimated_with_training_images(fake_banks: None) -> None:
    dataset = data_set(noise=1.0, structured_noise=True, structured_source="cifar10", dot_std=1.3)
    mean = float(dataset.estimate_normalizer(0, "cpu", num_batches=10).state_mean)
    brightest = 1 / (2 * np.pi * 1.3**2)
    expected = 1 / 28**2 + brightest * (20 + 24.5) / 255
    assert mean == pytest.approx(expected, rel=0.05)


def test_missing_images_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    dataset = data_set(structured_noise=True, structured_source="cifar10", cifar10_folder=str(tmp_path), noise=1.0)
    with pytest.raises(ConfigError, match=r"dataset\.cifar10_folder="):
        Stream(dataset, 0, "train", None, "cpu")


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_dots": 4}, r"dataset\.num_dots=4: must be at least 1 and at most 3"),
        ({"num_dots": 1.5}, r"dataset\.num_dots=1\.5: must be a whole number"),
        ({"channels": 3}, r"dataset\.channels=3: must be 1 with dataset\.num_dots=1"),
        ({"num_dots": 3, "channels": 2}, r"dataset\.channels=2: must be 1 \(images summed\) or 3 .*num_dots=3"),
        ({"num_steps": 1}, r"dataset\.num_steps=1"),
        ({"dot_std": 0}, r"dataset\.dot_std=0: must be at least 0.1"),
        ({"dot_std": 7.0}, r"dataset\.dot_std=7\.0: .*at most 6\.5"),
        ({"noise": -0.5}, r"dataset\.noise=-0\.5: must be at least 0"),
        ({"noise": "loud"}, r"dataset\.noise='loud': must be a finite number"),
        ({"static_noise": float("nan")}, r"dataset\.static_noise=nan: must be a finite number"),
        ({"static_noise_speed": -1}, r"dataset\.static_noise_speed=-1"),
        ({"structured_noise": "yes"}, r"dataset\.structured_noise='yes': must be true or false"),
        ({"structured_noise": True}, r"choose dataset\.structured_source=cifar10 .*dataset\.structured_source=photos"),
        ({"structured_source": "cifar"}, r"dataset\.structured_source='cifar': .*did you mean 'cifar10'"),
        ({"cifar10_folder": 3}, r"dataset\.cifar10_folder=3: must be a path or null"),
        ({"batch_size": 0}, r"dataset\.batch_size=0"),
        ({"size": 7}, r"dataset\.size=7: must be at least 8"),
        ({"normalize": 1}, r"dataset\.normalize=1: must be true or false"),
    ],
)
def test_values_that_cannot_be_used_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data_set(**changes)


def test_unknown_purposes_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        Streams(seed=0, purpose="training", device="cpu")


def test_coefficients_are_scalars() -> None:
    found = data_set(noise=2, static_noise=0.5).coefficients("cpu")
    assert found == {"static": torch.tensor(0.5), "changing": torch.tensor(2.0)}
    assert found["changing"].dtype == torch.float32


# --- Distractors of one's own -----------------------------------------------------------------------------------------


class EvenFrames(Distractor):
    """One overlay for a sequence, on in even frames only."""

    def draw(self, texture: Images, extent: Extent, generator: torch.Generator) -> torch.Tensor:
        return texture.draw((extent.batch_size, extent.num_dots), generator)

    def frames(self, drawn: torch.Tensor, num_steps: int) -> torch.Tensor:
        on = 1.0 - torch.arange(num_steps, device=drawn.device) % 2
        return drawn * on.view(-1, 1, 1, 1, 1)


def test_a_distractor_of_ones_own_is_added_beside_the_others() -> None:
    changes = {"noise": 0.5, "static_noise": 1.0, "normalize": False}
    plain, extended = data_set(**changes), data_set(**changes, distractors={"even": EvenFrames(coeff=2.0)})
    first, second = Stream(plain, 0, "train", None, "cpu"), Stream(extended, 0, "train", None, "cpu")
    without, draws = first.next(), second.draw()
    states = extended.assemble(draws, extended.coefficients("cpu"), None).states
    clean = Stream(data_set(normalize=False), 0, "train", None, "cpu").next().states
    added = clean.max() * 2.0 * draws.overlays["even"]  # [B, K, H, W]
    for step in range(5):
        expected = without.states[step] + (added if step % 2 == 0 else 0)
        torch.testing.assert_close(states[step], expected, rtol=1e-5, atol=1e-6)


def test_a_distractor_without_strength_is_not_there() -> None:
    plain, extended = data_set(noise=0.5), data_set(noise=0.5, distractors={"even": EvenFrames(coeff=0.0)})
    first, second = (Stream(dataset, 0, "train", None, "cpu").next() for dataset in (plain, extended))
    assert same(first, second)


def test_jobs_that_differ_in_a_distractors_strength_are_packed() -> None:
    datasets = [data_set(distractors={"even": EvenFrames(coeff=coeff)}) for coeff in (0.0, 1.0, 3.0)]
    alone = [Stream(dataset, seed, "train", None, "cpu").next() for seed, dataset in enumerate(datasets)]
    streams = [Stream(dataset, seed, "train", None, "cpu") for seed, dataset in enumerate(datasets)]
    packed = JobStreams(streams, common=False).next()
    for job, expected in enumerate(alone):
        assert_batches(row(packed, job), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["static", "changing", "motion"])
def test_the_names_of_the_data_sets_own_streams_are_taken(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"dataset\.distractors\.{name}: this name is taken"):
        data_set(distractors={name: EvenFrames(coeff=1.0)})


def test_a_strength_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"coeff=-1: must be at least 0"):
        EvenFrames(coeff=-1)


# --- The stream for choosing settings ---------------------------------------------------------------------------------


def test_the_streams_of_probes_share_no_draw() -> None:
    """Fit, validation and test: no location, action or overlay value of one stream occurs in another."""
    dataset = data_set(noise=1.0, static_noise=1.0)
    purposes = ("probe_fit", "probe_validation", "probe_judge")
    drawn = [tree_leaves(Stream(dataset, 0, purpose, None, "cpu").draw()) for purpose in purposes]
    for leaves in zip(*drawn, strict=True):
        floats = [set(leaf.flatten().tolist()) for leaf in leaves if leaf.is_floating_point()]
        for first, second in itertools.combinations(floats, 2):
            assert len(first & second) < 0.01 * len(first)
    again = tree_leaves(Stream(dataset, 0, "probe_validation", None, "cpu").draw())
    assert all(torch.equal(one, other) for one, other in zip(drawn[1], again, strict=True))
