"""Which bfloat16 instructions this CPU has, from Linux's /proc/cpuinfo."""

from __future__ import annotations

import functools
from pathlib import Path

# Instructions with which a product of bfloat16 matrices is faster than one of float32 matrices.
_MULTIPLIES_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
# Instructions of x86 that oneDNN (torch's matrix library) needs for its bfloat16 kernels. Without them torch multiplies
# in a plain loop; on Zen 3 a train step then took 16 times as long as in single precision.
_HANDLES_BF16 = {"avx512bw", "avx_ne_convert"}
_IS_X86 = "sse2"


def has_bf16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16 matrices; false where the system is not Linux."""
    return bool(_MULTIPLIES_BF16 & _instructions())


def crawls_in_bf16() -> bool:
    """Whether torch multiplies bfloat16 matrices in a plain loop on this CPU, as far as is known."""
    return _IS_X86 in _instructions() and not _HANDLES_BF16 & _instructions()


@functools.cache
def _instructions() -> frozenset[str]:
    """The instruction sets that the first core lists; empty where the system is not Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    listed = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(listed.split())
