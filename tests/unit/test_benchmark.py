"""The benchmark: its conditions are frozen, and any method can take part."""

from __future__ import annotations

from typing import Any

import pytest

from jepa.config.compose import compose, config_hash, resolved
from jepa.config.search_path import group_options
from jepa.errors import ConfigError
from jepa.sweep.arguments import Arguments
from jepa.sweep.space import build_space

UNIFORM = {"noise": 0.0, "static_noise": 0.0, "structured_noise": False, "distractors": {}}
# Version 1. A change of one of these is a new version: the names in conf/benchmark then begin with v2.
CONDITIONS: dict[str, dict[str, Any]] = {
    "clean": {},
    "changing_100": {"noise": 1.0},
    "fixed_050": {"static_noise": 0.5},
    "fixed_125": {"static_noise": 1.25},
    "fixed_200": {"static_noise": 2.0},
    "changing_photos_100": {"noise": 1.0, "structured_noise": True, "structured_source": "photos"},
    "fixed_photos_100": {"static_noise": 1.0, "structured_noise": True, "structured_source": "photos"},
    "every_4": {"distractors": {"redrawn": {"coeff": 1.0, "every": 4}}},
    "ar1_090": {"distractors": {"ar1": {"coeff": 1.0, "correlation": 0.9}}},
    "backgrounds_16": {"distractors": {"finite": {"coeff": 1.0, "num_backgrounds": 16, "world_seed": 0}}},
    "tag_4": {"distractors": {"tag": {"coeff": 1.0, "size": 4}}},
}


def plain(*words: str) -> dict[str, Any]:
    return resolved(compose(list(words), with_hydra=True))


def hash_of(*words: str) -> str:
    return config_hash(compose(list(words), with_hydra=True))


def test_the_conditions_are_those_of_version_1() -> None:
    assert sorted(CONDITIONS) == group_options("benchmark")


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_sets_all_noise_and_its_name(name: str) -> None:
    cfg = plain(f"benchmark={name}")
    assert cfg["benchmark"] == f"v1/{name}"
    for key, value in (UNIFORM | CONDITIONS[name]).items():
        found = cfg["dataset"][key]
        if key == "distractors":
            found = {k: {n: v for n, v in entry.items() if n != "_target_"} for k, entry in found.items()}
        assert found == value, key
    assert ("finite" in cfg["probe"]["targets"]) == (name == "backgrounds_16")


def test_the_name_of_a_condition_does_not_enter_the_hash() -> None:
    spelt = hash_of("dataset.static_noise=1.25", "model=idm")
    assert hash_of("benchmark=fixed_125", "model=idm") == spelt
    assert hash_of("benchmark=fixed_050", "model=idm") != spelt


def test_models_without_an_entry_search_the_dimensions_of_other() -> None:
    spaces = {
        "any": {"seed": [0, 1]},
        "other": {"optimizer.base_lr": {"low": 4.0, "high": 64.0, "log": True}},
        "rssm": {"optimizer.base_lr": {"low": 1e-3, "high": 1e-2, "log": True}},
    }
    nothing = Arguments({}, [], {}, {})
    assert build_space(spaces, "mine", nothing)["optimizer.base_lr"].low == 4.0  # type: ignore[attr-defined]
    assert build_space(spaces, "rssm", nothing)["optimizer.base_lr"].low == 1e-3  # type: ignore[attr-defined]
    del spaces["other"]
    with pytest.raises(ConfigError, match="for model='mine': must be one of rssm"):
        build_space(spaces, "mine", nothing)
