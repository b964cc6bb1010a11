"""Matplotlib, whatever the machine's settings of it are."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys


def prepare_matplotlib() -> None:
    """Import matplotlib; call it before the first import of a module that draws.

    Figures here are written to files, without a window. A backend that ``MPLBACKEND`` names and that is not installed
    (a notebook's, in a terminal that the notebook has opened) is no hindrance, and neither is ``text.usetex`` without
    LaTeX.
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
