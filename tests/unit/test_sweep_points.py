"""Axes, zipped lists, points and the command line; values in override syntax; the names of sweeps."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa.errors import ConfigError
from jepa.sweep.points import build_grid, grid_size, label, override_value, parse_arguments
from jepa.sweep.spec import SweepConfig, sweep_name

NOTHING: dict[str, Any] = {
    "name": None,
    "axes": {},
    "zipped": [],
    "points": [],
    "overrides": {},
    "max_jobs": 500,
    "retries": 2,
    "n_trials": None,
    "space": {},
    "sampler": "random",
    "sampler_options": {},
    "sampler_seed": 0,
    "pruner": "none",
    "pruner_options": {},
    "storage": None,
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
        return sweep_name(SweepConfig(**{**NOTHING, **changes}), file, parse_arguments(arguments))

    assert name("fixed_uniform", "seed=0") == "fixed_uniform"
    assert name(None, "seed=0,1", "model=a") == name(None, "seed=0,1,2", "model=a"), "a longer axis"
    assert name(None, "seed=0,1", "model=a", "device=cpu") == name(None, "seed=0,1", "model=a"), "not science"
    assert name(None, "seed=0,1", "model=a") != name(None, "seed=0,1", "model=b")
    assert name(None, "seed=0,1", name="mine") == "mine"
    searched = name("search", "dataset.static_noise=1.25", "model=vicreg", "device=cpu", n_trials=3)
    assert searched == "search-model=vicreg-static_noise=1.25"
    with pytest.raises(ConfigError, match=r"sweep\.name"):
        SweepConfig(**{**NOTHING, "name": "../elsewhere"})
