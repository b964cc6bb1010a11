"""Provenance of a result: versions, commit, command and time. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from jepa import __version__

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent


def timestamp() -> str:
    """The current time in UTC, in ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of this package, of torch and of Python."""
    return {"jepa": __version__, "torch": metadata.version("torch"), "python": platform.python_version()}


@functools.cache
def machine() -> str:
    """The processor and the number of its cores, for example "AMD EPYC 9B14, 2 cores"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count() or 1} cores"


@functools.cache
def git_commit() -> str | None:
    """The commit of the checkout, plus ``-dirty`` if tracked files differ from it; None outside a checkout."""
    if not (_CHECKOUT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def code() -> dict[str, Any]:
    """The code of this process: {"commit", "dirty", "fingerprint"}, computed at the first call.

    commit: the commit of the checkout, or None outside a checkout. dirty: whether ``jepa/`` or ``conf/`` differ from
    the commit, including new files. fingerprint: 12 hexadecimal digits of SHA-256 over the package's Python files and
    over ``conf/``. The same code has the same fingerprint wherever it is installed.
    """
    commit, dirty = None, False
    if (_CHECKOUT / ".git").exists():
        try:
            commit = _git("rev-parse", "HEAD")
            dirty = bool(_git("status", "--porcelain", "--untracked-files=normal", "--", "jepa", "conf"))
        except (OSError, subprocess.SubprocessError):
            commit = None
    return {"commit": commit, "dirty": dirty, "fingerprint": _own_fingerprint()}


@functools.cache
def _own_fingerprint() -> str:
    return fingerprint(_PACKAGE)


def fingerprint(package: Path) -> str:
    """12 hexadecimal digits of SHA-256 over the names and contents of the sources of the package in ``package``."""
    digest = hashlib.sha256()
    for name, path in sorted(_sources(package)):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def made_by(result: Mapping[str, Any]) -> str:
    """Whether this code made ``result``: "current" or "other"; "unknown" if ``result`` has no fingerprint."""
    there = result.get("code")
    found = there.get("fingerprint") if isinstance(there, Mapping) else None
    if not found:
        return "unknown"
    return "current" if found == _own_fingerprint() else "other"


def other_code(result: Mapping[str, Any]) -> str:
    """The code that made ``result``, for example "commit 1a2b3c4d5e6f, with changes". ``made_by`` must be "other"."""
    there = result["code"]
    if not there.get("commit"):
        return f"fingerprint {there['fingerprint']}"
    return f"commit {str(there['commit'])[:12]}" + (", with changes" if there.get("dirty") else "")


def command(overrides: Sequence[str]) -> str:
    """The command line of a single run with these overrides."""
    return shlex.join(["python", "-m", "jepa.run", *overrides])


def _sources(package: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of every source. Names are relative to a checkout: ``jepa/…`` and ``conf/…``."""
    for path in package.rglob("*.py"):
        yield f"jepa/{path.relative_to(package).as_posix()}", path
    conf = package.parent / "conf"
    if not (package.parent / "setup.cfg").is_file() or not (conf / "config.yaml").is_file():
        conf = package / "conf"  # installed
    for path in conf.rglob("*.yaml"):
        yield f"conf/{path.relative_to(conf).as_posix()}", path


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_CHECKOUT), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
