"""A finite number of backgrounds: which they are, their numbers, and what a batch tells of them."""

import pytest
import torch
from environment_samples import moving_dots

from jepa.data.distractors.finite import Finite
from jepa.data.moving_dots import MovingDots
from jepa.data.render import brightest, gaussian_profiles
from jepa.data.stream import Stream
from jepa.data.textures.base import Bank, Images, Texture
from jepa.errors import ConfigError
from jepa.packing.streams import JobStreams


def world(*, coeff: float = 2.0, num_backgrounds: int = 5, world_seed: int = 0, **changes: object) -> MovingDots:
    background = Finite(coeff=coeff, num_backgrounds=num_backgrounds, world_seed=world_seed)
    return moving_dots(**{"distractors": {"background": background}, "num_steps": 3, "normalize": False, **changes})


def backgrounds(dataset: MovingDots, purpose: str = "train", seed: int = 0) -> torch.Tensor:
    """The overlays that a stream draws from, [N, K, H, W]."""
    return Stream(dataset, seed, purpose, None, "cpu").images["background"].overlays


def test_a_sequence_lies_over_the_background_that_its_label_names() -> None:
    dataset = world(num_dots=2, channels=2)
    batch = Stream(dataset, 0, "train", None, "cpu").next()
    columns, rows = gaussian_profiles(batch.locations, 28, 1.3)
    clean = rows.unsqueeze(-1) * columns.unsqueeze(-2)
    label = batch.targets["background"]
    assert label.shape == (3, 32) and torch.equal(label[0], label[2]) and dataset.classes == {"background": 5}
    expected = clean + 2.0 * brightest(columns, rows) * backgrounds(dataset)[label]
    torch.testing.assert_close(batch.states, expected, rtol=1e-5, atol=1e-6)
    assert len({tuple(image.flatten().tolist()) for image in backgrounds(dataset).flatten(0, 1)}) == 10


def test_labels_are_uniform() -> None:
    labels = Stream(world(num_steps=2), 0, "train", None, "cpu").next(5000).targets["background"][0]
    counts = labels.bincount(minlength=5).double()
    assert ((counts - 1000).abs() < 5 * (5000 * 0.2 * 0.8) ** 0.5).all()


def test_training_and_judging_and_all_runs_live_in_one_world() -> None:
    first = backgrounds(world())
    for other in (backgrounds(world(), "probe_judge"), backgrounds(world(), seed=7), backgrounds(world(coeff=0.0))):
        assert torch.equal(first, other)
    assert not torch.equal(first, backgrounds(world(world_seed=1)))


def test_a_label_is_there_at_a_coefficient_of_zero_and_adds_exactly_nothing() -> None:
    with_label = Stream(world(coeff=0.0, noise=0.5), 0, "train", None, "cpu").next()
    without = Stream(moving_dots(num_steps=3, normalize=False, noise=0.5), 0, "train", None, "cpu").next()
    assert torch.equal(with_label.states, without.states) and without.targets == {}
    assert with_label.targets["background"].float().std() > 0.5


def test_packed_jobs_have_labels_of_their_own() -> None:
    worlds = [world(coeff=coeff) for coeff in (0.0, 1.0, 3.0)]
    alone = [Stream(dataset, seed, "train", None, "cpu").next() for seed, dataset in enumerate(worlds)]
    streams = [Stream(dataset, seed, "train", None, "cpu") for seed, dataset in enumerate(worlds)]
    packed = JobStreams(streams, common=False).next()
    for job, expected in enumerate(alone):
        assert torch.equal(packed.targets["background"][job], expected.targets["background"])
        torch.testing.assert_close(packed.states[job], expected.states, rtol=0, atol=1e-6)
    assert worlds[0].hyperparameter_names == ("noise", "static_noise", "distractors.background.coeff")


class FewLevels(Texture):
    """Four images, each of one grey level; judging has others."""

    def load(self, *, image_size: int, judging: bool, device: torch.device | str) -> Images:
        levels = torch.tensor([10, 20, 30, 40], dtype=torch.uint8) + (100 if judging else 0)
        return Bank(levels.view(4, 1, 1).expand(4, image_size, image_size).contiguous().to(device))


def test_a_texture_of_its_own_gives_different_training_images() -> None:
    distractor = Finite(coeff=1.0, num_backgrounds=4, world_seed=0, texture=FewLevels())
    dataset = moving_dots(distractors={"background": distractor}, noise=0.5)
    for purpose in ("train", "probe_judge"):
        stream = Stream(dataset, 0, purpose, None, "cpu")
        overlays = stream.images["background"].overlays
        assert sorted((overlays[:, 0, 0, 0] * 255).round().tolist()) == [10, 20, 30, 40]
        assert stream.draw().overlays["changing"].unique().numel() > 1000  # the data set's own: uniform noise


def test_more_backgrounds_than_the_texture_has_are_refused() -> None:
    distractor = Finite(coeff=1.0, num_backgrounds=5, world_seed=0, texture=FewLevels())
    with pytest.raises(ConfigError, match="num_backgrounds=5: the texture has too few"):
        Stream(moving_dots(distractors={"background": distractor}), 0, "train", None, "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_backgrounds": 1}, "num_backgrounds=1: must be at least 2"),
        ({"num_backgrounds": 2.5}, r"num_backgrounds=2\.5: must be a whole number"),
        ({"world_seed": -1}, "world_seed=-1: must be at least 0"),
        ({"texture": "photos"}, "texture='photos': must name a texture's class"),
    ],
)
def test_values_that_cannot_be_used_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Finite(**{"coeff": 1.0, "num_backgrounds": 5, "world_seed": 0, **changes})  # type: ignore[arg-type]
