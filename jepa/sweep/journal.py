"""Repair a damaged journal, the file in which Optuna stores the trials of a search."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jepa.files import write_text_atomic
from jepa.store.locks import Lock

log = logging.getLogger(__name__)

# Operations in Optuna's journal, and the direction of a study.
_CREATE_STUDY, _CREATE_TRIAL, _SET_PARAM, _SET_STATE, _MINIMIZE = 0, 4, 5, 6, 1
_MENDER = "mended"  # the worker_id of records that the repair adds


def cut_torn_end(path: Path, lock: Lock) -> bool:
    """Cut off an unfinished last line, such as a power loss leaves.

    Without this, the next record would be appended to the unfinished line, and Optuna could not read it.

    Returns:
        Whether the last line is then a valid record, or the journal is empty or missing.
    """
    if not path.exists():
        return True
    with lock, open(path, "r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            file.truncate(len(content))
    return not content or _record(content[content.rfind(b"\n", 0, -1) + 1 :]) is not None


def mend(path: Path, lock: Lock, name: str) -> str:
    """Repair a journal with damaged lines. A copy of the damaged journal is kept beside it.

    Damaged lines are dropped. Where the line that creates a study or a trial was lost, a new one is written, so the
    trials keep their numbers. The search later draws lost parameters again and reads lost results from disk.

    Args:
        path: the journal.
        lock: the lock of the journal.
        name: the name of the study, used where the line that creates the study is damaged.

    Returns:
        A line that reports the repair.
    """
    with lock:
        lines = path.read_bytes().splitlines(keepends=True)
        sound = [found for line in lines for found in _sound_parts(line)]
        kept = path.with_name(f"{path.name}.damaged")
        shutil.copyfile(path, kept)
        records = list(_completed(sound, name))
        write_text_atomic(path, "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))
    lost = len(lines) - sum(record["worker_id"] != _MENDER for record in records)
    return f"{path}: damaged; {lost} of {len(lines)} lines are left out, and the file as it was is {kept.name}"


def _sound_parts(line: bytes) -> list[dict[str, Any]]:
    """The valid record in a line, as a list of at most one. After a torn record on the same line, the next record."""
    for start in (match.start() for match in re.finditer(rb'\{"op_code"', line)):
        record = _record(line[start:])
        if record is not None:
            return [record]
    return []


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in a line; None if the line is not a valid record."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("op_code"), int) else None


def _completed(records: list[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """The ``records`` that Optuna accepts, and new records for a lost study or trial that later records refer to."""
    from optuna.storages.journal._storage import JournalStorageReplayResult

    replay = JournalStorageReplayResult(_MENDER)
    studies = trials = 0
    incomplete = _incomplete(records)
    for record in records:
        if record["op_code"] == _SET_STATE and record.get("trial_id") in incomplete:
            continue  # the trial becomes open: the same parameters are drawn, and the result is told again
        operation, trial = record["op_code"], record.get("trial_id", -1)
        wanted = [record]
        if studies == 0 and operation != _CREATE_STUDY:
            wanted.insert(0, {"op_code": _CREATE_STUDY, "study_name": name, "directions": [_MINIMIZE]})
        if trial == trials:
            now = datetime.now(timezone.utc).isoformat()
            wanted.insert(-1, {"op_code": _CREATE_TRIAL, "study_id": 0, "datetime_start": now})
        elif not isinstance(trial, int) or trial > trials:
            continue
        for one in wanted:
            one.setdefault("worker_id", _MENDER)
            try:
                replay.apply_logs([one])
            except Exception:
                log.debug("left out: %s", one, exc_info=True)
                continue
            studies += one["op_code"] == _CREATE_STUDY
            trials += one["op_code"] == _CREATE_TRIAL
            yield one


def _incomplete(records: list[dict[str, Any]]) -> set[int]:
    """The ids of trials that lost a parameter: they have fewer parameters than other trials."""
    names: dict[Any, set[Any]] = {}
    for record in records:
        if record["op_code"] in (_SET_PARAM, _SET_STATE):
            names.setdefault(record.get("trial_id"), set())
        if record["op_code"] == _SET_PARAM:
            names[record.get("trial_id")].add(record.get("param_name"))
    full = max(map(len, names.values()), default=0)
    return {trial for trial, known in names.items() if len(known) < full}
