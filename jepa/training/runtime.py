"""Settings of the process: threads, memory allocator, compiler, and the precision of matrix products on CUDA."""

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
    """Set the thread count, the allocator and CUDA's precision for training on ``device``.

    Warns if ``precision`` makes training much slower on this CPU.

    Args:
        device: the device of the model.
        threads: CPU threads for torch's operators; None leaves torch's choice.
        precision: fp32, tf32 or bf16. Only tf32 lets CUDA round single-precision factors to TF32; torch's default
            does so in convolutions.
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
    """Wait until ``device`` has finished its work. Only for timing, never within a train step."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def keep_freed_memory() -> bool:
    """Let glibc's allocator keep large freed blocks for the next step instead of returning them to the kernel.

    Every train step allocates and frees activations of the same sizes. With glibc's defaults each block above 32 MiB
    is mapped and zeroed again at every step.

    Returns:
        Whether the C library accepted the settings; only glibc has them.
    """
    return set_malloc_thresholds(mmap_bytes=_GIB, trim_bytes=2 * _GIB - 1)


def has_cpp_compiler() -> bool:
    """Whether the C++ compiler of ``torch.compile`` is installed: $CXX, else clang++ on a Mac and g++ elsewhere."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX") or usual) is not None


def prepare_compilation() -> None:
    """Set up ``torch.compile`` before its first use in this process.

    torch compiles in as many processes as this process has threads; with one thread, in this process. Warnings about
    torch's own code are hidden. torch loads tqdm, whose default lock between processes is never released by a forked
    process, so tqdm is given a lock between threads.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))
    warnings.filterwarnings("ignore", "`torch._prims_common.check` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
    if importlib.util.find_spec("tqdm") is not None:
        importlib.import_module("tqdm").tqdm.set_lock(threading.RLock())


def set_malloc_thresholds(*, mmap_bytes: int, trim_bytes: int) -> bool:
    """Set two thresholds of glibc: the size above which blocks are mapped, and the free memory that is kept.

    Both in bytes, below 2 GiB. Returns whether the C library accepted them.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, mmap_bytes)) and bool(library.mallopt(_M_TRIM_THRESHOLD, trim_bytes))


