"""Read and write ``archive.jsonl``: the results of a study in one file, for publishing. No other module does.

The first line is the header: the format, the title, the axes of the sweep, values that several runs share, and a
checksum of all other lines. Each other line is one run: its name, its result, and a selection of its records. Runs are
sorted by name, so that git shows each added run as one added line.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jepa.files import Damaged, PathLike, reading, to_plain, write_text_atomic
from jepa.store.layout import ARCHIVE

FORMAT = 1
MOST_RECORDS = 6  # about so many records of a run are kept, in addition to all records of probes
_DIGITS = 6  # significant digits of numbers in records; results keep all digits
_SHARED_FROM = 60  # characters: shorter values are repeated instead of shared
_REFERENCE = "$shared"


@dataclass(frozen=True)
class ArchivedRun:
    """One run: the content of its ``result.json``, and some records of its ``metrics.jsonl``."""

    result: dict[str, Any]
    records: list[dict[str, Any]]


@dataclass(frozen=True)
class Archive:
    """A study. runs: by the names of their folders. axes: the keys that the sweep varies, in order."""

    title: str
    axes: tuple[str, ...] = ()
    runs: dict[str, ArchivedRun] = field(default_factory=dict)


def archived_run(folder: PathLike) -> ArchivedRun | None:
    """The run named like ``folder``, from the archive in the parent folder; None if there is no archive or no such run.

    Raises:
        Damaged: the archive cannot be read.
    """
    place = Path(folder)
    archive = read_archive(place.parent)
    return None if archive is None else archive.runs.get(place.name)


def read_archive(folder: PathLike) -> Archive | None:
    """The archive in ``folder``; None if there is none.

    Raises:
        Damaged: the file cannot be read, was changed since it was written, or is of another version.
    """
    path = Path(folder, ARCHIVE)
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _read(path: Path, mtime_ns: int, size: int) -> Archive:
    with reading(path):
        first, _, body = path.read_text(encoding="utf-8").partition("\n")
        header = json.loads(first)
        if not isinstance(header, dict) or not isinstance(header.get("archive"), int):
            raise Damaged("is no archive of results")
        if header["archive"] != FORMAT:
            raise Damaged(f"is an archive of version {header['archive']}; this program reads version {FORMAT}")
        if header["sha256"] != _digest(body):
            raise Damaged("was changed after it was written (its checksum differs)")
        shared = header["shared"]
        runs = {}
        for line in body.splitlines():
            run = json.loads(line)
            runs[run["name"]] = ArchivedRun(_expanded(run["result"], shared), run["records"])
        return Archive(header["title"], tuple(header["axes"]), runs)


def write_archive(folder: Path, archive: Archive) -> Path:
    """Write ``archive`` into ``folder``, atomically. Returns the path of the file."""
    plain = {name: to_plain(run.result) for name, run in sorted(archive.runs.items())}
    shared = _shared(plain.values())
    places = {text: number for number, text in enumerate(shared)}
    lines = []
    for name, result in plain.items():
        records = [_rounded(record) for record in thinned(archive.runs[name].records)]
        lines.append(_text({"name": name, "records": records, "result": _compact(result, places)}) + "\n")
    body = "".join(lines)
    header = {
        "archive": FORMAT,
        "title": archive.title,
        "axes": list(archive.axes),
        "sha256": _digest(body),
        "shared": [json.loads(text) for text in shared],
    }
    path = folder / ARCHIVE
    write_text_atomic(path, json.dumps(header, allow_nan=False) + "\n" + body)
    return path


def thinned(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Select records: all records of probes, and at most MOST_RECORDS evenly spaced others, including the last one."""
    others = [number for number, record in enumerate(records) if record.get("kind") != "probe"]
    step = max(1, -(-len(others) // MOST_RECORDS))
    kept = set(others[::-1][::step])
    return [record for number, record in enumerate(records) if number in kept or record.get("kind") == "probe"]


def _rounded(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) and value == value else to_plain(value)
        for key, value in record.items()
    }


def _parts(result: Mapping[str, Any]) -> Iterable[tuple[str, str | None, Any]]:
    """Yield (entry, section or None, value): the entries of a result; for its configuration, one for each section."""
    for key, value in result.items():
        if key == "config" and isinstance(value, dict):
            yield from ((key, section, part) for section, part in value.items())
        else:
            yield key, None, value


def _shared(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The sorted JSON texts of the long values that occur in several results."""
    counts = Counter(_text(value) for result in results for _, _, value in _parts(result))
    return sorted(text for text, count in counts.items() if count > 1 and len(text) >= _SHARED_FROM)


def _compact(result: Mapping[str, Any], places: Mapping[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, section, value in _parts(result):
        place = places.get(_text(value))
        short = value if place is None else {_REFERENCE: place}
        if section is None:
            found[key] = short
        else:
            found.setdefault(key, {})[section] = short
    return found


def _expanded(result: Mapping[str, Any], shared: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, section, value in _parts(result):
        whole = shared[value[_REFERENCE]] if isinstance(value, dict) and _REFERENCE in value else value
        if section is None:
            found[key] = whole
        else:
            found.setdefault(key, {})[section] = whole
    return found


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
