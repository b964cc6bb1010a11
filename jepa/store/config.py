"""Read and write ``config.yaml`` and ``overrides.yaml``, the configuration of a run. No other module does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jepa.files import Damaged, PathLike, reading, write_text_atomic
from jepa.store.layout import CONFIG, OVERRIDES

FORMAT = 2
"""The format of configurations, which results record.

Increase the number when the form of configurations changes so that the same command makes a new run.
"""

_FIRST_DATA_SET = "jepa.data.stream.MovingDots"  # the target of the data set in format 1
_DEEPEST = 100  # the deepest nesting that is read; configurations have about five levels


def read_config(folder: PathLike) -> dict[str, Any] | None:
    """The configuration in ``folder``, nested; None if there is none.

    Raises:
        Damaged: the file cannot be read, or holds no configuration.
    """
    config: dict[str, Any] | None = _read_yaml(Path(folder, CONFIG), dict)
    return config


def read_overrides(folder: PathLike) -> list[str] | None:
    """The overrides of the run in ``folder``, as on the command line; None if there is no file.

    Raises:
        Damaged: the file cannot be read, or holds no list.
    """
    overrides = _read_yaml(Path(folder, OVERRIDES), list)
    return None if overrides is None else [str(text) for text in overrides]


def write_config(folder: PathLike, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Write both files, each atomically."""
    from omegaconf import OmegaConf

    write_text_atomic(Path(folder, CONFIG), OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    write_text_atomic(Path(folder, OVERRIDES), OmegaConf.to_yaml(OmegaConf.create(list(overrides))))


def flat(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A nested configuration as dotted key -> value. An empty mapping counts as a value."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{path}{key}."))
        else:
            found[f"{path}{key}"] = value
    return found


def format_of(config: Mapping[str, Any]) -> int:
    """The format of a configuration, for runs without a result that records the format."""
    dataset = config.get("dataset")
    return 1 if isinstance(dataset, Mapping) and dataset.get("_target_") == _FIRST_DATA_SET else FORMAT


def _read_yaml(path: Path, kind: type) -> Any:
    """The content of a yaml file, which must be of the type ``kind``; None if there is no file. Raises Damaged."""
    import yaml  # type: ignore[import-untyped]  # late, because only runs without a result need yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with reading(path):
            content = path.read_bytes()
            depth = 0
            # The loader recurses in C. Very deep nesting would crash the process, so check the depth first.
            for event in yaml.parse(content, Loader=loader):
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > _DEEPEST:
                    raise Damaged("is nested too deeply")
            value = yaml.load(content, Loader=loader)
            if not isinstance(value, kind):
                raise Damaged("does not hold what a run writes there")
    except FileNotFoundError:
        return None
    return value
