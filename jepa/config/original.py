"""A table of the keys in the original code's configuration files: our name of each key, and a check of its values.

The original's format has top-level keys and the sections ``vicreg``, ``simclr``, ``rssm`` and ``probing_cfg``.
``jepa.config.importing`` translates a file into a command of this project.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from jepa.errors import (
    ConfigError,
    check_count,
    check_flag,
    check_number,
    check_path,
    check_widths,
    nearest,
    shown,
    shown_path,
)

Check = Callable[[str, Any], Any]  # (full name of the key, value) -> the value to use; raises ConfigError


class Key(NamedTuple):
    """A key of the original."""

    ours: str | None  # our key, or a group of conf/ whose option the value chooses; None: no effect
    check: Check
    note: str = ""  # a remark; for a key without effect, the reason


def _count(minimum: int = 1) -> Check:
    return lambda key, value: check_count(key, value, minimum=minimum)


def _number(key: str, value: Any) -> float:
    return check_number(key, value, minimum=0)


def _rate(key: str, value: Any) -> float:
    return check_number(key, value, above=0)


def _word(*words: str) -> Check:
    """A check: the value is one of ``words``; upper and lower case are equal."""

    lower = {word.lower(): word for word in words}

    def check(key: str, value: Any) -> str:
        found = lower.get(str(value).lower())
        if found is None:
            hint = nearest(value, lower)
            also = f"; did you mean {lower[hint]!r}?" if hint else ""
            raise ConfigError(f"{key}={shown(value)}: must be one of {', '.join(words)}{also}")
        return found

    return check


def _word_or_widths(*words: str) -> Check:
    """A check: the value is one of ``words``, or widths of layers such as "512-512"."""

    def check(key: str, value: Any) -> str:
        if str(value).lower() in words:
            return str(value).lower()
        try:
            check_widths(key, value)
        except ConfigError:
            allowed = f"must be {', '.join(words)}, or widths of layers such as '512-512'"
            hint = nearest(value, words)
            raise ConfigError(
                f"{key}={shown(value)}: {allowed}" + (f"; did you mean {hint!r}?" if hint else "")
            ) from None
        return str(value)

    return check


def _widths(key: str, value: Any) -> str:
    check_widths(key, value)
    return str(value)


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f"{key}={shown(value)}: must be text")
    return check_path(key, str(value))


def _path(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key}={shown(value)}: must be a path")
    return check_path(key, value)


_NOT_READ = "the original never reads it"
_TOP = {
    "model_type": Key("model", _word("VICReg", "SimCLR", "RSSM"), "idm and supervised are recognised, see below"),
    "dataset_type": Key("dataset", _word("Single", "Multiple")),
    "dataset_noise": Key("dataset.noise", _number),
    "dataset_static_noise": Key("dataset.static_noise", _number),
    "dataset_static_noise_speed": Key("dataset.static_noise_speed", _number),
    "dataset_structured_noise": Key(
        "dataset.structured_noise", check_flag, "true: with dataset.structured_source=cifar10, the original's images"
    ),
    "dataset_size": Key(
        None, _count(), f"{_NOT_READ}, its epochs are as long as its validation set; dataset.size=N is honoured here"
    ),
    "dot_std": Key("dataset.dot_std", _rate),
    "batch_size": Key("dataset.batch_size", _count()),
    "n_steps": Key("dataset.num_steps", _count(2)),
    "normalize": Key("dataset.normalize", check_flag),
    "seed": Key("seed", _count(0)),
    "epochs": Key("trainer.epochs", _count(0)),
    "base_lr": Key("optimizer.base_lr", _rate, "of VICReg and SimCLR"),
    "adam_lr": Key("optimizer.base_lr", _rate, "of RSSM"),
    "warmup": Key("trainer.warmup_epochs", _number, "epochs; 10 where the file does not say, as in the original"),
    "eval_every_n_epochs": Key("trainer.probe_every_epochs", _count(0)),
    "save_every_n_epochs": Key("checkpoint.every_epochs", _count(0)),
    "safe_every_n_epochs": Key(
        None, _count(0), f"{_NOT_READ}, its name is a typing error; checkpoint.every_epochs=N is honoured here"
    ),
    "load_checkpoint_path": Key("init_from", _path, "a checkpoint of the original, or of this project"),
    "eval_only": Key("trainer.epochs", check_flag, "true: trainer.epochs=0"),
    "quick_debug": Key(None, check_flag, "nothing here does the same; trainer=quick is a short run"),
    "output_path": Key("folder", _path),
    "output_root": Key("folder", _path, "with run_name: folder=OUTPUT_ROOT/RUN_NAME, where output_path is not set"),
    "run_name": Key("folder", _text, "also logger.wandb.name, with wandb: true"),
    "run_group": Key("logger.wandb.group", _text, "with wandb: true"),
    "wandb": Key("logger", check_flag, "true: logger=wandb"),
    "device": Key("device", _text, "cuda becomes auto: a GPU where there is one"),
}
_NETWORKS = {
    "arch": Key("model/encoder", _word("menet5", "resnet18", "lenet5", "mlp", "pixels")),
    "backbone_width_factor": Key("model.encoder.width_factor", _count(), "also of the decoder, where there is one"),
    "backbone_mlp": Key("model.encoder.mlp", _widths),
    "embedding_dim": Key("model.encoder.embedding_size", _count()),
    "predictor": Key("model/predictor", _word_or_widths("rnn", "rnn_burnin", "mlp", "identity"), "widths mean mlp"),
    "rnn_layers": Key("model.predictor.num_layers", _count()),
    "burn_in": Key("model.predictor.burn_in", _count()),
    "projector": Key("model/projector", _word_or_widths("identity", "mlp"), "widths mean mlp"),
    "channels": Key("dataset.channels", _count()),
}
_VICREG = {
    "sim_coeff": Key("model.sim_coeff", _number),
    "std_coeff": Key("model.std_coeff", _number),
    "cov_coeff": Key("model.cov_coeff", _number),
    "enc_std_coeff": Key("model.enc_std_coeff", _number),
    "enc_cov_coeff": Key("model.enc_cov_coeff", _number),
    "action_coeff": Key("model.action_coeff", _number),
    "decoding_coeff": Key("model.decoding_coeff", _number),
    "repr_loss_after_projector": Key("model.repr_loss_after_projector", check_flag),
    "skip_first_step_variance_covariance": Key("model.skip_first_step_variance_covariance", check_flag),
}
_SIMCLR = {
    "temperature": Key("model.temperature", _rate),
    "normalize_embeddings": Key("model.normalize_embeddings", check_flag),
}
_RSSM = {
    "min_var": Key("model.min_var", _number),
    "free_nats": Key("model.free_nats", _number),
    "adam_lr": Key("optimizer.base_lr", _rate),
}
_PROBING = {
    "probe_lr": Key("probe.learning_rate", _rate, "with --probe adam; of model=supervised: optimizer.base_lr"),
    "epochs_predictor": Key("probe.epochs", _count(0), "with --probe adam; of model=supervised: trainer.epochs"),
    "epochs_enc": Key(None, _count(0), "both probes are fitted at once here, for probe.epochs"),
    "probe_mlp": Key("probe.hidden", _widths, "widths: also probe=adam, the probe that has layers"),
    "full_finetune": Key("model", check_flag, "true, with eval_only: model=supervised"),
}
SECTIONS = {
    "vicreg": {**_NETWORKS, **_VICREG},
    "simclr": {**_NETWORKS, **_SIMCLR},
    "rssm": {**_NETWORKS, **_RSSM},
    "probing_cfg": _PROBING,
}
KEYS = {**_TOP, **{f"{name}.{key}": value for name, section in SECTIONS.items() for key, value in section.items()}}
# Other spellings of the keys above, by the last part of their names.
_ALIASES = {
    "backbone_arch": "arch",
    "repr_dim": "embedding_dim",
    "lr": "probe_lr",
    "epochs": "epochs_predictor",
    "probe_epochs": "epochs_predictor",
    "probe_epochs_predictor": "epochs_predictor",
    "epochs_encoder": "epochs_enc",
    "probe_epochs_enc": "epochs_enc",
    "probe_epochs_encoder": "epochs_enc",
}
ALIASES = {
    f"{name}.{alias}": f"{name}.{key}"
    for name, section in SECTIONS.items()
    for alias, key in _ALIASES.items()
    if key in section
}
# Last part of an original key's name -> our key. For messages about unknown keys.
NAMES_HERE = {
    name.rpartition(".")[2]: key.ours
    for name, key in reversed([*KEYS.items(), *((alias, KEYS[name]) for alias, name in ALIASES.items())])
    if key.ours is not None
}


def known(name: str) -> str:
    """The key of ``KEYS`` for ``name``, which may be another spelling.

    Raises:
        ConfigError: the original has no such key; the message suggests the nearest spelling.
    """
    name = ALIASES.get(name, name)
    if name in KEYS:
        return name
    names: Collection[str] = [*KEYS, *ALIASES]
    by_last = {one.rpartition(".")[2]: one for one in reversed(list(names))}
    section, _, last = name.rpartition(".")
    beside = [one for one in names if one.rpartition(".")[0] == section]
    close = difflib.get_close_matches(last, by_last, n=1, cutoff=0.75)
    hint = by_last.get(last) or nearest(name, beside) or (by_last[close[0]] if close else None)
    raise ConfigError(
        f"{shown_path(name)}: no such key in the original" + (f"; did you mean {hint!r}?" if hint else "")
    )
