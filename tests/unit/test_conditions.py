"""``dataset.eval``: which conditions it holds, what they may change, and what is refused."""

from __future__ import annotations

import pytest

from jepa.config.arguments import prepare
from jepa.config.compose import compose, config_hash, register
from jepa.config.conditions import condition_nodes
from jepa.config.search_path import group_options
from jepa.data.stream import Stream
from jepa.errors import ConfigError
from jepa.prepare import make_plan
from jepa.training.plan import Plan

CONDITIONS = group_options("dataset/condition")


def plan(*words: str) -> Plan:
    register()
    return make_plan(compose(prepare(list(words))))


def test_a_condition_replaces_whole_keys_and_may_have_no_name() -> None:
    base = {"_target_": "x", "noise": 1, "static_noise": 2, "distractors": {"tag": {"coeff": 1}}}
    nodes = condition_nodes({**base, "eval": {"noise": 0, "clean": {"static_noise": 0, "distractors": {}}}})
    assert nodes == {"eval": {**base, "noise": 0}, "clean": {**base, "static_noise": 0, "distractors": {}}}
    assert condition_nodes(base) == condition_nodes({**base, "eval": {}}) == {}


def test_without_conditions_the_hash_is_as_before_and_with_one_it_is_another() -> None:
    register()
    known = config_hash(compose([]))
    assert config_hash(compose(["dataset.eval={}"])) == config_hash(compose(["~dataset.eval"])) == known
    assert config_hash(compose(["++dataset.eval.noise=1"])) != config_hash(compose([]))


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition_trains_and_judges_under_the_same_noise(name: str) -> None:
    """A run under strong noise of every kind is probed under the condition; a run trained under it sees the same."""
    if "photos" in name:
        pytest.importorskip("skimage")
        pytest.importorskip("sklearn")
    small = ["dataset.num_steps=5", "dataset.batch_size=4"]
    strong = ["dataset.noise=3", "dataset.static_noise=3", "+dataset/distractor@dataset.distractors.drift=drift"]
    judged = plan(*small, *strong, f"+dataset/condition@dataset.eval.other={name}").conditions["other"]
    trained = plan(*small, f"+dataset/condition@dataset={name}").dataset
    found, expected = (Stream(world, 0, "probe_judge", None, "cpu").next().states for world in (judged, trained))
    assert found.equal(expected)
    clean = plan(*small).dataset
    assert found.equal(Stream(clean, 0, "probe_judge", None, "cpu").next().states) is (name == "clean")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset.eval.static_nois=0"], r"eval\.static_nois: no such key; did you mean 'dataset\.eval\.static_noise'"),
        (["dataset.eval.clean.nois=0"], r"clean\.nois: no such key; did you mean 'dataset\.eval\.clean\.noise'"),
        (["dataset.eval.noise=-1"], r"dataset\.eval\.noise=-1: must be at least 0"),
        (["dataset.eval.dark.noise=-1"], r"dataset\.eval\.dark\.noise=-1: must be at least 0"),
        (["dataset.eval.other.num_steps=3"], r"dataset\.eval\.other\.num_steps: cannot differ from training"),
        (["dataset.eval=3"], r"dataset\.eval=3: must hold keys of the data set"),
        (["++dataset.eval={a-b: {noise: 0}}"], r"dataset\.eval\.a-b: a name must be a word"),
        (
            ["+dataset/condition@dataset.eval.t=tag_4", "dataset.eval.t.distractors.tag.size=0"],
            r"dataset\.eval\.t\.distractors\.tag\.size=0: must be at least 1",
        ),
        (
            ["dataset.eval.x.distractors={y: {_target_: jepa.data.textures.photos.Photos}}"],
            r"dataset\.eval\.x\.distractors\.y\._target_=.* must be a class derived from .*\.Distractor",
        ),
    ],
)
def test_what_cannot_be_a_condition_is_refused_by_its_full_name(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(*words)
