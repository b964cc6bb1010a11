"""What this CPU can do with bfloat16, as Linux tells it."""

from __future__ import annotations

import functools
from pathlib import Path

# Instructions that make a product of bfloat16 matrices faster than one of float32.
_MULTIPLIES_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
# On x86, those that oneDNN (torch's library of products) needs for bfloat16 at all: what comes without them is a plain
# loop, which was seen to take 16 times the time of a train step in single precision (Zen 3).
_HANDLES_BF16 = {"avx512bw", "avx_ne_convert"}
_IS_X86 = "sse2"


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices by instructions of its own; false where Linux does not tell."""
    return bool(_MULTIPLIES_BF16 & _instructions())


def crawls_in_bf16() -> bool:
    """Whether torch is known to make products of bfloat16 matrices one number after another on this CPU."""
    return _IS_X86 in _instructions() and not _HANDLES_BF16 & _instructions()


@functools.cache
def _instructions() -> frozenset[str]:
    """The extensions that the first core lists; none where this is not Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    listed = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(listed.split())
