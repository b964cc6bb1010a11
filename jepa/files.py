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
    write_text_atomic(path, json.dumps(finite(value), indent=2) + "\n")


def finite(value: Any) -> Any:
    """``value`` with every float that is not finite replaced by None, in dictionaries and lists throughout."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
