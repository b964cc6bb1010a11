"""A Hydra callback that checks every job of a sweep before the first job starts, and refuses the sweep on an error."""

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from jepa.config.keys import all_keys
from jepa.config.messages import explain
from jepa.config.operational import says_how, top
from jepa.errors import ConfigError, printable

_MOST = 10_000  # jobs of a sweep; also values of one axis
_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper."


class Preflight(Callback):
    """Composes and checks the jobs of a sweep before anything is written.

    For Hydra's basic sweeper it checks every job. For a search (Optuna) it checks every value of every axis, and both
    ends of each interval, changing one axis at a time. This project's own sweeper checks its jobs itself.
    """

    def __init__(self, *, check: str) -> None:
        """check: dotted path of a function of a composed configuration; it raises ConfigError if no job can run it."""
        self.check = check

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the jobs. Hydra calls this function before it creates the sweeper."""
        sweeper = str(OmegaConf.select(config, "hydra.sweeper._target_"))
        if "jepa" in sweeper:
            return
        try:
            _refuse_blocks(config)
            axes = _axes(config)
            most = math.prod(map(len, axes))
            if most > _MOST and sweeper.startswith(_BASIC_SWEEPER):
                raise ConfigError(f"more than {_MOST} jobs; hydra/sweeper=jepa with yes=true takes larger sweeps")
            for overrides in _product(axes) if sweeper.startswith(_BASIC_SWEEPER) else _one_at_a_time(axes):
                self._check(config, overrides)
        except Exception as error:
            explained = explain(error, all_keys(config))
            if explained is None:
                raise
            # Hydra logs the exceptions of a callback and goes on, so end the program by SystemExit.
            print(f"error: {printable(str(explained))}", file=sys.stderr)
            raise SystemExit(2) from error

    def _check(self, config: DictConfig, overrides: Sequence[str]) -> None:
        module, _, name = self.check.rpartition(".")
        job = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
        try:
            getattr(import_module(module), name)(job)
        except ConfigError as error:
            raise ConfigError(f"{error} (in the job {' '.join(overrides)})") from error


def _refuse_blocks(config: DictConfig) -> None:
    """Raise ConfigError if ``sweep:`` keys are set: Hydra's own sweepers ignore them and would run a single job."""
    for name in ("axes", "zipped", "points", "overrides", "space", "n_trials"):
        if OmegaConf.select(config, f"sweep.{name}"):
            raise ConfigError(f"sweep.{name}: is read by hydra/sweeper=jepa alone")


def _axes(config: DictConfig) -> list[list[str]]:
    """The overrides of each axis. An override with a single value is an axis of length one."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    texts = [f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    axes: dict[str, list[str]] = {}
    for override in parser.parse_overrides(texts):
        key = override.get_key_element()
        if top(key) == "folder":
            raise ConfigError(f"{override.input_line}: is for a single run; a sweep's folder is hydra.sweep.dir")
        if override.is_sweep_override() and says_how(key):
            raise ConfigError(f"{override.input_line}: is no axis; it says how jobs are carried out: give one value")
        axes[key] = list(itertools.islice(_values(override), _MOST + 1))
    for key, values in axes.items():
        if not values:
            raise ConfigError(f"{key}: an axis without values")
    return list(axes.values())


def _values(override: Override) -> Iterator[str]:
    """Yield ``key=value`` for each value of an axis; for an interval or a continuous range, for both ends."""
    key = override.get_key_element()
    value = override.value()
    if isinstance(value, IntervalSweep):
        yield from (f"{key}={end}" for end in (value.start, value.end))
    elif isinstance(value, RangeSweep) and not override.is_discrete_sweep():
        yield from (f"{key}={end}" for end in (value.start, value.stop))
    elif override.is_sweep_override():
        yield from (f"{key}={text}" for text in override.sweep_string_iterator())
    else:
        yield f"{key}={override.get_value_element_as_str()}"


def _product(axes: list[list[str]]) -> Iterator[tuple[str, ...]]:
    yield from itertools.product(*axes)


def _one_at_a_time(axes: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """Yield the first value of every axis; then, axis by axis, each further value with the first of all others."""
    first = [axis[0] for axis in axes]
    yield tuple(first)
    for number, axis in enumerate(axes):
        for value in axis[1:]:
            yield (*first[:number], value, *first[number + 1 :])
