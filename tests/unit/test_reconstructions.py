"""Frames that methods decode, and the figure that shows them beside the true ones."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from method_samples import BURN_IN, MENET5, SHAPES, B, T, batch, idm, simclr, vicreg
from torch import Tensor

from jepa.config.compose import compose, register
from jepa.methods.base import Method
from jepa.methods.rssm import RSSM
from jepa.models.decoders import Decoder
from jepa.packing.pack import PackOptions, run_pack
from jepa.prepare import make_plan
from jepa.results.reconstructions import reconstructions_figure
from jepa.run import run
from jepa.training.trainer import Trainer

DECODER = partial(Decoder, width_factor=1)


def rssm(seed: int = 0) -> RSSM:
    torch.manual_seed(seed)
    return RSSM(shapes=SHAPES, encoder=MENET5, decoder=DECODER, min_var=0.1, free_nats=0.2, reparameterize=False)


def images(method: Method, *, noise: Tensor | None = None) -> dict[str, Tensor]:
    one = batch()
    method.eval()
    with torch.no_grad():
        return method.reconstructions(one.states, one.actions, noise)


@pytest.mark.parametrize("method", [vicreg(sim=1.0), simclr(), idm()], ids=["vicreg", "simclr", "idm"])
def test_a_method_without_a_decoder_says_so(method: Method) -> None:
    assert not method.has_decoder and images(method) == {}


@pytest.mark.parametrize("burn_in", [1, 3])
def test_vicreg_decodes_encodings_and_predictions(burn_in: int) -> None:
    networks = {"predictor": BURN_IN} if burn_in == 3 else {}
    method = vicreg(sim=1.0, decoding=1.0, decoder=DECODER, networks=networks)
    found, one = images(method), batch()
    assert method.has_decoder and list(found) == ["encoding", "prediction"]
    decoder = method.terms["reconstruction"].decoder
    with torch.no_grad():
        encodings, predictions = method.rollout(one.states, one.actions)
        for t in range(T):
            torch.testing.assert_close(found["encoding"][t], decoder(encodings[t : t + 1])[0])
            embedding = encodings[t] if t < burn_in else predictions[t - 1]
            torch.testing.assert_close(found["prediction"][t], decoder(embedding[None])[0])


def test_rssm_decodes_the_posterior_and_the_open_loop_step_by_step() -> None:
    method, one = rssm(), batch()
    noise = method.draw_latent_noise(torch.Generator().manual_seed(3), B, torch.device("cpu"))
    found = images(method, noise=noise)
    assert method.has_decoder and list(found) == ["posterior", "open loop"]
    with torch.no_grad():
        encodings = method.encoder(one.states.flatten(0, 1)).unflatten(0, (T, B))
        for name in found:
            belief = encodings[0]
            prior = method.predictor.prior(belief)
            sample = prior.mean + prior.std * noise[0]
            for t in range(T):
                if t > 0:
                    belief = method.predictor.step(belief, sample, one.actions[t - 1])
                    prior = method.predictor.prior(belief)
                    sample = prior.mean + prior.std * noise[2 * t - 1]
                    if name == "posterior":
                        seen = method.posterior(encodings[t], belief)
                        sample = seen.mean + (seen.std + method.min_var) * noise[2 * t]
                image = method.decoder(torch.cat([sample, belief], dim=-1)[None])[0]
                torch.testing.assert_close(found[name][t], image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["posterior"][0], found["open loop"][0])  # both see frame 0 alone
    changed = one.states.clone()
    changed[2:] += 1.0
    with torch.no_grad():
        later = method.reconstructions(changed, one.actions, noise)
    torch.testing.assert_close(later["open loop"], found["open loop"])  # it never sees a later frame
    assert not torch.allclose(later["posterior"][2:], found["posterior"][2:])


# --- the figure ------------------------------------------------------------------------------------------------------


def test_a_sequence_has_a_row_for_each_kind_on_one_grey_scale() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(17, 4, 2, 9, 9))
    decoded = {"posterior": 0.5 * frames[:, :3], "open loop": frames[:, :3] + 3.0}
    figure = reconstructions_figure(frames, decoded)
    assert figure is not None
    blocks = figure.subfigs
    assert [block.get_suptitle() for block in blocks] == ["sequence 1", "sequence 2", "sequence 3"]
    for sequence, block in enumerate(blocks):
        axes = np.array(block.axes).reshape(3, 9)
        assert [axis.get_title() for axis in axes[0]] == [f"frame {step}" for step in range(0, 17, 2)]
        assert [row[0].get_ylabel() for row in axes] == ["true", "posterior", "open loop"]
        shown = frames[:, sequence].sum(1)
        for row, source in zip(axes, (frames, *decoded.values()), strict=True):
            for axis, step in zip(row, range(0, 17, 2), strict=True):
                np.testing.assert_array_equal(axis.images[0].get_array(), source[step, sequence].sum(0))
                assert axis.images[0].get_clim() == (shown.min(), shown.max())
    share = np.square(0.5 * frames[:, :3]).mean() / frames[:, :3].var()
    assert f"posterior (seen: all frames up to this one): mean squared error {share:.2f} of" in figure.get_suptitle()


def test_nothing_is_drawn_of_nothing() -> None:
    frames = np.zeros((5, 2, 1, 9, 9))
    assert reconstructions_figure(frames, {}) is None
    assert reconstructions_figure(frames, {"encoding": frames[:, :0]}) is None
    assert reconstructions_figure(frames, {"encoding": frames}) is not None  # of no variance


# --- runs ------------------------------------------------------------------------------------------------------------

TINY = [
    *("trainer.epochs=1", "trainer.warmup_epochs=0", "dataset.size=8", "dataset.batch_size=8", "dataset.num_steps=4"),
    *("model.encoder.width_factor=1", "model.encoder.embedding_size=16", "probe.fit_sequences=100"),
    *("probe.judge_sequences=8", "progress=none", "threads=1"),
]


def overrides(model: str, folder: Path, *more: str) -> list[str]:
    decoding = ["model.decoding_coeff=1.0"] if model == "vicreg" else []
    decoder = [] if model == "simclr" else ["model.decoder.width_factor=1"]
    return [*TINY, f"model={model}", *decoding, *decoder, f"folder={folder}", *more]


@pytest.mark.parametrize("model", ["rssm", "vicreg", "simclr"])
def test_a_runs_plots_hold_the_decoded_frames(model: str, tmp_path: Path) -> None:
    register()
    run(compose(overrides(model, tmp_path), with_hydra=True))
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names - {"reconstructions.png"} == {"embedding.png", "losses.png", "rmse_per_step.png", "samples.png"}
    assert ("reconstructions.png" in names) == (model != "simclr")


def test_the_decoded_sequences_are_the_samples_of_the_report(tmp_path: Path) -> None:
    register()
    trainer = Trainer(make_plan(compose(overrides("rssm", tmp_path), with_hydra=True)))
    seen: list[Tensor] = []
    trainer.program.apply_eval = lambda name, states, *_: seen.append(states) or {}  # type: ignore[method-assign]
    assert trainer._decode() == {}
    monitored = Trainer(make_plan(compose(overrides("rssm", tmp_path), with_hydra=True)))
    np.testing.assert_array_equal(seen[0].numpy(), monitored._probe().samples.frames[:, :3])


@pytest.mark.parametrize("executor", ["vmap", "loop"])
@pytest.mark.parametrize("model", ["rssm", "vicreg"])
def test_packed_jobs_decode_what_each_decodes_alone(
    model: str, executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    drawn: list[dict[str, np.ndarray]] = []
    monkeypatch.setattr("jepa.results.run_plots.reconstructions_figure", lambda frames, decoded: drawn.append(decoded))
    plans = [
        make_plan(compose(overrides(model, tmp_path / f"{seed}", f"seed={seed}"), with_hydra=True)) for seed in (0, 1)
    ]
    run_pack(plans, PackOptions(None, executor, False))
    packed, drawn[:] = list(drawn), []
    for seed in (0, 1):
        run(compose(overrides(model, tmp_path / f"alone{seed}", f"seed={seed}"), with_hydra=True))
    assert len(packed) == len(drawn) == 2
    for ours, alone in zip(packed, drawn, strict=True):
        assert ours.keys() == alone.keys() and len(ours) == 2
        for name in ours:
            assert ours[name].shape == (4, 3, 1, 28, 28)
            np.testing.assert_allclose(ours[name], alone[name], rtol=1e-3, atol=1e-3)


def test_a_decoder_that_fails_costs_its_picture_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register()

    def fail(*_: object) -> dict[str, Tensor]:
        raise RuntimeError("no image")

    monkeypatch.setattr(RSSM, "reconstructions", fail)
    run(compose(overrides("rssm", tmp_path), with_hydra=True))
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "finished"
    names = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert names == {"embedding", "losses", "rmse_per_step", "samples"}
    assert "plots/reconstructions.png could not be drawn: RuntimeError: no image" in (tmp_path / "run.log").read_text()
