"""Read a run's folder into a record: from ``result.json`` if it exists, else from the files of the unfinished run."""

from __future__ import annotations

import json
import os
from typing import Any

from jepa.files import Damaged
from jepa.results.records import flatten
from jepa.store.config import format_of, read_config, read_overrides
from jepa.store.layout import CONFIG, LOCK, METRICS, OVERRIDES, RESULT
from jepa.store.metrics import latest_metrics
from jepa.store.result import counted, is_number, read_result

UNFINISHED = (CONFIG, OVERRIDES, METRICS)  # files of an unfinished run, which locks its folder before writing them

_NOT_FIELDS = frozenset({"status", "metrics", "config", "choices", "overrides", "code", "checksum", "judge_stream"})
_GROUPS = ("model", "dataset", "optimizer", "trainer", "probe")
_REMOVE_RESULT = "remove that file; the same command then goes on from the run's checkpoint"
_REMOVE_FOLDER = "remove the folder; the same command then runs this run anew"

Stamp = list[list[Any]]  # [[file name, modification time in ns, size in bytes], ...]
Record = dict[str, Any]  # {"status", "config" (flat), "choices", "metrics", "overrides", "fields"}: only JSON types


def stamp_of(folder: str) -> Stamp:
    """The names, times and sizes of a run's files, which change with the files; empty if ``folder`` is not a run's.

    A folder with only a ``config.yaml`` is not a run's, unless it also has a lock file. A folder of configurations may
    hold a ``config.yaml``, but a run has locked its folder.
    """
    found = _stat(folder, RESULT)
    if found:
        return [found]
    stamp = [entry for entry in (_stat(folder, name) for name in UNFINISHED) if entry]
    if len(stamp) == 1 and stamp[0][0] == CONFIG and not os.path.lexists(f"{folder}/{LOCK}"):
        return []
    return stamp


def _stat(folder: str, name: str) -> list[Any] | None:
    path = f"{folder}/{name}"
    try:
        status = os.stat(path)
    except OSError:
        return [name, 0, -1] if os.path.islink(path) else None  # a broken link counts as a damaged file
    return [name, status.st_mtime_ns, status.st_size]


def read_record(folder: str, stamp: Stamp) -> Record:
    """Read the record of the run in ``folder``, from the files that ``stamp`` names. Damaged files raise nothing.

    If a file is damaged, the status is "damaged". The field ``error`` names the file, and ``remedy`` the remedy.
    """
    result, damage = None, ""
    if stamp[0][0] == RESULT:
        try:
            result = read_result(folder)
        except Damaged as error:
            damage = f"{RESULT} {error.reason}"
    if result is not None:
        return record_of(result)
    record = _unfinished(folder)
    return _damaged(record, damage, _REMOVE_RESULT) if damage else record


def record_of(result: dict[str, Any]) -> Record:
    """The record of a run that has ended. result: the content of ``result.json``."""
    return _finished(counted(result))


def _damaged(record: Record, error: str, remedy: str) -> Record:
    return {**record, "status": "damaged", "fields": {**record["fields"], "error": error, "remedy": remedy}}


def _unfinished(folder: str) -> Record:
    config: dict[str, Any] = {}
    overrides: list[str] = []
    damage = ""
    try:
        config = read_config(folder) or {}
        damage = "" if config else f"{CONFIG} is missing or empty"
        overrides = read_overrides(folder) or []  # no file: the run was killed before it wrote the overrides
    except Damaged as error:
        damage = f"{error.path.name if error.path else 'a file'} {error.reason}"
    metrics = f"{folder}/{METRICS}"
    if os.path.lexists(metrics) and not os.path.isfile(metrics):
        damage = damage or f"{METRICS} is no file"
    latest = latest_metrics(folder)
    fields = {
        "seed": config.get("seed"),
        "objective_metric": config.get("objective"),
        "epochs_trained": latest.get("epoch"),
        "epochs_total": _mapping(config, "trainer").get("epochs"),
        "format": format_of(config),
    }
    record = _record("running", config, {}, latest, overrides, fields)
    return _damaged(record, damage, _REMOVE_FOLDER) if damage else record


def _finished(result: dict[str, Any]) -> Record:
    fields = {key: value for key, value in result.items() if key not in _NOT_FIELDS}
    code = _mapping(result, "code")
    fields["code_fingerprint"] = code.get("fingerprint")
    if code.get("commit"):
        fields["code_commit"] = f"{code['commit']}{', with changes' if code.get('dirty') else ''}"
    config, choices, overrides = _mapping(result, "config"), _mapping(result, "choices"), result.get("overrides")
    overrides = overrides if isinstance(overrides, list) else []
    return _record(result["status"], config, choices, result["metrics"], overrides, fields)


def _record(
    status: str,
    config: dict[str, Any],
    choices: dict[str, Any],
    metrics: dict[str, Any],
    overrides: list[Any],
    fields: dict[str, Any],
) -> Record:
    return {
        "status": status,
        "config": _flat(config),
        "choices": _choices(choices, config),
        "metrics": _numbers(metrics),
        "overrides": [str(text) for text in overrides],
        "fields": {key: _plain(value) for key, value in fields.items() if value is not None},
    }


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that are numbers or lists of numbers. A null stands for a number that is not finite."""
    return {
        key: value
        for key, value in metrics.items()
        if _is_measured(value) or (isinstance(value, list) and all(map(_is_measured, value)))
    }


def _is_measured(value: Any) -> bool:
    return value is None or is_number(value)


def _mapping(result: dict[str, Any], key: str) -> dict[str, Any]:
    value = result.get(key)
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """``value`` itself if it is a JSON scalar, else its text."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat = flatten({key: value for key, value in config.items() if key != "choices"})
    return {key: value if value is None else _plain(value) for key, value in flat.items()}


def _choices(recorded: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """The recorded choice of each config group; the lower-case class name of a group without a recorded choice."""
    recorded = recorded or _mapping(config, "choices")
    choices = {str(group): str(choice) for group, choice in recorded.items() if choice is not None}
    for group in _GROUPS:
        target = _mapping(config, group).get("_target_")
        if group not in choices and isinstance(target, str):
            choices[group] = target.rpartition(".")[2].lower()
    return choices
