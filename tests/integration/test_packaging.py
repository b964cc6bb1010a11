"""What is installed: a wheel holds every module and yaml file and works far from the checkout."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NO_SOURCE = (".git", ".venv", "outputs", "build", "dist", "tests", "*.egg-info", "__pycache__", ".*_cache", "wandb")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source") / "jepa"
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(*NO_SOURCE))
    (source / "README.md").touch()
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(target), str(source)], check=True, capture_output=True, timeout=120)
    [built] = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed files, with the console scripts in bin/."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, capture_output=True, timeout=120)
    return target


def run_installed(installed: Path, cwd: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees the installed package and not the checkout."""
    return subprocess.run(
        list(command),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_wheel_holds_every_module_and_every_yaml_file(wheel: Path) -> None:
    expected = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "jepa").rglob("*.py")}
    for folder in ("conf", "sweeps"):
        expected |= {
            f"jepa/{path.relative_to(REPOSITORY).as_posix()}" for path in (REPOSITORY / folder).rglob("*.yaml")
        }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected | {"jepa/py.typed"}


def test_every_package_is_named_in_setup_cfg() -> None:
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    named = set(settings["options"]["packages"].split()) - {"jepa.conf", "jepa.sweeps"}
    found = {
        path.parent.relative_to(REPOSITORY).as_posix().replace("/", ".") for path in (REPOSITORY / "jepa").rglob("*.py")
    }
    assert named == found


def test_the_installed_command_composes_and_refuses(installed: Path, tmp_path: Path) -> None:
    module = [sys.executable, "-m", "jepa.run"]
    shown = run_installed(installed, tmp_path, *module, "--cfg", "job", "model=simclr", "dataset.static_noise=1.25")
    assert shown.returncode == 0, shown.stderr
    assert "jepa.losses.nt_xent.NTXent" in shown.stdout and "static_noise: 1.25" in shown.stdout
    sources = run_installed(installed, tmp_path, *module, "--info", "searchpath")
    assert str(installed / "jepa" / "conf") in sources.stdout and str(installed / "jepa" / "sweeps") in sources.stdout
    refused = run_installed(installed, tmp_path, *module, "+sweep=quikc")
    assert refused.returncode == 2 and "did you mean 'quick'?" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    small = [
        "model=identity",
        "dataset.num_steps=3",
        "probe.fit_sequences=64",
        "probe.judge_sequences=64",
        "plots=false",
    ]
    done = run_installed(installed, tmp_path, sys.executable, str(installed / "bin" / "jepa-run"), *small)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "outputs" / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "finished" and result["git_commit"] is None


def test_the_console_scripts_and_their_completion(installed: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(installed / "bin" / "jepa-run")]
    assert run_installed(installed, tmp_path, *script, "--help").returncode == 0
    line = "jepa-run model=vicreg_"
    query = run_installed(
        installed, tmp_path, *script, "--shell-completion", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line))
    )
    assert query.stdout.split() == ["model=vicreg_centered", "model=vicreg_idm", "model=vicreg_temporal"], query.stderr
    results = run_installed(installed, tmp_path, sys.executable, str(installed / "bin" / "jepa-results"), "--help")
    assert results.returncode == 0, results.stderr


def test_the_checkout_runs_without_being_installed(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from jepa.run import main; main()"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(REPOSITORY), "--info", "searchpath"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(REPOSITORY / "conf") in done.stdout and str(REPOSITORY / "sweeps") in done.stdout
