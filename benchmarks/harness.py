"""What the benchmarks share: cases measured in turn in one process, ratios with their spread, tables in markdown."""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from jepa.config.compose import compose
from jepa.packing.trainer import PackTrainer
from jepa.prepare import make_plan
from jepa.training import runtime
from jepa.training.loop import Trainee
from jepa.training.trainer import Trainer

MODELS = ("vicreg", "simclr", "idm", "supervised", "rssm")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """Something to be timed: ``run`` is called again and again."""

    name: str
    run: Callable[[], object]
    default_malloc: bool = False  # under glibc's defaults, not with ``jepa.training.runtime.keep_freed_memory``


class Timings:
    """Seconds a call of every case, one for each round: the rounds of different cases lie side by side in time."""

    def __init__(self, seconds: Mapping[str, Sequence[float]], busy: float) -> None:
        """busy: the largest share of the machine that other processes used in any of the rounds."""
        self.seconds = dict(seconds)
        self.busy = busy

    def median(self, name: str) -> float:
        """The median over rounds, s."""
        return statistics.median(self.seconds[name])

    def ratios(self, name: str, to: str) -> list[float]:
        """Round by round ``name``'s time over that of ``to``."""
        return [ours / theirs for ours, theirs in zip(self.seconds[name], self.seconds[to], strict=True)]

    def milliseconds(self, name: str) -> str:
        """``median (min…max)`` in ms."""
        return spread([1e3 * value for value in self.seconds[name]], digits=1 if self.median(name) < 1 else 0)

    def ratio(self, name: str, to: str) -> str:
        """``median (min…max)`` of the ratios."""
        return spread(self.ratios(name, to), digits=2)


def measure(
    cases: Sequence[Case], *, repeats: int, calls: int = 1, clock: str = "wall", others: float = 0.1, tries: int = 4
) -> Timings:
    """Time the cases in turn, ``repeats`` rounds of ``calls`` calls each; before each a call that does not count.

    others: share of the machine that other processes may use in a round that counts. On a busy machine there are up to
    ``tries * repeats`` rounds, and the quietest ``repeats`` of them are kept.
    """
    rounds: list[tuple[float, dict[str, float]]] = []
    while len(rounds) < tries * repeats and sum(busy <= others for busy, _ in rounds) < repeats:
        rounds.append(_round(cases, calls, CLOCKS[clock]))
    quietest = sorted(rounds, key=lambda item: item[0])[:repeats]
    return Timings({case.name: [seconds[case.name] for _, seconds in quietest] for case in cases}, quietest[-1][0])


def _round(cases: Sequence[Case], calls: int, now: Callable[[], float]) -> tuple[float, dict[str, float]]:
    """Every case once: the largest share of the machine that others used meanwhile, and seconds a call by name."""
    busy, seconds = 0.0, {}
    for case in cases:
        (default_malloc if case.default_malloc else runtime.keep_freed_memory)()
        case.run()
        began, started = _usage(), now()
        for _ in range(calls):
            case.run()
        seconds[case.name] = (now() - started) / calls
        elapsed, used, own = (after - before for after, before in zip(_usage(), began, strict=True))
        busy = max(busy, (used - own) / (elapsed * CORES))
    return busy, seconds


def _usage() -> tuple[float, float, float]:
    """Seconds by the clock, processor seconds of the whole machine (0 where it does not say), and of this process."""
    path = Path("/proc/stat")
    own = time.process_time()
    if not path.is_file():
        return time.perf_counter(), own, own
    user, nice, system, _, _, irq, softirq, steal, *_ = (int(word) for word in path.read_text().split()[1:11])
    return time.perf_counter(), (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), own


def default_malloc() -> None:
    """Make glibc's allocator behave as in a process that has never asked for anything else.

    Its thresholds adapt to what a program frees: up to 32 MiB, kept memory up to twice that, which large activations
    reach at once. Memory kept so far is handed back. Checked on two Zen 4 cores, one thread, in processes of their own,
    encoder forward and backward, seconds of processor time, three runs of each: never asked 3.07, 3.14, 3.09 at B=256
    and 0.215, 0.208, 0.214 (shortest step) at B=32; with these thresholds 3.36, 3.01 and 0.220, 0.201, 0.202; with
    ``keep_freed_memory`` 1.70, 1.66 and 0.201, 0.204, 0.199.
    """
    runtime.set_malloc_thresholds(mmap_bytes=32 * _MIB, trim_bytes=64 * _MIB)
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def make_trainer(
    model: str, *overrides: str, num_jobs: int = 1, executor: str = "vmap", device: str = "cpu"
) -> Trainer | PackTrainer:
    """A trainer as ``python -m jepa.run`` builds it, at the published sizes; it leaves no files.

    num_jobs: of one pack; several differ in seed and in the strength of fixed noise. executor: how they run.
    """
    with tempfile.TemporaryDirectory() as folder:
        plans = []
        for job in range(num_jobs):
            numbers = [f"seed={job}", f"dataset.static_noise={0.5 + 0.1 * job}"] if num_jobs > 1 else []
            chosen = [f"model={model}", f"device={device}", "progress=none", f"folder={Path(folder) / str(job)}"]
            chosen += [*numbers, *overrides]
            plans.append(make_plan(compose(chosen, with_hydra=True)))
        return Trainer(plans[0]) if num_jobs == 1 else PackTrainer(plans, executor=executor)


def make_single(model: str, *overrides: str, device: str = "cpu") -> Trainer:
    """The trainer of one run, as :func:`make_trainer` makes it."""
    trainer = make_trainer(model, *overrides, device=device)
    assert isinstance(trainer, Trainer)
    return trainer


def train_step(trainer: Trainee) -> Callable[[], object]:
    """One whole step of a trainer: data, losses, gradients, update, the running sums of its record."""
    assert isinstance(trainer, (Trainer, PackTrainer))
    rates = trainer.learning_rates[:1]
    trainer.learning_rates = rates.expand(1 << 20, *rates.shape[1:])  # a table that no benchmark outlasts
    return trainer.advance


def spread(values: Sequence[float], *, digits: int) -> str:
    """``median (min…max)``."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}…{max(values):.{digits}f})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown; all columns but the first are aligned to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, marks, *rows))


def machine() -> str:
    """What a figure depends on, on one line: processor, cores, threads, versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{CORES} cores, {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def arguments(description: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch's operators")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds; of the medians and spreads")
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="cpu: processor time of the process, steadier on a busy machine, meaningful with one thread",
    )
    return parser


def start(options: argparse.Namespace, title: str) -> None:
    """Set the threads, and print a title and the machine."""
    torch.set_num_threads(options.threads)
    print(f"\n## {title}\n\n{machine()}; {options.clock} time\n")
    sys.stdout.flush()
