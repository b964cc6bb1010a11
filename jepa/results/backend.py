"""Import matplotlib independently of the machine's matplotlib settings."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys


def prepare_matplotlib() -> None:
    """Import matplotlib with safe settings. Call this before the first import of a module that draws.

    Figures are written to files and need no window. An ``MPLBACKEND`` that matplotlib rejects, such as the backend of a
    notebook that is not installed, is ignored. ``text.usetex`` is switched off if LaTeX is not installed.
    """
    if "matplotlib" not in sys.modules:
        wanted = os.environ.pop("MPLBACKEND", None)
        try:
            import matplotlib
        finally:
            if wanted is not None:
                os.environ["MPLBACKEND"] = wanted
        if wanted:
            with contextlib.suppress(ValueError):
                matplotlib.rcParams["backend"] = wanted
    import matplotlib

    if matplotlib.rcParams["text.usetex"] and shutil.which("latex") is None:
        matplotlib.rcParams["text.usetex"] = False
