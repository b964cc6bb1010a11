"""An ablation: each point of a grid also without each of its loss terms, one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from jepa.config.check import references
from jepa.errors import ConfigError
from jepa.sweep.arguments import Point
from jepa.sweep.points import Grid

LEFT_OUT = "left_out"  # the key that names the term that a job does without
COLLECTIONS = ("model.terms",)  # what ``sweep.leave_out`` may name


def with_one_left_out(grid: Grid, collection: str, compose: Callable[[Point], DictConfig]) -> Grid:
    """``grid`` with each of its points in full, then without each term that has a weight.

    Args:
        grid: all points of the sweep.
        collection: one of COLLECTIONS.
        compose: the configuration of a point.

    Raises:
        ConfigError: a point has fewer than two terms with a weight, or two of them share a coefficient.
    """
    points: list[Point] = []
    implied: set[str] = set(grid.implied)
    for point in grid.points:
        coefficients = coefficients_of(compose(point), collection)
        points.append({LEFT_OUT: "null", **point})
        points += [{LEFT_OUT: name, **point, key: "0"} for name, key in coefficients.items()]
        implied |= set(coefficients.values())
    given = {key for point in grid.points for key in point}
    return dataclasses.replace(grid, points=points, implied=frozenset(implied - given))


def coefficients_of(config: DictConfig, collection: str) -> dict[str, str]:
    """For each entry of ``collection`` that has a weight: the key that sets its coefficient.

    Where the coefficient refers to another key (``${model.sim_coeff}``), this is the other key.

    Raises:
        ConfigError: fewer than two entries have a weight, or two of them have one coefficient.
    """
    section = collection.partition(".")[0]
    model = f"{section}={OmegaConf.select(config, f'hydra.runtime.choices.{section}')}"
    entries = OmegaConf.to_container(OmegaConf.select(config, collection) or OmegaConf.create({}), resolve=True)
    assert isinstance(entries, Mapping)
    terms = {str(name): entry for name, entry in entries.items() if isinstance(entry, Mapping)}
    weighted = [name for name, term in terms.items() if term.get("coeff", 0) != 0]  # null is a weight of 1
    if len(weighted) < 2:
        found = f"only {weighted[0]}" if weighted else "none"
        raise ConfigError(
            f"sweep.leave_out={collection}: needs two terms or more with a weight; {model} has {found} in {collection}"
        )
    referred = references(config, section)
    keys = [f"{collection}.{name}.coeff" for name in weighted]
    found_keys = {name: referred.get(key, key) for name, key in zip(weighted, keys, strict=True)}
    _refuse_shared(found_keys)
    return found_keys


def _refuse_shared(keys: Mapping[str, str]) -> None:
    names: dict[str, list[str]] = {}
    for name, key in keys.items():
        names.setdefault(key, []).append(name)
    for key, sharing in names.items():
        if len(sharing) > 1:
            raise ConfigError(f"{key}: is the coefficient of {_listed(sharing)}; give each its own to leave one out")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
