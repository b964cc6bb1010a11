"""Matplotlib, independent of the machine's settings of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys


def prepare_matplotlib() -> None:
    """Import matplotlib; call it before the first import of a module that draws.

    Figures are written to files and need no window. ``MPLBACKEND`` may name a backend that is not installed, such as a
    notebook's, and ``text.usetex`` may be set without LaTeX: both are ignored.
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
