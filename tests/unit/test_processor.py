"""What a CPU's list of instructions says of bfloat16."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jepa.training import processor, runtime

ZEN_3 = "flags\t\t: fpu sse sse2 avx avx2 fma\n"
SKYLAKE = "flags\t\t: fpu sse sse2 avx avx2 fma avx512f avx512bw avx512vl\n"
ZEN_4 = "flags\t\t: fpu sse sse2 avx avx2 fma avx512f avx512bw avx512vl avx512_bf16\n"
SIERRA_FOREST = "flags\t\t: fpu sse sse2 avx avx2 fma avx_ne_convert\n"
GRAVITON_2 = "Features\t: fp asimd evtstrm aes\n"
GRAVITON_3 = "Features\t: fp asimd evtstrm aes sve bf16 i8mm\n"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Pretend that /proc/cpuinfo says so; None: there is none."""

    def pretend(text: str | None) -> None:
        def read_text(path: Path, **_: object) -> str:
            if text is None:
                raise FileNotFoundError(path)
            return f"processor\t: 0\nmodel name\t: sse2 bf16 by name only\n{text}"

        processor._instructions.cache_clear()
        monkeypatch.setattr(processor.Path, "read_text", read_text)

    yield pretend
    monkeypatch.undo()
    processor._instructions.cache_clear()


@pytest.mark.parametrize(
    ("listed", "has_bf16", "crawls"),
    [
        (ZEN_3, False, True),
        (SKYLAKE, False, False),
        (ZEN_4, True, False),
        (SIERRA_FOREST, False, False),
        (GRAVITON_2, False, False),
        (GRAVITON_3, True, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_instructions_decide(
    on: Callable[[str | None], None], listed: str | None, has_bf16: bool, crawls: bool
) -> None:
    on(listed)
    assert (processor.has_bf16(), processor.crawls_in_bf16()) == (has_bf16, crawls)


@pytest.mark.parametrize(
    ("listed", "precision", "warned"), [(ZEN_3, "bf16", True), (ZEN_3, "fp32", False), (ZEN_4, "bf16", False)]
)
def test_a_run_that_would_crawl_says_so(
    on: Callable[[str | None], None],
    caplog: pytest.LogCaptureFixture,
    listed: str,
    precision: str,
    warned: bool,
) -> None:
    on(listed)
    with caplog.at_level(logging.WARNING):
        runtime.prepare(device=torch.device("cpu"), threads=None, precision=precision)
    assert ("precision=bf16: this CPU" in caplog.text) == warned
