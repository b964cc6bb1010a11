"""Settings of the process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from jepa.training import runtime

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    runtime.prepare(device=CPU, threads=threads, precision="fp32")


@pytest.mark.parametrize(("precision", "rounded"), [("fp32", False), ("bf16", False), ("tf32", True), ("fp32", False)])
def test_only_tf32_rounds_single_precision_products(precision: str, rounded: bool) -> None:
    """By every name that torch has for it: it refuses to answer by some where they disagree."""
    runtime.prepare(device=CPU, threads=None, precision=precision)
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == rounded
    assert torch.get_float32_matmul_precision() == ("high" if rounded else "highest")
    for products in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
        assert (products.fp32_precision == "tf32") == rounded


def test_threads_are_set_where_they_are_asked_for() -> None:
    runtime.prepare(device=CPU, threads=1, precision="fp32")
    assert torch.get_num_threads() == 1
    runtime.prepare(device=CPU, threads=None, precision="fp32")
    assert torch.get_num_threads() == 1


def test_other_systems_keep_their_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    assert runtime.keep_freed_memory() is False


def test_a_compiler_is_looked_for_where_torch_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)
    assert runtime.has_cpp_compiler()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not runtime.has_cpp_compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(runtime.shutil, "which", {"g++": "/usr/bin/g++", "clang++": "/usr/bin/clang++"}.get)
    assert runtime.has_cpp_compiler()
