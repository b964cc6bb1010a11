"""Checks a composed configuration and makes the components of the run. Nothing is written here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig

from jepa.config.arguments import prepare as prepare_words
from jepa.config.check import check_open, qualified, references
from jepa.config.compose import TRUSTED_TARGETS, check_closed, compose, config_hash, resolved, scientific_config
from jepa.config.conditions import check_benchmark, condition_nodes, in_condition, training_node
from jepa.config.extensions import whitelist
from jepa.config.messages import one_line
from jepa.config.schema import RunConfig
from jepa.data.distractors.base import Distractor
from jepa.data.environment import Environment
from jepa.data.textures.base import Texture
from jepa.errors import ConfigError, check_choice
from jepa.loggers.base import Logger
from jepa.loggers.display import ProgressDisplay
from jepa.loggers.files import FilesLogger
from jepa.losses.base import Term
from jepa.methods.base import Method
from jepa.models.decoders import Decoder
from jepa.models.encoders import Encoder
from jepa.models.heads import Projector
from jepa.models.predictors import Predictor
from jepa.optim.base import Optimizer
from jepa.optim.schedules import Schedule
from jepa.planning.costs import Cost
from jepa.planning.planner import Planner
from jepa.planning.solvers.base import Solver
from jepa.probes import Probe
from jepa.probes.targets.base import ProbeTarget
from jepa.training.device import check_cuda_settings, resolve_device
from jepa.training.plan import Plan
from jepa.types import DataShapes

_MISSING = re.compile(r"missing \d+ required .*argument.*?: '(?P<key>\w+)'")

# By key: the class that a component, or each entry of a collection, must be derived from.
BASES: dict[str, type] = {
    "dataset": Environment,
    "dataset.texture": Texture,
    "dataset.distractors": Distractor,
    "optimizer": Optimizer,
    "optimizer.schedule": Schedule,
    "model": Method,
    "model.encoder": Encoder,
    "model.predictor": Predictor,
    "model.projector": Projector,
    "model.decoder": Decoder,
    "model.terms": Term,
    "probe": Probe,
    "probe.targets": ProbeTarget,
    "logger": Logger,
    "plan": Planner,
    "plan.cost": Cost,
    "plan.solver": Solver,
}


def make_plan(cfg: DictConfig) -> Plan:
    """Check ``cfg`` and make the components, except the model, which ``jepa.training.check_model`` builds.

    Raises:
        ConfigError: the configuration is wrong.
    """
    config = check_closed(cfg)
    folder, sweep_name = _place(cfg, config)
    plain = {**resolved(cfg), "folder": str(folder)}
    referred = references(cfg, "model")
    check_open(plain, BASES, referred)
    device = resolve_device(config.device)
    check_cuda_settings(config, device)
    _check_init_from(config)
    _check_left_out(plain)
    check_benchmark(config.benchmark, plain["dataset"])
    dataset: Environment = _component({**plain, "dataset": training_node(plain["dataset"])}, "dataset")
    probe: Probe = _component(plain, "probe")
    probe.asked(dataset)
    return Plan(
        config=config,
        plain=plain,
        scientific=scientific_config(cfg),
        config_hash=config_hash(cfg),
        overrides=_overrides(cfg),
        sweep_name=sweep_name,
        folder=folder,
        device=device,
        dataset=dataset,
        conditions=_conditions(plain, dataset.shapes),
        optimizer=_component(plain, "optimizer"),
        probe=probe,
        planner=None if config.plan is None else _component(plain, "plan"),
        loggers=[logger for logger in _component(plain, "logger").values() if logger is not None],
        build_method=lambda: make_method(plain, referred, dataset.shapes),
        short_keys=frozenset(referred.values()),
        on_probe=_on_probe(config),
    )


def _check_left_out(plain: Mapping[str, Any]) -> None:
    """Refuse a ``left_out`` that names a term with a weight. plain: the resolved configuration."""
    name = plain["left_out"]
    if name is None:
        return
    terms = plain["model"].get("terms") or {}
    check_choice("left_out", name, terms)
    if terms[name].get("coeff") != 0:
        raise ConfigError(
            f"left_out={name}: model.terms.{name}.coeff is {terms[name].get('coeff')}, not 0; +sweep=ablation sets both"
        )


def _check_init_from(config: RunConfig) -> None:
    if config.init_from is None:
        return
    try:
        is_file = Path(config.init_from).is_file()
        is_there = Path(config.init_from).exists()
    except (OSError, ValueError) as error:
        raise ConfigError(f"init_from={config.init_from!r}: {getattr(error, 'strerror', None) or error}") from error
    if not is_file:
        raise ConfigError(f"init_from={config.init_from}: " + ("is no file" if is_there else "no such file"))


def make_loggers(plan: Plan) -> list[Logger]:
    """The loggers of the run: its files, then the screen, then the loggers that ``logger=`` chose."""
    screen = [] if plan.config.progress == "none" else [ProgressDisplay(mode=plan.config.progress)]
    return [FilesLogger(), *screen, *plan.loggers]


def make_planner(
    overrides: Sequence[str], further: str | os.PathLike[str] | None = None
) -> tuple[Planner, dict[str, Any]]:
    """The planner of a command such as ``["plan=cem", "plan.num_episodes=50"]``, and its configuration.

    Args:
        further: a folder with yaml files of the user, as ``--config-dir`` names it.

    Raises:
        ConfigError: the configuration is wrong.
    """
    cfg = compose(prepare_words(list(overrides)), with_hydra=True, further=further)
    check_closed(cfg)
    plain = resolved(cfg)
    check_open(plain, BASES, references(cfg, "model"))
    planner: Planner = _component(plain, "plan")
    return planner, plain["plan"]


# --- pieces --------------------------------------------------------------------------------------------------------


def _component(plain: Mapping[str, Any], section: str) -> Any:
    """Make the component of a section, or the components by name. Errors name the full key.

    plain: the resolved configuration as plain dictionaries. Given an OmegaConf node, Hydra would copy its whole tree.
    """
    try:
        return instantiate(dict(plain[section]), _convert_="all", _execution_whitelist_=whitelist(plain["extensions"]))
    except Exception as error:
        raise _explained(error, section, plain) from error


def _conditions(plain: Mapping[str, Any], shapes: DataShapes) -> dict[str, Environment]:
    """The environments of ``dataset.eval``, by the names of their conditions."""
    found: dict[str, Environment] = {}
    for name, node in condition_nodes(plain["dataset"]).items():
        try:
            found[name] = _component({**plain, "dataset": node}, "dataset")
            if found[name].shapes != shapes:
                raise ConfigError("dataset: must have the shapes of training; a condition changes only the noise")
        except ConfigError as error:
            raise in_condition(error, name) from error
    return found


def make_method(plain: Mapping[str, Any], referred: Mapping[str, str], shapes: DataShapes) -> Method:
    """The method that the section ``model`` describes, with weights from torch's global generator.

    Args:
        plain: the resolved configuration.
        referred: the short keys of the section that give parts their values, see :func:`jepa.config.check.references`.
        shapes: the shapes of the data.

    Raises:
        ConfigError: a constructor refuses a value; the message names the key that the user would set.
    """
    node = {key: value for key, value in plain["model"].items() if f"model.{key}" not in referred.values()}
    try:
        # Make a partial first: Hydra would treat an argument of instantiate as configuration.
        trusted = whitelist(plain["extensions"])
        factory = instantiate(node, _partial_=True, _convert_="all", _execution_whitelist_=trusted)
        return factory(shapes=shapes)  # type: ignore[no-any-return]
    except Exception as error:
        raise _explained(error, "model", plain, referred) from error


def _explained(
    error: Exception, section: str, plain: Mapping[str, Any], referred: Mapping[str, str] | None = None
) -> Exception:
    """Turn a constructor's ``error`` into a ConfigError if the configuration caused it; else return ``error``."""
    if isinstance(error, ConfigError):
        return qualified(error, section, plain, referred)
    if isinstance(error, HydraException):
        return ConfigError(f"{section}: {one_line(error)}")
    if isinstance(error, TypeError) and (missing := _MISSING.search(str(error))):
        return ConfigError(f"{section}.{missing['key']}: is missing; it is a key of {section}, give it a value")
    if isinstance(error, TypeError) and "argument" in str(error):
        return ConfigError(f"{section}: {error}")
    return error


def _on_probe(config: RunConfig) -> Callable[[int, Mapping[str, float]], bool] | None:
    """The function that a sweep wants called after each probe; it returns whether to prune the run.

    Raises:
        ConfigError: ``on_probe`` names nothing that can be called, or gives arguments that the class does not take.
    """
    node = config.on_probe
    if node is None:
        return None
    if "_target_" not in node:
        raise ConfigError("on_probe._target_: is missing; on_probe=null calls nothing")
    try:
        made = instantiate(dict(node), _convert_="all", _execution_whitelist_=TRUSTED_TARGETS)
    except ConfigError:
        raise
    except Exception as error:  # a constructor may raise anything
        raise ConfigError(f"on_probe: {one_line(error)}") from error
    if not callable(made):
        raise ConfigError(f"on_probe._target_={node['_target_']!r}: must make something that can be called")
    return made  # type: ignore[no-any-return]


def _hydra(cfg: DictConfig) -> DictConfig | None:
    if "hydra" in cfg:
        return cast(DictConfig, cfg.hydra)
    return cast(DictConfig, HydraConfig.get()) if HydraConfig.initialized() else None


def _overrides(cfg: DictConfig) -> list[str]:
    node = _hydra(cfg)
    return [] if node is None else [str(text) for text in node.overrides.task]


def _place(cfg: DictConfig, config: RunConfig) -> tuple[Path, str | None]:
    """The run's folder, and the name of its sweep.

    The folder is the job's folder in a sweep, else ``hydra.run.dir`` if it is set, else ``folder``.
    """
    node = _hydra(cfg)
    if node is not None:
        if str(node.mode).rpartition(".")[2] == "MULTIRUN":
            sweep = Path(str(node.sweep.dir))
            return sweep / str(node.sweep.subdir), sweep.name
        if str(node.run.dir) != ".":
            return Path(str(node.run.dir)), None
    return Path(config.folder), None
