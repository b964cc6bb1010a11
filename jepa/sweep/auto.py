"""``hydra/launcher=auto``: the launcher, precision and compilation that give most runs an hour.

What the command line or the sweep file says already is kept. The choice is made before anything is composed and
written out on the command line, so that every job records it. The figures behind it: docs/performance.md.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence

from omegaconf import OmegaConf

from jepa import processor
from jepa.config_search import read_sweep_file, sweeps_dir
from jepa.sweep import devices

KEY = "hydra/launcher"


def choose(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """``arguments`` with ``hydra/launcher=auto`` replaced by a choice for this machine.

    A GPU: packed, one process a GPU. Several cores: joblib, one thread a process, where it is installed. Else: basic.
    precision=bf16 is added where the hardware multiplies bfloat16 matrices faster, and trainer.compile=auto on a CPU
    (it compiles long runs in bf16); neither where ``arguments``, or the sweep file that they name, say something of it.

    Returns:
        The arguments, and a line that says what was chosen; None where there was nothing to choose.
    """
    if f"{KEY}=auto" not in arguments:
        return list(arguments), None
    gpus = devices.visible_gpus()
    chosen = _launcher(len(gpus))
    given = {text.lstrip("+").partition("=")[0] for text in arguments} | _keys_of_sweeps(arguments)
    if "precision" not in given and (gpus or processor.has_bf16()):
        chosen.append("precision=bf16")
    if "trainer.compile" not in given and not gpus:
        chosen.append("trainer.compile=auto")
    kept = [text for text in arguments if text != f"{KEY}=auto"]
    return [*kept, *chosen], f"{KEY}=auto: {' '.join(chosen)}"


def _keys_of_sweeps(arguments: Sequence[str]) -> set[str]:
    """Every key that the sweep files named by ``+sweep=NAME`` hold, at any depth; those not there are refused later."""
    names = [text.partition("=")[2] for text in arguments if text.lstrip("+").startswith("sweep=")]
    paths = [sweeps_dir() / f"{name}.yaml" for name in names]
    return {key for path in paths if path.is_file() for key in _keys(OmegaConf.to_container(read_sweep_file(path)[1]))}


def _keys(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from map(str, node)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _keys(child)


def _launcher(num_gpus: int) -> list[str]:
    if num_gpus:
        return [f"{KEY}=packed", f"hydra.launcher.num_workers={num_gpus}"]
    if devices.cores() > 1 and importlib.util.find_spec("joblib") is not None:
        return [f"{KEY}=joblib"]
    return [f"{KEY}=basic"]
