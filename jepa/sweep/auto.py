"""``hydra/launcher=auto``: the launcher, precision and compilation that give most runs an hour.

What the command line or the sweep file says already is kept. The choice is made before anything is composed and
written out on the command line, so that every job records it. The figures behind it: docs/performance.md.
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


def choose(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """``arguments`` with ``hydra/launcher=auto`` replaced by a choice for this machine, or by the sweep's earlier one.

    A GPU: packed, one process a GPU. Several cores: joblib, one thread a process, where it is installed. Else: basic.
    precision=bf16 is added where the hardware multiplies bfloat16 matrices faster, and trainer.compile=auto on a CPU
    (it compiles long runs in bf16); neither where ``arguments``, or the sweep file that they name, say something of it.

    A sweep keeps the choice that it was begun with, on every machine, as another precision would make other jobs. The
    choice lies in sweep.json, under "auto"; ``sweep.auto`` hands it to the sweep.

    Returns:
        The arguments, and a line that says what was chosen; None where there was nothing to choose.
    """
    if f"{KEY}=auto" not in arguments:
        return list(arguments), None
    kept = [text for text in arguments if text != f"{KEY}=auto"]
    given = {text.lstrip("+").partition("=")[0] for text in arguments} - {KEY} | _keys_of_sweeps(arguments)
    chosen, where = _choice_here(given), ""
    recorded = _recorded(kept, chosen)
    if recorded is not None:
        folder, earlier = recorded
        chosen = [_runnable(text) for text in earlier if text.partition("=")[0] not in given]
        where = f", as when the sweep began ({folder / layout.SWEEP})"
    kept += [*chosen, f"sweep.auto={override_value(chosen)}"]
    return kept, f"{KEY}=auto: {' '.join(chosen)}{where}"


def _choice_here(given: set[str]) -> list[str]:
    """What suits this machine, without the keys in ``given``."""
    gpus = devices.visible_gpus()
    chosen = _launcher(len(gpus))
    if "precision" not in given and (gpus or processor.has_bf16()):
        chosen.append("precision=bf16")
    if "trainer.compile" not in given and not gpus:
        chosen.append("trainer.compile=auto")
    return chosen


def _runnable(text: str) -> str:
    """A choice made elsewhere, as far as this machine can follow it."""
    lacking = text == f"{KEY}=joblib" and importlib.util.find_spec("joblib") is None
    return f"{KEY}=basic" if lacking else text


def _recorded(arguments: Sequence[str], chosen: Sequence[str]) -> tuple[Path, list[str]] | None:
    """The folder of the sweep that ``arguments`` continue, and the choice it was begun with; None for a new sweep.

    A sweep's name may tell its precision, so it is looked for with each.
    """
    here = [text for text in chosen if text.startswith("precision=")]
    for precision in ([*here], [], ["precision=bf16"]):
        try:
            folder = _folder([*arguments, *precision])
        except Exception:  # what is wrong with the arguments is said when they are composed in earnest
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
    """The folder of the sweep, or of the first search, that ``arguments`` mean."""
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
