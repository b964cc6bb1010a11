"""The overlay as a probe target: its patterns, its values, what is refused, and the MLP probe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from environment_samples import moving_dots
from torch import Tensor
from torch.func import vmap

from jepa.data.cosines import cosine_modes
from jepa.data.normalization import Normalizer
from jepa.data.stream import Stream
from jepa.errors import ConfigError
from jepa.probes.targets.overlay import Overlay
from jepa.run import command_line

SMALL = [
    *("dataset.size=48", "dataset.batch_size=8", "dataset.num_steps=4", "dataset.static_noise=1.25"),
    *("model.encoder.width_factor=1", "model.encoder.embedding_size=16", "trainer.epochs=1", "trainer.warmup_epochs=0"),
    *("probe.fit_sequences=300", "probe.judge_sequences=100", "plots=false", "probe/targets=overlay", "progress=none"),
]


def test_the_patterns_are_orthonormal_and_those_of_scipy() -> None:
    fft = pytest.importorskip("scipy.fft")
    modes = cosine_modes(8, 64).double()
    gram = modes.flatten(1) @ modes.flatten(1).T
    torch.testing.assert_close(gram, torch.eye(64, dtype=torch.float64), atol=1e-6, rtol=0)
    image = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).double()
    transformed = fft.dctn(image.numpy(), norm="ortho")
    amplitudes = (modes * image).sum((1, 2)).numpy()
    order = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]
    np.testing.assert_allclose(amplitudes[:6], [transformed[place] for place in order], atol=1e-5)


def test_batches_hold_the_overlay_only_where_it_is_asked_for() -> None:
    dataset = moving_dots(num_dots=3, channels=3, static_noise=1.25, num_steps=4, batch_size=5)
    normalizer = Normalizer(torch.tensor(0.1), torch.tensor(0.2))
    shown = dataset.with_overlay(7)
    streams = [Stream(one, 0, "probe_fit", normalizer, "cpu") for one in (dataset, shown)]
    draws = streams[0].draw()
    plain, batch = streams[0].dataset.assemble(draws, streams[0].coefficients, normalizer), streams[1].next()
    assert "overlay" not in plain.targets
    torch.testing.assert_close(batch.states, plain.states, rtol=0, atol=0)
    peak = moving_dots(num_dots=3, channels=3, num_steps=4, batch_size=5).assemble(
        draws._replace(overlays={}), streams[0].coefficients, None
    ).states.amax()  # fmt: skip
    overlay = 1.25 * peak / 0.2 * draws.overlays["static"]  # [B, K, H, W]
    by_hand = torch.stack([(overlay * mode).sum((-2, -1)) for mode in cosine_modes(28, 7)], -1).flatten(1)
    torch.testing.assert_close(batch.targets["overlay"], by_hand.expand(4, -1, -1), rtol=1e-3, atol=1e-3)

    def assemble(coefficient: Tensor) -> Tensor:
        coefficients = {**streams[0].coefficients, "static": coefficient}
        return shown.assemble(draws, coefficients, normalizer).targets["overlay"]

    packed = vmap(assemble)(torch.tensor([0.0, 1.25]))
    torch.testing.assert_close(packed[1], batch.targets["overlay"])
    assert not packed[0].any()


def test_an_environment_without_overlays_is_refused() -> None:
    class Bare:
        has_overlays = False

    environment: object = Bare()
    with pytest.raises(ConfigError, match="probe.targets.overlay"):
        Overlay(num_modes=4).of("overlay", environment)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"num_modes=784: must be 256 or less"):
        small = moving_dots()
        small.image_size = 16
        Overlay(num_modes=784).of("overlay", small)


def test_more_of_the_overlay_is_read_by_an_encoder_of_pixels(tmp_path: Path) -> None:
    """A linear map of all pixels knows an overlay that is far brighter than the dot. Without one R² is 0."""
    pixels = ["model=random", "model/encoder=pixels", "probe.fit_sequences=1600", "dataset.static_noise=10"]
    found = {}
    for name, changes in {"pixels": pixels, "clean": ["model=random", "dataset.static_noise=0"]}.items():
        kept = [text for text in SMALL if not text.startswith("model.encoder") or name != "pixels"]
        folder = tmp_path / name
        assert command_line([*kept, *changes, f"folder={folder}"]) == 0
        found[name] = json.loads((folder / "result.json").read_text())["metrics"]
    assert found["pixels"]["encoder_overlay_r2"] > 0.95
    assert len(found["pixels"]["prediction_overlay_rmse_per_step"]) == 4
    assert found["clean"]["encoder_overlay_r2"] == 0 and found["clean"]["encoder_overlay_rmse"] < 1e-3


def test_the_mlp_probe_fits_a_hidden_layer(tmp_path: Path) -> None:
    command_line([*SMALL, "model=random", "probe=mlp", "probe.epochs=2", f"folder={tmp_path}"])
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["config"]["probe"]["hidden"] == "256" and result["metrics"]["encoder_overlay_r2"] < 1
    maps = torch.load(tmp_path / "probe.pt", weights_only=True)
    assert [tuple(w.shape) for w in maps["overlay"]["encoder"]["weights"]] == [(16, 256), (256, 16)]
