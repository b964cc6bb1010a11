"""Translates a configuration of the original code into options and values of this project. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from jepa.config.compose import canonical, compose
from jepa.config.original import KEYS, SECTIONS
from jepa.errors import ConfigError

_ORIGINAL_WARMUP = 10  # epochs
_DEFAULT_EPOCHS = 100
_NETWORKS = {"predictor": ("model/predictor", "hidden"), "projector": ("model/projector", "layers")}
_TRAINING = {  # model -> the original's keys of the learning rate, and its key of the number of epochs
    "rssm": (("rssm.adam_lr", "adam_lr"), "epochs"),
    "supervised": (("probing_cfg.probe_lr",), "probing_cfg.epochs_predictor"),
}
_LARS = (("base_lr",), "epochs")
# Every published setting sets these keys. If a file omits one, our default may differ from the original's.
_SAID = {
    "vicreg": ("vicreg.sim_coeff", "vicreg.std_coeff", "vicreg.cov_coeff"),
    "simclr": ("simclr.temperature", "simclr.normalize_embeddings"),
    "rssm": ("rssm.min_var",),
}
_ALWAYS_SHOWN = ("dataset.noise", "dataset.static_noise")  # shown unless 0, as in conf/reproduce


class _Ours(NamedTuple):
    value: Any
    name: str  # the original's key that requires this value


@dataclass
class Translation:
    """The translation of the original's keys: options by group, values by key, and the keys that are left out."""

    choices: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)  # reason -> "key=value" as in the original's file
    notes: list[str] = field(default_factory=list)

    def leave_out(self, name: str, value: Any, reason: str) -> None:
        """Record why the command omits a key of the original. Only the first reason is kept."""
        if any(text.partition("=")[0] == name for texts in self.left_out.values() for text in texts):
            return
        text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
        self.left_out.setdefault(reason, []).append(f"{name}={text}")


class _Wanted:
    """The original's keys, and their translation so far."""

    def __init__(self, old: Mapping[str, Any]) -> None:
        self.old = old
        self.section = str(old["model_type"]).lower()
        self.model = _model(old)
        self.choices: dict[str, _Ours] = {"model": _Ours(self.model, "model_type")}
        self.values: dict[str, _Ours] = {}
        self.found = Translation()

    def of(self, part: str) -> Any:
        """The value of ``part`` in the section of the model, or None."""
        return self.old.get(f"{self.section}.{part}")

    def choose(self, group: str, option: str, name: str) -> None:
        """Choose an option of one of our groups because of the original's key ``name``."""
        self.choices[group] = _Ours(option, name)

    def set(self, key: str, value: Any, name: str) -> None:
        """Set one of our keys because of the original's key ``name``."""
        self.values[key] = _Ours(value, name)


def translate(old: Mapping[str, Any], *, probe: str = "least_squares") -> Translation:
    """The options and values for ``old`` that differ from our defaults.

    Args:
        old: full names of the original's keys -> checked values, from :func:`jepa.config.original_files.read`.
        probe: least_squares (exact), or adam (as in the original).

    Raises:
        ConfigError: the method is missing, or has no equivalent here.
    """
    if "model_type" not in old:
        raise ConfigError("model_type: is missing; it must be VICReg, SimCLR or RSSM")
    wanted = _Wanted(old)
    ruled = {*_dataset(wanted), *_networks(wanted), *_training(wanted), *_probing(wanted, probe), *_place(wanted)}
    for name, value in old.items():
        key, section = KEYS[name], name.rpartition(".")[0]
        if section in SECTIONS and section not in (wanted.section, "probing_cfg"):
            wanted.found.leave_out(name, value, f"model_type={old['model_type']} does not read the section {section}")
        elif name in ruled or name == "model_type":
            continue
        elif key.ours is not None:
            wanted.set(key.ours, value, name)
        elif value is not False:
            wanted.found.leave_out(name, value, key.note)
    _keep_differences(wanted)
    return wanted.found


def _model(old: Mapping[str, Any]) -> str:
    """The option of our group ``model``."""
    section = str(old["model_type"]).lower()
    if old.get("probing_cfg.full_finetune"):
        if not old.get("eval_only") or section == "rssm":
            raise ConfigError(
                "probing_cfg.full_finetune=true: is model=supervised together with eval_only=true and model_type="
                "SimCLR or VICReg; nothing here is equivalent to its other uses"
            )
        return "supervised"
    coefficients = {name: old.get(f"vicreg.{name}") for name in ("sim_coeff", "std_coeff", "cov_coeff")}
    further = [old.get(f"vicreg.{name}") for name in ("enc_std_coeff", "enc_cov_coeff", "decoding_coeff")]
    if section != "vicreg" or any(value != 0 for value in coefficients.values()) or any(further):
        return section
    if not old.get("vicreg.action_coeff"):
        raise ConfigError("vicreg: every coefficient is 0; at least one term must have a weight")
    return "idm"


# Each function below translates some keys of the original and returns their names.


def _dataset(wanted: _Wanted) -> list[str]:
    """Choose the closest file of conf/dataset and the images of structured noise."""
    old = wanted.old
    changing, fixed = old.get("dataset_noise", 0), old.get("dataset_static_noise", 0)
    structured = old.get("dataset_structured_noise", False)
    option = "single"
    if old.get("dataset_type") == "Multiple":
        option = "multiple"
    elif bool(changing) != bool(fixed):
        option += f"_{'changing' if changing else 'fixed'}_{'structured' if structured else 'uniform'}"
    wanted.choose("dataset", option, "dataset_type")
    wanted.set("dataset.noise", changing, "dataset_noise")
    wanted.set("dataset.static_noise", fixed, "dataset_static_noise")
    if structured and (changing or fixed):
        wanted.set("dataset.structured_noise", True, "dataset_structured_noise")
        wanted.set("dataset.structured_source", "cifar10", "dataset_structured_noise")
    elif structured:
        wanted.found.leave_out("dataset_structured_noise", True, "there is no noise to have a structure")
    return ["dataset_type", "dataset_noise", "dataset_static_noise", "dataset_structured_noise"]


def _networks(wanted: _Wanted) -> list[str]:
    """Choose encoder, predictor and projector, by name or by an MLP's widths, and the decoder's width."""
    section = wanted.section
    if wanted.of("arch") is not None:
        wanted.choose("model/encoder", wanted.of("arch"), f"{section}.arch")
    for part, (group, key) in _NETWORKS.items():
        value, name = wanted.of(part), f"{section}.{part}"
        if value is not None and (not value or value[0].isalpha()):
            wanted.choose(group, value or "identity", name)
        elif value is not None:
            wanted.choose(group, "mlp", name)
            wanted.set(f"model.{part}.{key}", value, name)
    width = wanted.of("backbone_width_factor")
    if width is not None and (section == "rssm" or (section == "vicreg" and wanted.of("decoding_coeff"))):
        wanted.set("model.decoder.width_factor", width, f"{section}.backbone_width_factor")
    return [f"{section}.{part}" for part in ("arch", *_NETWORKS)]


def _training(wanted: _Wanted) -> list[str]:
    """Set learning rate, epochs and warm-up. The method decides which of the original's keys apply."""
    old, model, found = wanted.old, wanted.model, wanted.found
    rates, epochs = _TRAINING.get(model, _LARS)
    for name in ("base_lr", "adam_lr", "rssm.adam_lr", "epochs"):
        if name in old and name not in (*rates, epochs):
            found.leave_out(name, old[name], f"model={model} reads {epochs if name == 'epochs' else rates[0]}")
    for name in [name for name in rates if name in old][:1]:
        wanted.set("optimizer.base_lr", old[name], name)
    if epochs in old:
        wanted.set("trainer.epochs", old[epochs], epochs)
    if old.get("eval_only") and model != "supervised":
        if "epochs" in old:
            found.leave_out("epochs", old["epochs"], "eval_only=true trains nothing")
        wanted.set("trainer.epochs", 0, "eval_only")
    elif model not in _TRAINING:
        _warmup(wanted)
    elif "warmup" in old:
        found.leave_out("warmup", old["warmup"], f"the learning rate of model={model} is constant")
    return ["base_lr", "adam_lr", "rssm.adam_lr", "epochs", "eval_only", "warmup"]


def _warmup(wanted: _Wanted) -> None:
    """Set the warm-up: the original's default is 10 epochs, ours is a tenth of the epochs."""
    epochs, warmup = wanted.old.get("epochs", _DEFAULT_EPOCHS), wanted.old.get("warmup", _ORIGINAL_WARMUP)
    if warmup < epochs or "warmup" in wanted.old:
        wanted.set("trainer.warmup_epochs", warmup, "warmup")
    elif epochs:
        wanted.found.notes.append(f"the original's warm-up of {warmup} epochs takes all {epochs}; ours takes a tenth")


def _probing(wanted: _Wanted, probe: str) -> list[str]:
    """Set how the probes are fitted. For the supervised method these keys set how the method is trained."""
    of_training = {"probing_cfg.full_finetune"}
    if wanted.model == "supervised":
        of_training |= {"probing_cfg.probe_lr", "probing_cfg.epochs_predictor"}
    given = {name: value for name, value in wanted.old.items() if name.startswith("probing_cfg.")}
    hidden = given.get("probing_cfg.probe_mlp", "")
    if probe == "adam" or hidden:
        wanted.choose("probe", "adam", "probing_cfg.probe_mlp")
    for name, value in given.items():
        ours = KEYS[name].ours
        if name in of_training or value == "":
            continue
        if "probe" not in wanted.choices:
            reason = "probes are fitted exactly, by least squares; --probe adam fits them as the original does"
            wanted.found.leave_out(name, value, reason)
        elif ours is None:
            wanted.found.leave_out(name, value, KEYS[name].note)
        else:
            wanted.set(ours, value, name)
    return list(given)


def _place(wanted: _Wanted) -> list[str]:
    """Set folder, logger and device."""
    old, found = wanted.old, wanted.found
    root, name, group = (old.get(key) for key in ("output_root", "run_name", "run_group"))
    if "output_path" in old:
        wanted.set("folder", old["output_path"], "output_path")
    elif root and name:
        wanted.set("folder", f"{root.rstrip('/')}/{name}", "run_name")
    elif name:
        wanted.set("folder", f"outputs/runs/{name}", "run_name")
    if root and "folder" not in wanted.values or root and "output_path" in old:
        found.leave_out("output_root", root, "output_path is set" if "output_path" in old else "needs run_name")
    if old.get("wandb"):
        wanted.choose("logger", "wandb", "wandb")
        for key, value, setter in (("group", group, "run_group"), ("name", name, "run_name")):
            if value:
                wanted.set(f"logger.wandb.{key}", value, setter)
    elif group:
        found.leave_out("run_group", group, "is for wandb=true")
    if (device := old.get("device")) not in (None, "cuda"):
        wanted.set("device", device, "device")
    return ["output_root", "output_path", "run_name", "run_group", "wandb", "device"]


# --- differences -----------------------------------------------------------------------------------------------------


def _keep_differences(wanted: _Wanted) -> None:
    """Keep the options and values that our configuration has and that differ from our defaults."""
    found, chosen = wanted.found, f"model={wanted.model}"
    offered = {group: option for group, option in _composed(chosen)[1].items() if option is not None}
    for group, (option, name) in wanted.choices.items():
        if group not in offered and option != "identity":
            found.leave_out(name, wanted.old.get(name), f"{chosen} has no {group}")
        elif group in ("model", "dataset") or option != offered.get(group, "identity"):
            found.choices[group] = option
    base = _composed(*(f"{group}={option}" for group, option in found.choices.items()))[0].copy()
    for key, (value, name) in sorted(wanted.values.items(), key=lambda item: item[0] != "trainer.epochs"):
        there, default = _at(base, key)
        if not there and value:
            found.leave_out(name, wanted.old.get(name, value), f"{chosen} as it is set has no {key}")
        elif there and (canonical(default) != canonical(value) or (key in _ALWAYS_SHOWN and value)):
            found.values[key] = value
            OmegaConf.update(base, key, value)
    _say_defaults(wanted, base)


def _say_defaults(wanted: _Wanted, base: DictConfig) -> None:
    """Note the keys that the files omit: they take our defaults instead of the original's."""
    keys = [str(KEYS[name].ours) for name in (*_SAID.get(wanted.model, ()), "batch_size") if name not in wanted.old]
    if "optimizer.base_lr" not in wanted.values:
        keys.append("optimizer.base_lr")
    if keys:
        shown = ", ".join(f"{key}={_at(base, key)[1]}" for key in keys)
        wanted.found.notes.append(f"the files do not say, so that our defaults hold: {shown}")


def _at(config: DictConfig, key: str) -> tuple[bool, Any]:
    """Whether ``config`` has the key, and its value."""
    *parents, last = key.split(".")
    node = OmegaConf.select(config, ".".join(parents)) if parents else config
    if not isinstance(node, DictConfig) or last not in node:
        return False, None
    return True, node[last]


@functools.lru_cache(maxsize=64)
def _composed(*choices: str) -> tuple[DictConfig, dict[str, Any]]:
    """Compose a configuration from options; return it and the option of each group."""
    config = compose(list(choices), with_hydra=True)
    return config, dict(config.hydra.runtime.choices)
