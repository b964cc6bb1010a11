"""``hydra/launcher=auto``: choose the launcher, precision and compilation with the most runs per hour.

Settings that the command line or the sweep file gives are kept. The choice is made before composition and is added to
the command line, so every job records the choice. docs/performance.md has the measurements.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from jepa.config.search_path import read_sweep_file, sweeps_dir
from jepa.files import Damaged
from jepa.store import layout
from jepa.store.sweep import read_state
from jepa.sweep import devices
from jepa.sweep.arguments import Arguments, bare, parse_arguments
from jepa.sweep.points import override_value
from jepa.training import processor

log = logging.getLogger(__name__)

KEY = "hydra/launcher"
GRAPH = "trainer.cuda_graph=true"


def choose(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Replace ``hydra/launcher=auto`` by a choice for this machine, or by the choice that the sweep began with.

    The launcher:

    - with GPUs: packed, one process for each GPU;
    - with several cores and joblib installed: joblib, one thread for each process;
    - otherwise: basic.

    precision=bf16 is added on a GPU and on a CPU that multiplies bfloat16 matrices in hardware. trainer.cuda_graph=true
    is added on a GPU. trainer.compile=auto is added on a CPU; it compiles long runs in bf16. A key that ``arguments``
    or their sweep file set is not added. With device=cpu no GPU counts.

    A continued sweep keeps its first choice on every machine, because another precision would make other jobs.
    sweep.json holds the choice under "auto". ``sweep.auto`` passes the choice to the sweep.

    Returns:
        The arguments, and a line that reports the choice; None without ``hydra/launcher=auto``.
    """
    if f"{KEY}=auto" not in arguments:
        return list(arguments), None
    kept = [text for text in arguments if text != f"{KEY}=auto"]
    given = {text.lstrip("+").partition("=")[0] for text in arguments} - {KEY} | _keys_of_sweeps(arguments)
    gpus = [] if "device=cpu" in arguments else devices.visible_gpus()
    chosen, where = _choice_here(given, gpus), ""
    recorded = _recorded(kept, chosen)
    if recorded is not None:
        folder, earlier = recorded
        chosen = [_runnable(text) for text in earlier if text.partition("=")[0] not in given]
        chosen = [text for text in chosen if gpus or text != GRAPH]
        where = f", as when the sweep began ({folder / layout.SWEEP})"
    kept += [*chosen, f"sweep.auto={override_value(chosen)}"]
    return kept, f"{KEY}=auto: {' '.join(chosen)}{where}"


def _choice_here(given: set[str], gpus: Sequence[str]) -> list[str]:
    """The overrides chosen for this machine and its GPUs. ``given``: keys that are set already."""
    chosen = _launcher(len(gpus))
    if "precision" not in given and (gpus or processor.has_bf16()):
        chosen.append("precision=bf16")
    if gpus and "trainer.cuda_graph" not in given:
        chosen.append(GRAPH)
    if not gpus and "trainer.compile" not in given:
        chosen.append("trainer.compile=auto")
    return chosen


def _runnable(text: str) -> str:
    """A recorded override; the basic launcher instead of joblib if joblib is not installed here."""
    lacking = text == f"{KEY}=joblib" and importlib.util.find_spec("joblib") is None
    return f"{KEY}=basic" if lacking else text


def _recorded(arguments: Sequence[str], chosen: Sequence[str]) -> tuple[Path, list[str]] | None:
    """The folder of the sweep that ``arguments`` continue, and its first choice; None for a new sweep.

    The precision may be part of the sweep's name, so the folder is looked up under each precision.
    """
    here = [text for text in chosen if text.startswith("precision=")]
    for precision in ([*here], [], ["precision=bf16"]):
        try:
            folder = _folder([*arguments, *precision])
        except Exception:  # the later composition reports errors in the arguments
            log.debug("cannot tell the sweep of %s", arguments, exc_info=True)
            continue
        earlier = _begun_with(folder)
        if isinstance(earlier, list) and earlier:
            return folder, [str(text) for text in earlier]
    return None


def _begun_with(folder: Path) -> Any:
    try:
        return (read_state(folder) or {}).get("auto")
    except Damaged:
        return None


def _folder(arguments: Sequence[str]) -> Path:
    """The folder of the sweep that ``arguments`` name; the folder of the first search if they name several."""
    from jepa.config.compose import compose
    from jepa.sweep._core import sweep_folder
    from jepa.sweep.space import searched_keys
    from jepa.sweep.spec import read_sweep

    words = [f"+{text}" if text.startswith("sweep=") else text for text in arguments if not text.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(words)
    plain = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    config = compose(plain, with_hydra=True)
    spec, _ = read_sweep(config)
    told = parse_arguments([word for word in words if not word.lstrip("+~").startswith("hydra")])
    if spec.n_trials is not None:
        outer = {key: values[0] for key, values in told.axes.items() if bare(key) not in searched_keys(spec.space)}
        told = Arguments({**told.fixed, **outer}, told.deletions, {}, {})
    return sweep_folder(config, spec, told)


def _keys_of_sweeps(arguments: Sequence[str]) -> set[str]:
    """All keys at any depth of the sweep files that ``+sweep=NAME`` names. A missing file is an error later on."""
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
