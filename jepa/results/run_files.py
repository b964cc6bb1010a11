"""One run's folder read into a record: ``result.json`` where there is one, else what a running job has written."""

from __future__ import annotations

import json
import os
from typing import Any

from jepa.results.records import flatten, is_number

RESULT = "result.json"
UNFINISHED = ("config.yaml", "overrides.yaml", "metrics.jsonl")

_NOT_FIELDS = frozenset({"status", "metrics", "config", "choices", "overrides"})
_GROUPS = ("model", "dataset", "optimizer", "trainer", "probe")
_TAIL_BYTES = 1 << 16
_MAXIMUM_TAIL_BYTES = 1 << 22

Stamp = list[list[Any]]  # [[file name, modification time in ns, size in bytes], ...]
Record = dict[str, Any]  # {"status", "config" (flat), "choices", "metrics", "overrides", "fields"}: JSON all through


def stamp_of(folder: str) -> Stamp:
    """What identifies the state of a run's files; empty where ``folder`` is not a run's."""
    found = _stat(folder, RESULT)
    if found:
        return [found]
    return [entry for entry in (_stat(folder, name) for name in UNFINISHED) if entry]


def _stat(folder: str, name: str) -> list[Any] | None:
    try:
        status = os.stat(f"{folder}/{name}")
    except OSError:
        return None
    return [name, status.st_mtime_ns, status.st_size]


def read_record(folder: str, stamp: Stamp) -> Record:
    """The record of the run in ``folder``, from the files that ``stamp`` names. Never raises for what they hold."""
    if stamp[0][0] == RESULT:
        return _read_result(folder)
    config = _read_yaml(f"{folder}/config.yaml")
    overrides = _read_yaml(f"{folder}/overrides.yaml")
    metrics = latest_metrics(f"{folder}/metrics.jsonl")
    config = config if isinstance(config, dict) else {}
    fields = {"seed": config.get("seed"), "objective_metric": config.get("objective")}
    if "epoch" in metrics:
        fields["epochs_trained"] = metrics["epoch"]
    fields["epochs_total"] = _deep(config, "trainer", "epochs")
    return {
        "status": "running",
        "config": _flat(config),
        "choices": _choices({}, config),
        "metrics": metrics,
        "overrides": [str(text) for text in overrides] if isinstance(overrides, list) else [],
        "fields": {key: value for key, value in fields.items() if value is not None},
    }


def _read_result(folder: str) -> Record:
    try:
        with open(f"{folder}/{RESULT}", "rb") as file:
            result = json.loads(file.read())
        if not isinstance(result, dict):
            raise ValueError("not a mapping")
    except (OSError, ValueError) as error:
        return _broken(f"{RESULT} cannot be read: {error}")
    config = _mapping(result, "config")
    overrides = result.get("overrides")
    status = str(result.get("status", "failed"))
    if status == "finished" and not is_number(result.get("objective", 0.0)):  # as a sweep counts it
        status = "failed"
        result["error"] = result.get("error") or "the objective is not a finite number"
    return {
        "status": status,
        "config": _flat(config),
        "choices": _choices(_mapping(result, "choices"), config),
        "metrics": _mapping(result, "metrics"),
        "overrides": [str(text) for text in overrides] if isinstance(overrides, list) else [],
        "fields": {key: _plain(value) for key, value in result.items() if key not in _NOT_FIELDS and value is not None},
    }


def _broken(error: str) -> Record:
    return {"status": "failed", "config": {}, "choices": {}, "metrics": {}, "overrides": [], "fields": {"error": error}}


def _mapping(result: dict[str, Any], key: str) -> dict[str, Any]:
    value = result.get(key)
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _deep(config: dict[str, Any], *path: str) -> Any:
    value: Any = config
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return flatten({key: value for key, value in config.items() if key != "choices"})


def _choices(recorded: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """Hydra's choices as recorded; a group's class name where nothing was recorded."""
    recorded = recorded or _mapping(config, "choices")
    choices = {str(group): str(choice) for group, choice in recorded.items() if choice is not None}
    for group in _GROUPS:
        target = _deep(config, group, "_target_")
        if group not in choices and isinstance(target, str):
            choices[group] = target.rpartition(".")[2].lower()
    return choices


def _read_yaml(path: str) -> Any:
    import yaml  # type: ignore[import-untyped]  # late: only runs without a result need it

    try:
        with open(path, "rb") as file:
            return yaml.load(file.read(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError):
        return None


def latest_metrics(path: str) -> dict[str, Any]:
    """The newest value of every key of ``metrics.jsonl``, from its end; a line still being written is left out."""
    size = _TAIL_BYTES
    while True:
        lines, whole = _tail(path, size)
        latest: dict[str, Any] = {}
        kinds = set()
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                latest.update(record)
                kinds.add(record.get("kind"))
        if whole or "probe" in kinds or size >= _MAXIMUM_TAIL_BYTES:
            latest.pop("kind", None)
            return latest
        size *= 8


def _tail(path: str, size: int) -> tuple[list[bytes], bool]:
    """The complete lines among the last ``size`` bytes, and whether that is the whole file."""
    try:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - size))
            data = file.read(size)
    except OSError:
        return [], True
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    whole = length <= size
    return (lines if whole else lines[1:]), whole
