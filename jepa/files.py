"""Files that are there whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_text_atomic(path: Path, text: str) -> None:
    """Put ``text`` at ``path``; a reader, and a crash at any moment, finds the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json_atomic(path: Path, value: Any) -> None:
    """Put ``value`` at ``path`` as JSON, with NaN and infinities, which JSON lacks, as null."""
    write_text_atomic(path, json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n")


def to_plain(value: Any) -> Any:
    """``value`` as JSON can hold it, in dictionaries and lists throughout.

    Numbers of numpy and torch become Python's, arrays lists, paths text; a float that is not finite becomes None.
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
