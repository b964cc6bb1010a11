"""Distractor processes and smooth textures: mean, variance and correlations against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from environment_samples import moving_dots

from jepa.data.distractors.autoregressive import Autoregressive
from jepa.data.distractors.base import Distractor, Extent
from jepa.data.distractors.changing import Changing
from jepa.data.distractors.drift import Drift, Drifting
from jepa.data.distractors.fixed import Fixed
from jepa.data.distractors.redrawn import Redrawn
from jepa.data.distractors.tag import Tag
from jepa.data.stream import Stream
from jepa.data.textures.base import Bank, Images
from jepa.data.textures.smooth import Smooth
from jepa.data.textures.uniform import Uniform
from jepa.errors import ConfigError

EXTENT = Extent(num_steps=9, batch_size=20, num_dots=3)
UNIFORM = Uniform().load(image_size=28, judging=False, device="cpu")
# Six images whose mean is far from 1/2 and differs between pixels.
DARK = Bank((torch.rand(6, 28, 28, generator=torch.Generator().manual_seed(1)).pow(3) * 255).to(torch.uint8))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def overlays(distractor: Distractor, texture: Images = UNIFORM, extent: Extent = EXTENT, seed: int = 0) -> torch.Tensor:
    frames = distractor.frames(distractor.draw(texture, extent, source(seed)), extent.num_steps)
    assert frames.shape == (*extent, 28, 28) and frames.dtype == torch.float32
    return frames


def correlations(frames: torch.Tensor) -> list[float]:
    """The correlation of the first frame with every frame, over sequences, dots and pixels."""
    centred = frames.double() - frames.double().mean()
    return [float((centred[0] * frame).mean() / centred.square().mean()) for frame in centred]


def test_redrawn_noise_is_equal_within_and_independent_between_its_stretches() -> None:
    frames = overlays(Redrawn(coeff=1.0, every=4))
    for step in range(9):
        assert torch.equal(frames[step], frames[step - step % 4])
    found = correlations(frames)
    assert found[:4] == pytest.approx([1.0] * 4, abs=0.02) and found[4:] == pytest.approx([0.0] * 5, abs=0.02)
    assert torch.equal(overlays(Redrawn(coeff=1.0, every=1)), overlays(Changing(coeff=1.0)))
    assert torch.equal(overlays(Redrawn(coeff=1.0, every=9)), overlays(Fixed(coeff=1.0)))


@pytest.mark.parametrize("correlation", [0.3, 0.9, 0.99])
def test_autoregressive_noise_keeps_mean_and_variance_and_forgets_by_powers_of_its_correlation(
    correlation: float,
) -> None:
    """Five standard errors of 47 040 pixels; the variance's is at most that of a normal variable."""
    frames = overlays(Autoregressive(coeff=1.0, correlation=correlation)).double()
    count = frames[0].numel()
    for frame in frames:
        assert abs(frame.mean() - 0.5) < 5 * math.sqrt(1 / 12 / count)
        assert abs(frame.var() - 1 / 12) < 5 / 12 * math.sqrt(2 / count)
    assert correlations(frames) == pytest.approx([correlation**lag for lag in range(9)], abs=5 / math.sqrt(count))


def test_autoregressive_noise_equals_its_recursion_number_by_number() -> None:
    new = DARK.draw(tuple(EXTENT), source()).double().numpy()
    mean = DARK.bank.double().numpy().mean(0) / 255
    expected = [new[0]]
    for step in range(1, 9):
        expected.append(mean + 0.8 * (expected[-1] - mean) + 0.6 * (new[step] - mean))
    found = overlays(Autoregressive(coeff=1.0, correlation=0.8), DARK)
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=0, atol=1e-5)


def test_autoregressive_images_keep_the_mean_and_the_variance_of_every_pixel() -> None:
    frames = overlays(Autoregressive(coeff=1.0, correlation=0.9), DARK, Extent(17, 1500, 1))[-1, :, 0].double()
    bank = DARK.bank.double() / 255
    variance = bank.var(0, correction=0)
    assert (frames.mean(0) - bank.mean(0)).abs().max() < 5 * math.sqrt(float(variance.max()) / 1500)
    assert float(frames.var(0).mean()) == pytest.approx(float(variance.mean()), rel=0.02)


def test_autoregressive_noise_ends_in_changing_and_in_fixed_noise() -> None:
    for texture in (UNIFORM, DARK):
        changing = overlays(Autoregressive(coeff=1.0, correlation=0), texture)
        assert torch.equal(changing, overlays(Changing(coeff=1.0), texture))
        fixed = overlays(Autoregressive(coeff=1.0, correlation=1), texture)
        assert torch.equal(fixed, fixed[:1].expand_as(fixed))
        assert torch.equal(fixed[0], texture.draw(tuple(EXTENT), source())[0])


@pytest.mark.parametrize("speed", [0.0, 0.7, 3.0])
def test_a_drifting_overlay_equals_numpy(speed: float) -> None:
    drawn = Drifting(UNIFORM.draw((5, 2), source()), torch.rand(5, 2, generator=source(1)))
    frames = Drift(coeff=1.0, speed=speed).frames(drawn, 9).numpy()
    for b in range(5):
        for k in range(2):
            angle = 2 * math.pi * float(drawn.direction[b, k])
            for t in range(9):
                shift = (round(t * speed * math.sin(angle)), round(t * speed * math.cos(angle)))  # rows, columns
                np.testing.assert_array_equal(frames[t, b, k], np.roll(drawn.overlay[b, k].numpy(), shift, (0, 1)))


def test_drift_has_every_direction_and_keeps_its_pixels() -> None:
    drift = Drift(coeff=1.0, speed=2.0)
    directions = drift.draw(UNIFORM, Extent(2, 4000, 1), source()).direction
    counts = torch.histc(directions, 8, 0, 1)
    assert ((counts - 500).abs() < 5 * math.sqrt(500)).all()
    frames = overlays(drift)
    assert torch.equal(frames[8].flatten(2).sort().values, frames[0].flatten(2).sort().values)
    assert torch.equal(overlays(Drift(coeff=1.0, speed=0))[8], overlays(Fixed(coeff=1.0))[8])


def test_a_tag_lies_in_its_corner_and_nowhere_else() -> None:
    frames = overlays(Tag(coeff=1.0, size=4))
    mask = torch.zeros(28, 28, dtype=torch.bool)
    mask[:4, :4] = True
    assert (frames[..., ~mask] == 0).all() and torch.equal(frames, frames[:1].expand_as(frames))
    pattern = frames[0][..., mask].double()
    assert abs(pattern.mean() - 0.5) < 5 / math.sqrt(12 * pattern.numel())
    assert abs(pattern.var() - 1 / 12) < 5 * math.sqrt((1 / 80 - 1 / 144) / pattern.numel())
    assert len(pattern[..., 0].unique()) > 50  # of 60 sequences and dots
    assert torch.equal(overlays(Tag(coeff=1.0, size=100)), overlays(Fixed(coeff=1.0)))


@pytest.mark.parametrize("length", [0.1, 1.5, 4.0])
def test_smooth_pixels_are_uniform_and_correlated_as_far_as_the_length_says(length: float) -> None:
    images = Smooth(correlation_length=length).load(image_size=28, judging=False, device="cpu")
    drawn = images.draw((3000, 2), source()).double().flatten(0, 1)  # [N, H, W]
    assert drawn.min() >= 0 and drawn.max() <= 1 and float(images.mean()) == 0.5
    count = len(drawn)  # independent samples of each pixel
    for pixel in (drawn[:, 0, 0], drawn[:, 14, 9], drawn[:, 27, 27]):
        assert abs(pixel.mean() - 0.5) < 5 / math.sqrt(12 * count)
        assert abs(pixel.var() - 1 / 12) < 5 * math.sqrt((1 / 80 - 1 / 144) / count)
        quantiles = torch.quantile(pixel, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        assert quantiles.tolist() == pytest.approx([0.1, 0.5, 0.9], abs=2.5 / math.sqrt(count))
    for row, column in ((0, 1), (1, 0), (2, 2), (0, 5), (0, 27)):
        field = math.exp(-(row**2 + column**2) / (2 * length**2))
        found = np.corrcoef(drawn[:, 0, 0], drawn[:, row, column])[0, 1]
        assert found == pytest.approx(6 / math.pi * math.asin(field / 2), abs=5 / math.sqrt(count))


def test_a_mixture_adds_its_parts_and_each_has_numbers_of_its_own() -> None:
    parts = {"tag": Tag(coeff=2.0, size=3), "slow": Autoregressive(coeff=0.5, correlation=0.9)}
    raw = {"normalize": False, "num_steps": 4, "num_dots": 3, "channels": 3}
    both = Stream(moving_dots(distractors=parts, **raw), 0, "train", None, "cpu").next().states
    one, other, clean = (
        Stream(moving_dots(distractors=some, **raw), 0, "train", None, "cpu").next().states
        for some in ({"tag": parts["tag"]}, {"slow": parts["slow"]}, {})
    )
    torch.testing.assert_close(both, one + other - clean, rtol=0, atol=1e-6)
    assert (one - clean)[..., 3:, :].abs().max() == 0 and (other - clean).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Redrawn(coeff=1.0, every=0), "every=0: must be at least 1"),
        (lambda: Autoregressive(coeff=1.0, correlation=1.1), r"correlation=1\.1: must be at least 0 and at most 1"),
        (lambda: Drift(coeff=1.0, speed=-1), "speed=-1: must be at least 0"),
        (lambda: Tag(coeff=1.0, size=2.5), r"size=2\.5: must be a whole number"),
        (lambda: Smooth(correlation_length=0), r"correlation_length=0: must be at least 0\.1"),
    ],
)
def test_values_that_cannot_be_used_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
