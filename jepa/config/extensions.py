"""Other packages whose classes a configuration may name: one's own losses, methods, distractors and so on.

A package is allowed by ``extensions=[mypkg]`` for one command, or once it is installed by an entry point of the group
``jepa.extensions``. Everything else stays refused, since a configuration could otherwise run any code.
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
    """The targets that Hydra may import and call: those packages' modules."""
    return tuple(f"{name}.*" for name in allowed_packages(extensions))


def versions(extensions: Sequence[str]) -> dict[str, str]:
    """The version of each package but this one; "unknown" for one that is no installed distribution."""
    found = {}
    for name in allowed_packages(extensions)[1:]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def check_package(key: str, name: object) -> str:
    """``name`` if a package of that name can be imported.

    Raises:
        ConfigError: names ``key``: no name of a package, or no package of that name.
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
