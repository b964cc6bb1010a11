"""Imports point one way (docs: the design's layout), and only a few modules may know Hydra, OmegaConf or wandb."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "jepa"

# From the ground up. A module may import from its own unit and from lower layers; units beside each other in a layer
# do not know each other. A unit is a top-level module or package of jepa/; a trailing * stands for any ending.
LAYERS: list[list[set[str]]] = [
    [{"errors"}, {"files"}, {"terminal"}, {"estimate"}],
    [{"provenance"}, {"flags"}],
    [{"config"}, {"types", "seeding"}, {"hyperparameters"}],
    [{"store"}],
    [{"results"}],
    [{"data"}],
    [{"models"}],
    [{"losses"}, {"optim"}],
    [{"methods"}],
    [{"probes"}],
    [{"loggers"}, {"kernels"}, {"planning"}],
    [{"training"}],
    [{"run", "prepare"}],
    [{"packing"}, {"api"}, {"import_config"}],
    [{"plan"}, {"sweep"}],
]
MAY_KNOW = {
    "hydra": {"run", "prepare", "config", "sweep"},
    "omegaconf": {"run", "prepare", "config", "sweep", "store"},
    "hydra_plugins": {"sweep"},
    "wandb": {"loggers"},
    "optuna": {"sweep", "results"},
    "joblib": {"sweep"},
    "ray": {"sweep"},
}
# Strings that look like modules: an entry point's group, a program, and where a class was in an earlier version.
NOT_MODULES = {"jepa.extensions", "jepa.run", "jepa.data.stream.MovingDots"}
TORCH_FREE = (
    *("jepa.run", "jepa.config.compose", "jepa.config.preflight", "jepa.results.cli", "jepa.sweep", "jepa.provenance"),
    *("jepa.loggers.csv", "jepa.loggers.tensorboard", "jepa.loggers.wandb", "jepa.loggers.display"),
    *("jepa.store.run_folder", "jepa.store.locks", "jepa.store.sweep", "jepa.import_config", "jepa.plan"),
)


def units() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def matches(name: str, patterns: set[str]) -> bool:
    return any(name == pattern or (pattern[-1] == "*" and name.startswith(pattern[:-1])) for pattern in patterns)


def place(name: str) -> tuple[int, int]:
    """(layer, number of the group in it) of a unit."""
    for layer, groups in enumerate(LAYERS):
        for number, patterns in enumerate(groups):
            if matches(name, patterns):
                return layer, number
    raise AssertionError(f"jepa/{name} has no place in LAYERS of {__file__}: say on which layer it stands")


def names_a_module(value: object) -> bool:
    return isinstance(value, str) and value not in NOT_MODULES and bool(re.fullmatch(r"jepa(\.[A-Za-z_]\w*)+", value))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, at any depth, and of every string that names a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, str(node.module)
            if node.module == "jepa":
                for alias in node.names:
                    yield node.lineno, f"jepa.{alias.name}"
        elif isinstance(node, ast.Constant) and names_a_module(node.value):
            yield node.lineno, node.value  # for import_module, or as a _target_


@pytest.mark.parametrize("path", units(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    own = unit_of(path)
    layer, group = place(own)
    for line, name in imported(path):
        parts = name.split(".")
        if parts[0] != "jepa" or len(parts) == 1 or not _is_unit(parts[1]):
            continue
        other_layer, other_group = place(parts[1])
        allowed = other_layer < layer or (other_layer, other_group) == (layer, group)
        assert allowed, f"{path}:{line}: jepa.{own} must not import {name}"


def _is_unit(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


@pytest.mark.parametrize("path", units(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_few_modules_know_the_frameworks(path: Path) -> None:
    for line, name in imported(path):
        allowed = MAY_KNOW.get(name.split(".")[0])
        assert allowed is None or matches(unit_of(path), allowed), f"{path}:{line}: must not import {name}"


def test_every_layer_names_something_that_exists() -> None:
    names = {unit_of(path) for path in units()}
    for patterns in (patterns for groups in LAYERS for patterns in groups):
        for pattern in patterns:
            if not pattern.endswith("*") and pattern != "packing":
                assert any(matches(name, {pattern}) for name in names), f"LAYERS names {pattern}, which is gone"


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_is_not_imported_for_help_and_tables(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join({{'torch', 'wandb', 'matplotlib'}} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{module} imports {done.stderr}"
