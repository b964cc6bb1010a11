"""Read and write ``metrics.jsonl``: the measurements of a run, one record a line. No other module does.

A record has "step", "epoch", "time_s", "kind" ("train" or "probe") and numbers by name. NaN is written as null. Lines
that cannot be read are skipped: the last line may be incomplete, and a kill may have cut a line short.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from jepa.files import PathLike, to_plain, write_text_atomic
from jepa.store.layout import METRICS

_TAIL_BYTES, _MOST_BYTES = 2**14, 2**22


class Tail(NamedTuple):
    """The end of the file."""

    records: list[dict[str, Any]]
    written: float | None  # time of the last write, in seconds since 1970; None: the file does not exist
    whole: bool  # whether ``records`` are all records of the file


def read_metrics(folder: PathLike) -> list[dict[str, Any]]:
    """All records; empty if there is no file."""
    return metrics_tail(folder, sys.maxsize).records


def metrics_tail(folder: PathLike, num_bytes: int = _TAIL_BYTES) -> Tail:
    """The records in the last ``num_bytes`` of the file."""
    try:
        with open(Path(folder) / METRICS, "rb") as file:
            status = os.fstat(file.fileno())
            file.seek(max(0, status.st_size - num_bytes))
            lines = file.read(min(num_bytes, status.st_size)).splitlines()
    except OSError:
        return Tail([], None, whole=True)
    # The tail may begin within a line. The rest of such a line is no record and is skipped.
    records = [record for line in lines if (record := _parsed(line)) is not None]
    return Tail(records, status.st_mtime, whole=status.st_size <= num_bytes)


def latest_metrics(folder: PathLike) -> dict[str, Any]:
    """The newest value of every name. The file is read backwards until it includes a probe, at most _MOST_BYTES."""
    size = _TAIL_BYTES
    while True:
        found = metrics_tail(folder, size)
        if found.whole or size >= _MOST_BYTES or any(record.get("kind") == "probe" for record in found.records):
            merged = {name: value for record in found.records for name, value in record.items()}
            merged.pop("kind", None)
            return merged
        size *= 8


def recorded_bytes(folder: PathLike) -> int:
    """The size of the file, which grows while a run makes progress; 0 without a file."""
    try:
        return os.stat(Path(folder) / METRICS).st_size
    except OSError:
        return 0


def begin_metrics(folder: Path, records: Iterable[Mapping[str, Any]]) -> IO[str]:
    """Replace the file by one with these records, atomically. Returns the file opened for :func:`append_record`."""
    write_text_atomic(folder / METRICS, "".join(map(_line, records)))
    return (folder / METRICS).open("a", encoding="utf-8", newline="\n")


def append_record(file: IO[str], record: Mapping[str, Any]) -> None:
    """Write one record and flush it."""
    file.write(_line(record))
    file.flush()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(to_plain(record), allow_nan=False) + "\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
