"""Overlays: their values, their moments, and rolling against numpy."""

import math

import numpy as np
import pytest
import torch

from jepa.data.distractors.fixed import rolled
from jepa.data.textures.base import Bank
from jepa.data.textures.uniform import Uniform


def test_uniform_pixels_are_independent_and_uniform() -> None:
    images = Uniform().load(image_size=28, judging=False, device="cpu").draw((40, 10), torch.Generator().manual_seed(0))
    assert images.shape == (40, 10, 28, 28) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() < 1
    count = images.numel()
    assert abs(images.double().mean() - 0.5) < 5 / math.sqrt(12 * count)
    assert abs(images.double().var() - 1 / 12) < 5 * math.sqrt((1 / 80 - 1 / 144) / count)
    centred = images.double() - 0.5
    for shifted in (centred.roll(1, 0), centred.roll(1, 1), centred.roll(1, 2), centred.roll(1, 3)):
        assert abs((centred * shifted).mean()) < 5 / 12 / math.sqrt(count)


def test_structured_images_come_from_the_bank_in_grey_levels_from_0_to_1() -> None:
    bank = torch.arange(7, dtype=torch.uint8).mul(42).view(7, 1, 1).expand(7, 28, 28).contiguous()
    images = Bank(bank).draw((300, 5), torch.Generator().manual_seed(0))
    assert images.shape == (300, 5, 28, 28) and images.dtype == torch.float32
    levels, counts = images[:, :, 0, 0].unique(return_counts=True)
    torch.testing.assert_close(levels, torch.arange(7) * 42 / 255)
    expected = 1500 / 7
    assert (counts - expected).abs().max() < 5 * math.sqrt(expected)


def test_structured_draws_follow_from_the_generator_alone() -> None:
    overlay = Bank(torch.arange(100, dtype=torch.uint8).view(100, 1, 1))
    first, second, other = (overlay.draw((50,), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("speed", [0.0, 0.3, 1.0, 2.5, 40.0])
def test_rolling_equals_numpy(speed: float) -> None:
    overlay = torch.rand(3, 2, 5, 28, generator=torch.Generator().manual_seed(0))
    frames = rolled(overlay, num_steps=17, speed=speed)
    assert frames.shape == (17, 3, 2, 5, 28)
    for step in range(17):
        expected = np.roll(overlay.numpy(), int(step * speed), axis=-1)
        np.testing.assert_array_equal(frames[step].numpy(), expected)
