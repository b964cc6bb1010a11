"""Settings of the process that make a train step fast; none changes a number."""

from __future__ import annotations

import ctypes
import sys

import torch

# glibc's <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_GIB = 1 << 30


def prepare(*, device: torch.device, threads: int | None) -> None:
    """Make ready for training on ``device``: thread count, allocator.

    Args:
        device: where the model will live.
        threads: CPU threads for torch's operators; None leaves torch's choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let glibc's allocator keep large freed blocks for the next step instead of returning them to the kernel.

    A train step allocates and frees the same activations again and again; under glibc's defaults those above 32 MiB
    are mapped anew, zeroed page by page, at every step. Returns whether the C library took the settings (glibc does,
    others have no such call).
    """
    return set_malloc_thresholds(mmap_bytes=_GIB, trim_bytes=2 * _GIB - 1)


def set_malloc_thresholds(*, mmap_bytes: int, trim_bytes: int) -> bool:
    """Set from which size glibc maps blocks, and how much free memory it keeps; both in bytes, below 2 GiB."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, mmap_bytes)) and bool(library.mallopt(_M_TRIM_THRESHOLD, trim_bytes))


