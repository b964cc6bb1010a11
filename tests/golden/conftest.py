"""Golden arrays hold with kernels and without."""

from __future__ import annotations

import golden_arrays
import pytest

from jepa.kernels import KERNELS


@pytest.fixture(autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the kernels in place where a test parametrizes ``kernels`` with True, indirectly; else the plain code."""
    monkeypatch.setattr(golden_arrays, "kernels_in_use", tuple(KERNELS) if getattr(request, "param", False) else ())
