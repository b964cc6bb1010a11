"""JEPA world models and their rivals on a moving dot under distractor noise: train, judge, sweep.

What the command line does, in Python (docs/python.md): :func:`jepa.train`, :func:`jepa.load`, :func:`jepa.runs`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load", "runs", "train"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the interface when it is first used: ``import jepa`` alone imports neither torch nor Hydra."""
    if name in __all__:
        from jepa import api

        return getattr(api, name)
    raise AttributeError(f"module 'jepa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
