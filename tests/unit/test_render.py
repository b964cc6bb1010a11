"""Rendering against the formula, pixel by pixel."""

import math

import pytest
import torch

from jepa.data.render import brightest, gaussian_profiles, render


@pytest.mark.parametrize("dot_std", [0.5, 1.3, 2.0])
def test_render_equals_the_formula_pixel_by_pixel(dot_std: float) -> None:
    locations = torch.tensor([[2.6, 24.4], [13.0, 7.25], [20.1, 3.3]])
    images = render(locations, 28, dot_std)
    assert images.shape == (3, 28, 28)
    for image, (cx, cy) in zip(images.tolist(), locations.tolist(), strict=True):
        for y in range(28):
            for x in range(28):
                squared = (x - cx) ** 2 + (y - cy) ** 2
                expected = math.exp(-squared / (2 * dot_std**2)) / (2 * math.pi * dot_std**2)
                assert image[y][x] == pytest.approx(expected, rel=2e-4, abs=1e-7)


def test_x_runs_along_columns_and_y_along_rows() -> None:
    image = render(torch.tensor([20.0, 5.0]), 28, 1.3)
    assert divmod(int(image.argmax()), 28) == (5, 20)


def test_leading_dimensions_are_kept_and_a_density_adds_up_to_one() -> None:
    images = render(torch.full((4, 3, 2, 2), 13.5), 28, 1.3)
    assert images.shape == (4, 3, 2, 28, 28)
    torch.testing.assert_close(images.sum((-1, -2)), torch.ones(4, 3, 2))


def test_brightest_is_the_largest_pixel_to_the_bit() -> None:
    locations = torch.rand(17, 32, 3, 2, generator=torch.Generator().manual_seed(0)) * 27
    found = brightest(*gaussian_profiles(locations, 28, 1.3))
    assert found.shape == ()
    assert torch.equal(found, render(locations, 28, 1.3).max())
