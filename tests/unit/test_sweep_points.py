"""Axes, zipped lists, points and the command line; values in override syntax; the names of sweeps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa.errors import ConfigError
from jepa.sweep.arguments import parse_arguments
from jepa.sweep.points import build_grid, grid_size, label, override_value
from jepa.sweep.spec import SweepConfig, sweep_names

NOTHING: dict[str, Any] = {
    "name": None,
    "axes": {},
    "zipped": [],
    "points": [],
    "overrides": {},
    "leave_out": None,
    "given": {},
    "max_jobs": 500,
    "retries": 2,
    "n_trials": None,
    "space": {},
    "try_preset": False,
    "preset_margin": 0.0,
    "final": {},
    "sampler": "random",
    "sampler_options": {},
    "sampler_seed": 0,
    "pruner": "none",
    "pruner_options": {},
    "storage": None,
    "auto": [],
}


def points(spec: dict[str, Any], *arguments: str) -> list[dict[str, str]]:
    told = parse_arguments(arguments)
    grid = build_grid(spec, told)
    assert len(grid.points) <= grid_size(spec, told)
    return [{**grid.fixed, **point} for point in grid.points]


def test_axes_are_a_product_in_the_order_they_are_written() -> None:
    found = points({"axes": {"model": ["a", "b"], "seed": [0, 1]}})
    assert found == [{"model": m, "seed": s} for m in ("a", "b") for s in ("0", "1")]


def test_zipped_lists_advance_together_and_several_groups_multiply() -> None:
    found = points({"zipped": [{"x": [1, 2], "y": [3, 4]}, {"z": [5, 6]}]})
    assert found == [{"x": x, "y": y, "z": z} for x, y in (("1", "3"), ("2", "4")) for z in ("5", "6")]


def test_points_are_joined_and_a_list_in_a_point_stands_for_each_value() -> None:
    spec = {"points": [{"model": ["a", "b"], "noise": [0, 1]}, {"model": "c", "noise": 5}], "axes": {"seed": [7]}}
    found = points(spec)
    assert [(p["model"], p["noise"], p["seed"]) for p in found] == [
        ("a", "0", "7"),
        ("a", "1", "7"),
        ("b", "0", "7"),
        ("b", "1", "7"),
        ("c", "5", "7"),
    ]
    assert grid_size(spec, parse_arguments([])) == 5


def test_the_command_line_replaces_a_key_wherever_the_file_has_it() -> None:
    spec = {
        "axes": {"seed": [0, 1], "model": ["a", "b"]},
        "zipped": [{"x": [1, 2], "y": [3, 4]}],
        "points": [{"p": 1, "q": 1}, {"p": 2, "q": 1}],
        "overrides": {"trainer": "paper", "device": "cpu"},
    }
    found = points(spec, "model=c", "seed=5,6", "y=9", "p=0", "trainer=quick")
    assert {point["model"] for point in found} == {"c"} and {point["trainer"] for point in found} == {"quick"}
    assert {point["seed"] for point in found} == {"5", "6"} and {point["device"] for point in found} == {"cpu"}
    assert {(point["x"], point["y"]) for point in found} == {("1", "9"), ("2", "9")}
    assert len(found) == 4, "points that became equal are one"


def test_a_string_is_a_hydra_sweep_and_nested_keys_are_as_good_as_dotted_ones() -> None:
    assert [p["x"] for p in points({"axes": {"x": "range(0,1.5,0.5)"}})] == ["0.0", "0.5", "1.0"]
    assert points({"axes": {"dataset": {"noise": [1]}}}) == points({"axes": {"dataset.noise": [1]}})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"axes": {"x": []}}, "without values"),
        ({"axes": {"x": 3}}, "list of values"),
        ({"axes": [1]}, "mapping"),
        ({"zipped": [{"x": [1], "y": [1, 2]}]}, "one length"),
        ({"points": [3]}, "mapping"),
    ],
)
def test_what_is_no_grid_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_grid(spec, parse_arguments([]))


def test_control_keys_and_the_sweep_file_are_no_overrides_of_a_job() -> None:
    found = points(
        {}, "+sweep=x", "sweep.name=y", "+sweep.axes.seed=[1]", "dry_run=true", "reuse=[a]", "seed=3", "~foo"
    )
    assert found == [{"seed": "3"}]
    assert parse_arguments(["~foo", "~sweep.axes"]).deletions == ["~foo"]


def test_a_label_shows_what_differs() -> None:
    grid = build_grid({"axes": {"dataset.noise": [0, 1], "trainer": ["quick"]}}, parse_arguments([]))
    assert [label(point, grid.varied) for point in grid.points] == ["noise=0", "noise=1"]


def test_a_label_tells_keys_with_the_same_ending_apart() -> None:
    point = {"model.terms.action.coeff": "1", "model.terms.variance.coeff": "2", "model/encoder": "mlp", "seed": "3"}
    assert label(point, list(point)) == "action.coeff=1 variance.coeff=2 encoder=mlp seed=3"


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text("abcXYZ01 =,.'\\\"${}[]()/-:~"),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )
)
def test_a_value_survives_the_command_line(value: Any) -> None:
    parsed = OverridesParser.create().parse_override(f"key={override_value(value)}")
    assert not parsed.is_sweep_override()
    assert parsed.value() == value and type(parsed.value()) is type(value)


def test_a_sweep_finds_its_folder_again() -> None:
    def name(file: str | None, *arguments: str, **changes: Any) -> str:
        return sweep_names(SweepConfig(**{**NOTHING, **changes}), file, parse_arguments(arguments))[0]

    assert name("fixed_uniform", "seed=0") == "fixed_uniform"
    assert name(None, "seed=0,1", "model=a") == name(None, "seed=0,1,2", "model=a"), "a longer axis"
    assert name(None, "seed=0,1", "model=a", "device=cpu") == name(None, "seed=0,1", "model=a"), "not science"
    assert name(None, "seed=0,1", "model=a") != name(None, "seed=0,1", "model=b")
    assert name(None, "seed=0,1", name="mine") == "mine"
    searched = name("search", "dataset.static_noise=1.25", "model=vicreg", "device=cpu", n_trials=3)
    assert searched == "search-vicreg-static_noise_1.25"
    assert name(None, "seed=0,1", "dataset.noise=1") == name(None, "seed=0,1", "dataset.noise=1.0"), "one number"
    assert name(None, "seed=0,1", "dataset.noise=1") != name(None, "seed=0,1", "dataset.noise=2")


def test_a_search_has_a_short_name_that_can_be_typed_and_its_long_one_is_still_known() -> None:
    searched = SweepConfig(**{**NOTHING, "n_trials": 3})
    many = [f"dataset.{key}=0.123456789" for key in ("noise", "static_noise", "static_noise_speed", "dot_std")]
    names = sweep_names(searched, "search", parse_arguments(["model=vicreg", *many]))
    assert len(names[0]) <= 60 and re.fullmatch(r"search-vicreg-[\w.-]+-[0-9a-f]{6}", names[0]), names
    assert names[1].startswith("search-model=vicreg-dot_std=0.123456789-noise=")
    apart = ["model.encoder.width_factor=1", "model.decoder.width_factor=2"]
    turned = ["model.encoder.width_factor=2", "model.decoder.width_factor=1"]
    one, other = (sweep_names(searched, None, parse_arguments(told))[0] for told in (apart, turned))
    assert one != other
    assert sweep_names(searched, "search", parse_arguments(["model=vicreg", "dataset.static_noise=1.25"])) == [
        "search-vicreg-static_noise_1.25",
        "search-model=vicreg-static_noise=1.25",
    ]


def test_a_misspelt_name_is_no_name() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.name"):
        SweepConfig(**{**NOTHING, "name": "../elsewhere"})


# --- what one sweep cannot hold ------------------------------------------------------------------------------------


def test_the_documented_file_runs_every_job_it_describes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    [example] = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if "zipped:" in block]
    found = points(yaml.safe_load(example))
    assert len(found) == 30 and "= 30 jobs" in text
    assert {point["model"] for point in found} == {"vicreg", "rssm", "idm"}


@pytest.mark.parametrize(
    ("spec", "arguments", "words"),
    [
        ({"axes": {"x": [1, 2]}, "points": [{"x": 3}, {"y": 1}]}, [], ["x: ", "sweep.axes", "sweep.points"]),
        ({"axes": {"x": [1, 2]}, "zipped": [{"x": [3, 4], "y": [5, 6]}]}, [], ["x: ", "sweep.axes", "sweep.zipped"]),
        ({"zipped": [{"x": [1], "y": [2]}, {"x": [3], "z": [4]}]}, [], ["x: ", "sweep.zipped, twice"]),
        ({"overrides": {"x": 1}, "points": [{"x": 2}]}, [], ["x: ", "sweep.overrides", "sweep.points"]),
        ({"axes": {"x.y": [1]}, "points": [{"x": 3}]}, [], ["x.y: ", "sweep.axes", "x by sweep.points"]),
        ({"axes": {"x": {"y": [1]}, "x.y": [2]}}, [], ["x.y: given twice"]),
        ({}, ["seed=1,2", "seed=3"], ["seed: given twice", "seed=1,2", "seed=3"]),
        ({"axes": {"threads": [1, 2]}}, [], ["threads=1,2: says how"]),
        ({}, ["threads=1,2"], ["threads=1,2: says how"]),
        ({"points": [{"x": 1, "device": "cpu"}, {"x": 1, "device": "cuda"}]}, [], ["device=cpu,cuda: says how"]),
        ({"axes": {"hydra/launcher": ["basic", "joblib"]}}, [], ["sweep.axes: hydra/launcher", "one launcher"]),
        ({"axes": {"folder": ["a", "b"]}}, [], ["sweep.axes: folder", "command line"]),
        ({"points": [{"dry_run": True}]}, [], ["sweep.points: dry_run", "command line"]),
        ({"overrides": {"sweep.name": "x"}}, [], ["sweep.overrides: sweep.name", "command line"]),
        ({}, ["dry_run=true,false"], ["dry_run=true,false: is no axis"]),
        ({}, ["reuse=a,b"], ["reuse=a,b", "reuse=[a,b]"]),
        ({}, ["+sweep=quick,seeds"], ["+sweep=quick,seeds: is no axis"]),
        ({}, ["sweep.n_trials=2,4"], ["sweep.n_trials=2,4: is no axis"]),
        ({}, ["folder=x"], ["folder=x", "sweep.name"]),
        ({}, ["seed=range(0,1000000000000)"], ["seed=range(0,1000000000000): 1000000000000 values"]),
        ({}, ["dataset.noise=range(0,1,1e-9)"], ["1000000000 values"]),
        ({"axes": {"x": "range(0,1000000000000)"}}, [], ["1000000000000 values"]),
        ({}, ["seed=range(0,5,0)"], ["range(start, stop, step)"]),
        ({}, ["seed=range(5,0)"], ["seed", "without values"]),
    ],
)
def test_what_would_lose_jobs_is_refused(spec: dict[str, Any], arguments: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_grid(spec, parse_arguments(arguments))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_group_and_keys_of_its_options_may_stand_in_different_blocks() -> None:
    spec = {"axes": {"optimizer": ["adam", "adamw"]}, "points": [{"optimizer.base_lr": [0.1, 0.2]}]}
    assert len(points(spec)) == 4
    carried_out = {"points": [{"model": "vicreg", "device": "cpu"}, {"model": "rssm", "device": "cuda"}]}
    assert len(points(carried_out)) == 2, "jobs that differ otherwise may be carried out differently"


def test_a_grid_is_counted_before_it_is_made() -> None:
    spec = {"axes": {key: list(range(1000)) for key in "abcdefgh"}}
    assert grid_size(spec, parse_arguments(["x=range(0,1000)"])) == 10**27
