"""``sweep.given``: values on the command line that choose a sweep's points; templates in points; the study's sweeps."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from jepa.config.compose import compose, config_hash, register, resolved
from jepa.config.search_path import group_options, sweeps_dir
from jepa.errors import ConfigError
from jepa.results.axes import varying_axes
from jepa.results.records import Run, flatten
from jepa.sweep.arguments import parse_arguments
from jepa.sweep.points import build_grid, grid_size

SPEC: dict[str, Any] = {
    "given": {"model": "selects", "dataset.noise": "selects", "dataset.source": "replaces"},
    "points": [
        {"model": ["a", "b"], "dataset.noise": [0.0, 0.5], "reproduce": "kind/{dataset.noise}/{model}"},
        {"model": "c", "dataset.static_noise": 1.0, "dataset.source": "cifar10"},
    ],
    "axes": {"seed": [0, 1]},
}


def points(*arguments: str, spec: dict[str, Any] = SPEC) -> list[dict[str, str]]:
    told = parse_arguments(arguments)
    grid = build_grid(spec, told)
    assert len(grid.points) <= grid_size(spec, told)
    return [{**grid.fixed, **point} for point in grid.points]


def study(name: str, *arguments: str) -> list[dict[str, str]]:
    spec = OmegaConf.to_container(OmegaConf.load(sweeps_dir() / f"{name}.yaml"))
    assert isinstance(spec, dict)
    return points(*arguments, spec={str(key): value for key, value in spec.items()})


def test_a_template_takes_the_points_own_values() -> None:
    named = [point["reproduce"] for point in points("seed=0") if "reproduce" in point]
    assert named == ["kind/0/a", "kind/0.5/a", "kind/0/b", "kind/0.5/b"]
    assert len(points()) == 10


def test_a_value_chooses_points() -> None:
    assert {point["model"] for point in points("model=a,c")} == {"a", "c"} and len(points("model=a,c")) == 6
    found = points("model=b", "dataset.noise=0.50", "seed=5", "threads=1")
    assert found == [
        {"model": "b", "dataset.noise": "0.5", "reproduce": "kind/0.5/b", "seed": "5", "threads": "1"}
    ], "points without the key are not chosen"


def test_a_key_of_an_axis_is_not_given() -> None:
    spec = {"given": {"model": "selects"}, "axes": {"model": ["a", "b"]}}
    with pytest.raises(ConfigError, match=r"^sweep\.given\.model: no point has this key"):
        points("model=a", spec=spec)
    assert [point["model"] for point in points("model=c", spec={"axes": spec["axes"]})] == ["c"]


CONTENT = {name: set(OmegaConf.load(sweeps_dir() / f"{name}.yaml")) for name in group_options("sweep")}
GRIDS = [name for name, keys in CONTENT.items() if keys & {"axes", "points"}]


@pytest.mark.parametrize("name", GRIDS)
def test_a_model_on_the_command_line_is_never_lost(name: str) -> None:
    model = "supervised" if name == "paper_rates" else "idm"  # it has no inverse dynamics, whose rate is published
    assert {point["model"] for point in study(name, f"model={model}")} == {model}


def test_a_value_replaces_where_a_point_has_the_key() -> None:
    found = points("dataset.source=photos", "seed=0")
    assert [point.get("dataset.source") for point in found] == [None, None, None, None, "photos"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=d"], "model=d: the sweep has no such point; it has a, b, c"),
        (["dataset.noise=0.51"], "did you mean '0.5'?"),
        (["model=c", "dataset.noise=0.5"], "no point with all of these values"),
    ],
)
def test_a_value_that_no_point_has_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        points(*arguments)
    assert words in str(caught.value)


def test_bad_spellings_in_the_file_are_named() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.given\.model='select'.*selects"):
        points(spec={**SPEC, "given": {"model": "select"}})
    with pytest.raises(ConfigError, match=r"reproduce=x/\{noise\}: the point has no key noise"):
        points(spec={"points": [{"model": "a", "reproduce": "x/{noise}"}]})


# --- the study's sweeps ---------------------------------------------------------------------------------------------


def test_figure3_has_every_published_cell_with_its_own_setting() -> None:
    found = study("figure3")
    presets = {point["reproduce"] for point in found if "reproduce" in point}
    published = {
        name
        for name in group_options("reproduce")
        if name.split("/")[2] != "supervised" and float(name.split("/")[1]) <= 3
    }
    assert presets == published and len(found) == 504
    for point in found:
        if "reproduce" in point:
            kind, strength, method = point["reproduce"].split("/")
            key = "dataset.noise" if kind.startswith("changing") else "dataset.static_noise"
            assert (point["dataset"], point["model"]) == (f"single_{kind}", method)
            assert float(point[key]) == float(strength)


def test_figure3_runs_parts() -> None:
    assert len(study("figure3", "model=vicreg,idm", "seed=0")) == 2 * 28
    assert len(study("figure3", "dataset=single_fixed_uniform", "dataset.static_noise=1.25", "seed=0")) == 6
    sources = {point.get("dataset.structured_source") for point in study("figure3", "dataset.structured_source=photos")}
    assert sources == {None, "photos"}


@pytest.mark.parametrize("name", ["figure3", "table1", "untuned"])
def test_points_of_the_study_compose_and_differ_in_their_hash(name: str) -> None:
    register()
    sample = study(name, "seed=0")[::40] + study(name, "seed=1")[-1:]
    hashes = [config_hash(compose([f"{k}={v}" for k, v in point.items()], with_hydra=True)) for point in sample]
    assert len(set(hashes)) == len(sample)


def test_untuned_keeps_the_setting_and_changes_the_strength() -> None:
    register()
    [point] = study("untuned", "model=vicreg", "dataset.static_noise=3", "seed=0")
    cfg = resolved(compose([f"{key}={value}" for key, value in point.items()], with_hydra=True))
    tuned = resolved(compose(["reproduce=fixed_uniform/0.5/vicreg"], with_hydra=True))
    assert cfg["dataset"]["static_noise"] == 3.0
    assert cfg["model"] == tuned["model"] and cfg["optimizer"] == tuned["optimizer"]


def test_method_and_noise_of_a_preset_are_columns() -> None:
    register()
    runs = []
    for preset in ("fixed_uniform/1.25/vicreg", "fixed_uniform/0.5/vicreg", "fixed_uniform/0.5/idm"):
        cfg = resolved(compose([f"reproduce={preset}"], with_hydra=True))
        choices = cfg.pop("choices")
        runs.append(Run(f"x/{preset}", "finished", flatten(cfg), choices, overrides=(f"reproduce={preset}",)))
    assert varying_axes(runs) == ["model", "dataset.static_noise"]
