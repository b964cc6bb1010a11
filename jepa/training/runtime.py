"""Settings of the process: those that make a train step fast, and the precision of CUDA's products."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import shutil
import sys
import threading
import warnings

import torch

from jepa.training import processor

log = logging.getLogger(__name__)

# glibc's <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_GIB = 1 << 30


def prepare(*, device: torch.device, threads: int | None, precision: str) -> None:
    """Make ready for training on ``device``: thread count, allocator, how CUDA multiplies single-precision matrices.

    Warns of a precision that is no gain but a great loss on this CPU.

    Args:
        device: where the model will live.
        threads: CPU threads for torch's operators; None leaves torch's choice.
        precision: fp32, tf32 or bf16; without tf32 no product of single-precision numbers is rounded to it, although
            torch would by itself allow that in convolutions.
    """
    # torch raises RuntimeError if its old and its new TF32 settings disagree, so set both.
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        keep_freed_memory()
        if precision == "bf16" and processor.crawls_in_bf16():
            log.warning(
                "precision=bf16: this CPU has no instructions for it, and torch takes many times as long as with "
                "precision=fp32"
            )


def wait(device: torch.device) -> None:
    """Until ``device`` has done all it was given; for measuring, never within a train step."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def keep_freed_memory() -> bool:
    """Let glibc's allocator keep large freed blocks for the next step instead of returning them to the kernel.

    A train step allocates and frees the same activations again and again; under glibc's defaults those above 32 MiB
    are mapped anew, zeroed page by page, at every step. Returns whether the C library took the settings (glibc does,
    others have no such call).
    """
    return set_malloc_thresholds(mmap_bytes=_GIB, trim_bytes=2 * _GIB - 1)


def has_cpp_compiler() -> bool:
    """Whether the compiler is there that ``torch.compile`` uses for a CPU: $CXX, else clang++ on a Mac and g++."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX") or usual) is not None


def prepare_compilation() -> None:
    """Settings of ``torch.compile``, before its first use in this process.

    Compile in as many processes as this one has threads; with one thread, in this process. Hide torch's warnings about
    itself. tqdm, which torch loads, would make a lock between processes that a forked process never gives back: give it
    a lock between threads.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))
    warnings.filterwarnings("ignore", "`torch._prims_common.check` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
    if importlib.util.find_spec("tqdm") is not None:
        importlib.import_module("tqdm").tqdm.set_lock(threading.RLock())


def set_malloc_thresholds(*, mmap_bytes: int, trim_bytes: int) -> bool:
    """Set from which size glibc maps blocks, and how much free memory it keeps; both in bytes, below 2 GiB."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, mmap_bytes)) and bool(library.mallopt(_M_TRIM_THRESHOLD, trim_bytes))


