"""The yaml files of conf/model: each makes what its name says, with the published values; every key is explained."""

from pathlib import Path

import pytest
import torch
from method_samples import batch

from jepa.config.check import check_open, references
from jepa.config.compose import compose, resolved
from jepa.errors import ConfigError
from jepa.methods.base import Method
from jepa.prepare import BASES, make_method
from jepa.types import Batch, DataShapes

FOLDER = Path(__file__).parents[2] / "conf" / "model"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))
MODELS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PARTS = [name.removesuffix(".yaml") for name in FILES if "/" in name]
SMALL = {
    "encoder/menet5": ["model.encoder.width_factor=1", "model.encoder.embedding_size=8"],
    "encoder/resnet18": ["model.encoder.base_width=2"],
    "encoder/pixels": ["model.encoder.mlp=8"],
    "predictor/mlp": ["model.predictor.hidden=8-8"],
}


def shapes(num_steps=5, channels=1):
    return DataShapes(num_steps=num_steps, channels=channels, image_size=28, num_dots=3, action_size=2)


def build(*overrides, data=None):
    cfg = compose(list(overrides))
    plain, referred = resolved(cfg), references(cfg, "model")
    check_open(plain, BASES, referred)
    torch.manual_seed(0)
    return cfg, make_method(plain, referred, data or shapes())


def check_trains_and_rolls_out(objective, data):
    source = torch.Generator().manual_seed(0)
    size = data.states.shape[1]
    if objective.trainable:
        losses = objective(data, objective.draw_latent_noise(source, size, torch.device("cpu")))
        assert losses.total.isfinite() and losses.total.requires_grad and losses.terms
    noise = objective.draw_rollout_noise(source, size, torch.device("cpu"))
    rollout = objective.eval().rollout(data.states, data.actions, noise)
    assert rollout.encodings.shape[:2] == data.states.shape[:2]
    assert rollout.predictions.shape == (len(data.actions), *rollout.encodings.shape[1:])


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name):
    cfg, objective = build(f"model={name}", *SMALL["encoder/menet5"])
    assert isinstance(objective, Method) and objective.trainable == (name not in ("random", "identity"))
    check_trains_and_rolls_out(objective, batch())
    adam = name in ("rssm", "supervised")
    assert cfg.optimizer._target_.rpartition(".")[2] == ("Adam" if adam else "LARS")


@pytest.mark.parametrize("name", MODELS)
def test_an_optimizer_named_on_the_command_line_wins(name):
    assert compose([f"model={name}", "optimizer=adamw"]).optimizer._target_.endswith("AdamW")


@pytest.mark.parametrize("part", [part for part in PARTS if not part.startswith(("decoder", "term"))])
def test_every_part(part):
    group, option = part.split("/")
    small = SMALL.get(part, []) + ([] if group == "encoder" else SMALL["encoder/menet5"])
    _, objective = build("model=simclr", f"model/{group}={option}", *small)
    check_trains_and_rolls_out(objective, batch())


def test_three_channels():
    _, objective = build("model=vicreg", *SMALL["encoder/menet5"], data=shapes(channels=3))
    one = batch()
    check_trains_and_rolls_out(objective, Batch(one.states.expand(-1, -1, 3, -1, -1), one.actions, one.locations))


def test_defaults_are_the_best_published_values_for_clean_data():
    vicreg, simclr, idm = (compose([f"model={name}"]).model for name in ("vicreg", "simclr", "idm"))
    assert (vicreg.sim_coeff, vicreg.std_coeff, vicreg.cov_coeff) == (20.55300175049592, 9.13777665077083, 1.0)
    off = ("enc_std", "enc_cov", "action", "decoding")
    assert not any(vicreg[f"{name}_coeff"] for name in off) and not vicreg.repr_loss_after_projector
    assert vicreg.skip_first_step_variance_covariance and vicreg.action_input == idm.action_input == "faithful"
    assert (simclr.temperature, simclr.normalize_embeddings) == (8.0, True)
    assert idm.action_coeff == 0.042076210578192136
    for model in (vicreg, simclr, idm):
        assert (model.encoder.width_factor, model.encoder.embedding_size, model.encoder.mlp) == (2, 512, "")
        assert model.predictor.num_layers == 1


def test_the_published_variations_can_be_said():
    overrides = ["width_factor=5", "embedding_size=2", "mlp=128"]
    _, objective = build(
        "model=supervised", *(f"model.encoder.{text}" for text in overrides), "model.predictor.num_layers=4"
    )
    assert objective.encoder.fc.out_features == 2 and objective.encoder.embedding_size == 128
    assert objective.predictor.rnn.num_layers == 4 and objective.location_head.head.in_features == 128


def test_l_rec_needs_no_more_than_its_coefficient():
    _, objective = build(
        "model=vicreg", "model.decoding_coeff=1", "model.decoder.width_factor=1", *SMALL["encoder/menet5"]
    )
    assert "reconstruction" in objective(batch()).terms


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.encoder.embedding_size=0", r"model\.encoder\.embedding_size=0: must be at least 1"),
        ("model.encoder.mlp=12-a", r"model\.encoder\.mlp='12-a'"),
        ("model.predictor.num_layers=x", r"model\.predictor\.num_layers='x': must be a whole number"),
        ("model.sim_coeff=-2", r"model\.sim_coeff=-2: must be at least 0"),
        ("model.cov_coeff=-1", r"model\.cov_coeff=-1: must be at least 0"),
        ("model.terms=3", r"model\.terms=3: must hold components by name"),
        ("model.terms.variance=2", r"model\.terms\.variance=2: must name a class in _target_"),
        ("+model.terms.v={_target_:jepa.losses.variance.Variance}", r"model\.terms\.v\.coeff: is missing"),
        ("dataset.distractors=x", r"dataset\.distractors='x': must hold components by name"),
        ("+dataset.distractors.foo={coeff:1}", r"dataset\.distractors\.foo=.*must name a class in _target_"),
        ("model.terms.variance.space=pixels", r"model\.terms\.variance\.space='pixels'.*embedding, projection"),
        ("model.terms.variance.coeff=3", r"model\.std_coeff: no part of model takes its value.*set model\.std_coeff"),
    ],
)
def test_errors_name_the_key(override, message):
    with pytest.raises(ConfigError, match=message):
        build("model=vicreg", *override.split())


@pytest.mark.parametrize("name", FILES)
def test_every_key_has_a_comment(name):
    text = (FOLDER / name).read_text()
    assert text.startswith("# ")
    for line in text.splitlines():
        key = line.strip().split(":")[0]
        if line and not line.startswith("#") and key not in ("defaults", "- _self_", "_target_"):
            assert "  # " in line, line
