"""What a result says of the code that made it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import jepa
from jepa import provenance

PACKAGE = Path(jepa.__file__).resolve().parent


def test_an_installed_copy_has_the_fingerprint_of_its_checkout(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages" / "jepa"
    shutil.copytree(PACKAGE, installed, ignore=shutil.ignore_patterns("__pycache__", "conf"))
    shutil.copytree(PACKAGE.parent / "conf", installed / "conf")
    assert provenance.fingerprint(installed) == provenance.fingerprint(PACKAGE) == provenance.code()["fingerprint"]


@pytest.mark.parametrize("change", ["edited", "new", "renamed", "configuration"])
def test_any_change_of_a_source_changes_the_fingerprint(tmp_path: Path, change: str) -> None:
    package = tmp_path / "jepa"
    (package / "conf").mkdir(parents=True)
    (package / "loss.py").write_text("a = 1\n")
    (package / "conf" / "config.yaml").write_text("seed: 0\n")
    before = provenance.fingerprint(package)
    if change == "edited":
        (package / "loss.py").write_text("a = 2\n")
    elif change == "new":
        (package / "other.py").write_text("")
    elif change == "renamed":
        (package / "loss.py").rename(package / "losses.py")
    else:
        (package / "conf" / "config.yaml").write_text("seed: 1\n")
    assert provenance.fingerprint(package) != before


def test_results_of_this_code_of_other_code_and_from_before_are_told_apart() -> None:
    own = provenance.code()
    other = {"commit": "1a2b3c4d5e6f7081", "dirty": True, "fingerprint": "0" * 12}
    assert provenance.made_by({"code": own}) == "current"
    assert provenance.made_by({"code": other}) == "other"
    assert provenance.made_by({}) == provenance.made_by({"code": None}) == "unknown"
    assert provenance.other_code({"code": other}) == "commit 1a2b3c4d5e6f, with changes"
    assert provenance.other_code({"code": {**other, "commit": None}}) == "fingerprint 000000000000"
