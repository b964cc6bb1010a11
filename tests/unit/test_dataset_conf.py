"""The yaml files of conf/dataset: each makes the data set that its name says; every key is explained."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from jepa.data.moving_dots import MovingDots
from jepa.data.textures.photos import Photos
from jepa.data.textures.uniform import Uniform
from jepa.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "conf" / "dataset"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def composed(name: str, *overrides: str) -> MovingDots:
    with initialize_config_dir(str(FOLDER)):
        arguments = OmegaConf.to_container(compose(name, overrides=list(overrides)))
    assert arguments.pop("_target_") == "jepa.data.moving_dots.MovingDots" and arguments.pop("eval") == {}
    return MovingDots(**arguments)


def test_the_files_that_the_readme_names_are_there() -> None:
    kinds = {f"single_{motion}_{texture}" for motion in ("changing", "fixed") for texture in ("uniform", "structured")}
    assert {"single", "multiple"} | kinds <= set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("single", "multiple"))])
def test_the_files_of_the_study_make_what_their_names_say(name: str) -> None:
    dataset = composed(name, "structured_source=photos")
    assert isinstance(dataset, MovingDots)
    assert dataset.num_dots == dataset.channels == (3 if name.startswith("multiple") else 1)
    assert isinstance(dataset.overlays.texture, Photos if "structured" in name else Uniform)
    assert (dataset.noise > 0, dataset.static_noise > 0) == ("changing" in name, "fixed" in name)
    assert (dataset.num_steps, dataset.dot_std, dataset.size, dataset.normalize) == (17, 1.3, 10_000, True)


@pytest.mark.parametrize("name", [name for name in NAMES if "structured" in name])
def test_the_source_of_natural_images_is_never_chosen_silently(name: str) -> None:
    with pytest.raises(ConfigError, match=r"choose dataset\.structured_source=cifar10 .*photos"):
        composed(name)


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_deltas_and_every_key_has_a_comment(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    for line in text.splitlines():
        key = line.split(":")[0]
        if line and not line.startswith((" ", "#")) and key != "defaults":
            assert "  # " in line, line
    assert text.startswith("# ")
    if name != "single":
        single = OmegaConf.load(FOLDER / "single.yaml")
        for key, value in OmegaConf.create(text).items():
            assert key not in single or value != single[key], f"{key} is as in single.yaml"
