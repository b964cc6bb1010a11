"""Extensions: other packages whose classes a configuration may name, such as losses, methods or distractors.

``extensions=[mypkg]`` allows a package for one command. An installed package with an entry point of the group
``jepa.extensions`` is always allowed. All other packages are refused; otherwise a configuration could run any code.
"""

from __future__ import annotations

import functools
import importlib.util
import pkgutil
import re
from collections.abc import Sequence
from importlib import metadata

from jepa.errors import ConfigError, nearest

ENTRY_POINTS = "jepa.extensions"
OWN = "jepa"


def allowed_packages(extensions: Sequence[str]) -> tuple[str, ...]:
    """The packages whose classes may be named: this one, ``extensions``, and those with an entry point."""
    return tuple(dict.fromkeys([OWN, *extensions, *_installed()]))


def whitelist(extensions: Sequence[str]) -> tuple[str, ...]:
    """Patterns of the targets that Hydra may import and call: all modules of the allowed packages."""
    return tuple(f"{name}.*" for name in allowed_packages(extensions))


def versions(extensions: Sequence[str]) -> dict[str, str]:
    """The version of each allowed package except this one; "unknown" if it is not an installed distribution."""
    found = {}
    for name in allowed_packages(extensions)[1:]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def check_package(key: str, name: object) -> str:
    """Return ``name`` if a package of this name can be imported.

    Raises:
        ConfigError: names ``key``; ``name`` is not a valid package name, or there is no such package.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ConfigError(f"{key}={name!r}: must be names of packages, as in {key}=[mypkg]")
    if importlib.util.find_spec(name) is None:
        hint = nearest(name, (module.name for module in pkgutil.iter_modules()))
        raise ConfigError(f"{key}={name}: no such package" + (f"; did you mean {hint!r}?" if hint else ""))
    return name


@functools.cache
def _installed() -> tuple[str, ...]:
    return tuple(sorted({point.value.partition(":")[0].partition(".")[0] for point in _points()}))


def _points() -> metadata.EntryPoints:
    return metadata.entry_points(group=ENTRY_POINTS)
