"""The yardstick: a plain eager forward and backward pass of the study's encoder, which travels between machines.

Nothing of it is taken from the package: ``torch.nn`` modules one after another, fp32, contiguous NCHW, torch's default
settings and the C library's default allocator. All times of README are ratios to it.

    python benchmarks/yardstick.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, arguments, measure, start, table
from torch import Tensor, nn

NAME = "yardstick"


def encoder(width_factor: int = 2, embedding_size: int = 512, channels: int = 1) -> nn.Sequential:
    """menet5 for images of 28×28 pixels (docs/science.md)."""
    narrow, wide = 16 * width_factor, 32 * width_factor
    return nn.Sequential(
        nn.Conv2d(channels, narrow, kernel_size=5, stride=2, padding=2),
        nn.ReLU(),
        nn.BatchNorm2d(narrow),
        nn.Conv2d(narrow, wide, kernel_size=5, stride=2, padding=2),
        nn.ReLU(),
        nn.BatchNorm2d(wide),
        nn.Conv2d(wide, wide, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(wide),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(9 * wide, embedding_size),
    )


def yardstick(frames: Tensor) -> Callable[[], object]:
    """One forward and backward pass over ``frames`` [N, 1, 28, 28]."""
    network = encoder()
    frames = frames.contiguous()
    grad = torch.randn(len(frames), 512)

    def run() -> None:
        network.zero_grad(set_to_none=True)
        network(frames).backward(grad)

    return run


def case(frames: Tensor) -> Case:
    """The yardstick as a benchmark's case."""
    return Case(NAME, yardstick(frames), default_malloc=True)


def main() -> None:
    parser = arguments(__doc__, repeats=9)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256], help="B; each has 17 B frames")
    options = parser.parse_args()
    start(options, "The yardstick")
    rows = []
    for batch_size in options.batch_sizes:
        frames = torch.randn(17 * batch_size, 1, 28, 28)
        calls = max(1, 96 // batch_size)
        timings = measure([case(frames)], repeats=options.repeats, calls=calls, clock=options.clock)
        rows.append([f"B={batch_size}", timings.milliseconds(NAME), f"{len(frames) / timings.median(NAME):.0f}"])
    print(table(["encoder, forward + backward", "ms", "frames/s"], rows))


if __name__ == "__main__":
    main()
