"""Finds the yaml files, next to the package in a checkout or inside the installed package, and shows them to Hydra."""

import os
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from jepa.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
SWEEP_GROUP = "sweep"
PRESET_GROUP = "reproduce"  # its options are KIND/COEFFICIENT/METHOD
SCALE_GROUP = "scale"  # the folders in it are parts of its options


def config_dir() -> Path:
    """The folder of ``config.yaml`` and the groups."""
    return _data_dir("conf", "config.yaml")


def sweeps_dir() -> Path:
    """The folder of the sweep files."""
    return _data_dir("sweeps", "")


def _data_dir(name: str, marker: str) -> Path:
    beside = _PACKAGE.parent / name
    # setup.cfg identifies a checkout. A folder of this name next to an installed package belongs to another project.
    if (beside / marker).exists() and (_PACKAGE.parent / "setup.cfg").is_file():
        return beside
    return _PACKAGE / name


def read_mapping(path: Path, *, like: str) -> tuple[str, DictConfig]:
    """The text of a yaml file and the mapping that it holds. like: an example of such a mapping, for messages.

    Raises:
        ConfigError: the file is not text, not yaml, or not a mapping; names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        config = OmegaConf.create(text) if text.strip() else OmegaConf.create({})
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"{path}{where}: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}, line {line}: a character that yaml does not allow ({error.reason})") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply, or within itself") from error
    except Exception as error:  # constructors of yaml and OmegaConf may raise any exception
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: {words}") from error
    if not isinstance(config, DictConfig):
        raise ConfigError(f"{path}: must be a mapping, as in {like!r}")
    return text, config


def read_sweep_file(path: Path) -> tuple[str, DictConfig]:
    """The text and the content of a sweep file. Raises as :func:`read_mapping`."""
    return read_mapping(path, like="axes: {seed: [0, 1]}")


class SweepFiles(ConfigSource):
    """The folder ``sweeps/`` as the config group ``sweep``: ``+sweep=NAME`` composes ``sweeps/NAME.yaml``."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)

    @staticmethod
    def scheme() -> str:
        """The scheme of this source in Hydra's search path."""
        return "sweeps"

    def load_config(self, config_path: str) -> ConfigResult:
        """The sweep file ``config_path``, with the package from its header."""
        path = self._file(config_path)
        if path is None or not path.is_file():
            raise ConfigLoadError(f"Config not found : {config_path}")
        text, config = read_sweep_file(path)
        return ConfigResult(
            config=config,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=ConfigSource._get_header_dict(text),
        )

    def available(self) -> bool:
        """Whether the folder exists."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Whether ``config_path`` is the group ``sweep`` or a folder in it."""
        path = self._file(config_path, suffix="")
        return path is not None and path.is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether the sweep file ``config_path`` exists."""
        path = self._file(config_path)
        return path is not None and path.is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names of files and folders in a folder."""
        if config_path.strip("/") == "":
            return [] if results_filter == ObjectType.CONFIG else [SWEEP_GROUP]
        folder = self._file(config_path, suffix="")
        found: list[str] = []
        for name in sorted(os.listdir(folder)) if folder is not None and folder.is_dir() else []:
            self._list_add_result(
                files=found, file_path=f"{config_path}/{name}", file_name=name, results_filter=results_filter
            )
        return sorted(set(found))

    def _file(self, config_path: str, suffix: str = ".yaml") -> Path | None:
        group, _, name = config_path.strip("/").partition("/")
        if group != SWEEP_GROUP:
            return None
        if suffix and name.endswith(suffix):
            name = name[: -len(suffix)]
        return Path(self.path.split("://")[-1]) / (name + (suffix if name else ""))


class SearchPath(SearchPathPlugin):
    """Adds the sweep files to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the source of the sweep files. Hydra calls this function when it starts."""
        if sweeps_dir().is_dir():
            search_path.append(provider="jepa", path=f"{SweepFiles.scheme()}://{sweeps_dir()}")


def register_search_path() -> None:
    """Register the sweep files with Hydra. A second call changes nothing."""
    Plugins.instance().register(SweepFiles)
    Plugins.instance().register(SearchPath)


def groups() -> list[str]:
    """Every config group of this project, by its full name: each folder with yaml files, and ``sweep``."""
    folders = {path.parent.relative_to(config_dir()) for path in config_dir().rglob("*.yaml")}
    nested = (f"{PRESET_GROUP}/", f"{SCALE_GROUP}/")
    names = {name for folder in folders if not (name := folder.as_posix()).startswith(nested)} - {"."}
    names |= {PRESET_GROUP} if any(folder.parts[0:1] == (PRESET_GROUP,) for folder in folders) else set()
    return sorted(names | ({SWEEP_GROUP} if group_options(SWEEP_GROUP) else set()))


def group_options(group: str) -> list[str]:
    """The options of a config group of this project; empty if there is no such group."""
    if group == PRESET_GROUP:
        folder = config_dir() / group
        return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*/*.yaml"))
    top, _, below = group.partition("/")
    folder = sweeps_dir() / below if top == SWEEP_GROUP else config_dir() / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def has_key(group: str, option: str, key: str) -> bool:
    """Whether the file of an option sets ``key``, itself or through the options of its group that it starts from."""
    file = config_dir() / group / f"{option}.yaml"
    if not file.is_file():
        return False
    node: Any = read_mapping(file, like="defaults: [_self_]")[1]
    inherited = [str(name) for name in node.get("defaults", []) if isinstance(name, str) and name != "_self_"]
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node or node._is_none():
            return any(has_key(group, name, key) for name in inherited)
        node = node._get_node(part)
    return True


def parts(group: str, option: str) -> set[str]:
    """The groups within ``group`` that an option takes one option of: encoder, predictor and others for a model."""
    file = config_dir() / group / f"{option}.yaml"
    found: set[str] = set()
    for entry in read_mapping(file, like="defaults: [_self_]")[1].get("defaults", []) if file.is_file() else []:
        if isinstance(entry, str):
            found |= set() if entry == "_self_" else parts(group, entry)
        else:
            found |= {str(name) for name in entry}
    return found
