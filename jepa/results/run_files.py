"""One run's folder read into a record: ``result.json`` where there is one, else what a running job has written."""

from __future__ import annotations

import json
import os
from typing import Any

from jepa.files import Damaged, parse_sealed_json
from jepa.results.records import flatten, is_number
from jepa.store.metrics import METRICS_FILE, latest_metrics

RESULT = "result.json"
UNFINISHED = ("config.yaml", "overrides.yaml", METRICS_FILE)
_LOCK = ".lock"  # made before the first of these

_NOT_FIELDS = frozenset({"status", "metrics", "config", "choices", "overrides", "code", "checksum"})
_STATUSES = frozenset({"finished", "failed", "pruned"})
_GROUPS = ("model", "dataset", "optimizer", "trainer", "probe")
_DEEPEST = 100  # a configuration nests five deep

Stamp = list[list[Any]]  # [[file name, modification time in ns, size in bytes], ...]
Record = dict[str, Any]  # {"status", "config" (flat), "choices", "metrics", "overrides", "fields"}: JSON all through


def stamp_of(folder: str) -> Stamp:
    """What identifies the state of a run's files; empty where ``folder`` is not a run's.

    A ``config.yaml`` alone makes no run (a folder of configurations has one): a run has locked its folder as well.
    """
    found = _stat(folder, RESULT)
    if found:
        return [found]
    stamp = [entry for entry in (_stat(folder, name) for name in UNFINISHED) if entry]
    if len(stamp) == 1 and stamp[0][0] == UNFINISHED[0] and not os.path.lexists(f"{folder}/{_LOCK}"):
        return []
    return stamp


def _stat(folder: str, name: str) -> list[Any] | None:
    path = f"{folder}/{name}"
    try:
        status = os.stat(path)
    except OSError:
        return [name, 0, -1] if os.path.islink(path) else None  # a link that leads nowhere is a damaged file
    return [name, status.st_mtime_ns, status.st_size]


def read_record(folder: str, stamp: Stamp) -> Record:
    """The record of the run in ``folder``, from the files that ``stamp`` names. Never raises for what they hold.

    Where a file is damaged, the status is "damaged", and the fields ``error`` and ``remedy`` say which and what to do.
    """
    if stamp[0][0] != RESULT:
        return _read_unfinished(folder)
    try:
        return _read_result(folder)
    except Exception as error:  # whatever a damaged file leads to
        return _damaged(_read_unfinished(folder), f"{RESULT} {_reason(error)}", _REMOVE_RESULT)


_REMOVE_RESULT = "remove that file; the same command then goes on from the run's checkpoint"
_REMOVE_FOLDER = "remove the folder; the same command then runs this run anew"


def _damaged(record: Record, error: str, remedy: str) -> Record:
    return {**record, "status": "damaged", "fields": {**record["fields"], "error": error, "remedy": remedy}}


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or type(error).__name__})"
    if isinstance(error, (_NotOurs, Damaged)):
        return str(error)
    return f"cannot be read ({type(error).__name__})"


class _NotOurs(ValueError):
    """A file that can be read, but does not hold what a run writes there."""


def _read_unfinished(folder: str) -> Record:
    config, overrides, damage = None, None, ""
    try:
        config = _read_yaml(f"{folder}/config.yaml", dict)
        flat, choices = _flat(config), _choices({}, config)
    except Exception as error:  # whatever a damaged file leads to
        config, flat, choices, damage = {}, {}, {}, f"config.yaml {_reason(error)}"
    try:
        overrides = _read_yaml(f"{folder}/overrides.yaml", list)
    except FileNotFoundError:  # it was killed before it wrote them
        pass
    except Exception as error:
        damage = damage or f"overrides.yaml {_reason(error)}"
    if os.path.lexists(f"{folder}/{METRICS_FILE}") and not os.path.isfile(f"{folder}/{METRICS_FILE}"):
        damage = damage or f"{METRICS_FILE} is no file"
    latest = latest_metrics(folder)
    fields = {"seed": config.get("seed"), "objective_metric": config.get("objective")}
    if "epoch" in latest:
        fields["epochs_trained"] = latest["epoch"]
    fields["epochs_total"] = _deep(config, "trainer", "epochs")
    record = {
        "status": "running",
        "config": flat,
        "choices": choices,
        "metrics": _numbers(latest),
        "overrides": [str(text) for text in overrides or []],
        "fields": {key: _plain(value) for key, value in fields.items() if value is not None},
    }
    return _damaged(record, damage, _REMOVE_FOLDER) if damage else record


def _read_result(folder: str) -> Record:
    with open(f"{folder}/{RESULT}", "rb") as file:
        result = parse_sealed_json(file.read())
    if not isinstance(result, dict) or result.get("status") not in _STATUSES:
        raise _NotOurs("does not say how the run ended")
    status = result["status"]
    if status != "failed" and not (isinstance(result.get("metrics"), dict) and isinstance(result.get("config"), dict)):
        raise _NotOurs("has no metrics or no configuration")
    config = _mapping(result, "config")
    overrides = result.get("overrides")
    if status == "finished" and not is_number(result.get("objective", 0.0)):  # as a sweep counts it
        status = "failed"
        result["error"] = result.get("error") or "the objective is not a finite number"
        result["reason"] = result.get("reason") or "not_finite"
    return {
        "status": status,
        "config": _flat(config),
        "choices": _choices(_mapping(result, "choices"), config),
        "metrics": _numbers(_mapping(result, "metrics")),
        "overrides": [str(text) for text in overrides] if isinstance(overrides, list) else [],
        "fields": {key: _plain(value) for key, value in _fields(result).items() if value is not None},
    }


def _fields(result: dict[str, Any]) -> dict[str, Any]:
    """What a result says beside its configuration and its metrics; its code as a fingerprint and a commit in words."""
    fields = {key: value for key, value in result.items() if key not in _NOT_FIELDS}
    code = _mapping(result, "code")
    fields["code_fingerprint"] = code.get("fingerprint")
    if code.get("commit"):
        fields["code_commit"] = f"{code['commit']}{', with changes' if code.get('dirty') else ''}"
    return fields


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """The entries that are numbers, lists of numbers, or null for what is not finite."""
    return {
        key: value
        for key, value in metrics.items()
        if value is None or is_number(value) or (isinstance(value, list) and all(map(_is_measured, value)))
    }


def _is_measured(value: Any) -> bool:
    return value is None or is_number(value)


def _mapping(result: dict[str, Any], key: str) -> dict[str, Any]:
    value = result.get(key)
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """A scalar as JSON has it; anything else as text."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _deep(config: dict[str, Any], *path: str) -> Any:
    value: Any = config
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat = flatten({key: value for key, value in config.items() if key != "choices"})
    return {key: value if value is None else _plain(value) for key, value in flat.items()}


def _choices(recorded: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """Hydra's choices as recorded; a group's class name where nothing was recorded."""
    recorded = recorded or _mapping(config, "choices")
    choices = {str(group): str(choice) for group, choice in recorded.items() if choice is not None}
    for group in _GROUPS:
        target = _deep(config, group, "_target_")
        if group not in choices and isinstance(target, str):
            choices[group] = target.rpartition(".")[2].lower()
    return choices


def _read_yaml(path: str, kind: type) -> Any:
    """The ``kind`` of thing that the yaml file holds. Raises OSError, _NotOurs, or what the parser raises."""
    import yaml  # type: ignore[import-untyped]  # late: only runs without a result need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(path, "rb") as file:
        content = file.read()
    depth = 0
    for event in yaml.parse(content, Loader=loader):  # loading nests calls in C, which end the process where too deep
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise _NotOurs("is nested too deeply")
    value = yaml.load(content, Loader=loader)
    if not isinstance(value, kind):
        raise _NotOurs("does not hold what a run writes there")
    return value
