"""Checks of the open nodes. A node with ``_target_`` accepts the keys that the constructor of its class accepts."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, Node

from jepa.config.conditions import KEY as CONDITIONS_KEY
from jepa.config.conditions import condition_nodes, in_condition, training_node
from jepa.config.extensions import OWN, allowed_packages
from jepa.config.schema import join, unknown_key
from jepa.config.search_path import group_options
from jepa.errors import ConfigError, shown

# Each of these keys maps names to components, any number of them.
COLLECTIONS = ("model.terms", "dataset.distractors", "probe.targets", "logger")
# Collections whose options are composed under a name of the user's own, with the config group of those options.
NAMED_GROUPS = {"model.terms": "model/term", "dataset.distractors": "dataset/distractor"}
CONDITION_GROUP = "dataset/condition"  # noise under one name, composed into the data set or one of its conditions
# Maps a configuration key to a base class. The component at this key must derive from it; at a key of COLLECTIONS, each
# entry must. ``jepa.prepare`` provides the mapping, because this module must not import the components.
Bases = Mapping[str, type]
OPTIONAL = ("dataset.texture", "plan")  # components that may be null
OPEN_NODES = ("dataset", "optimizer", "model", "probe", "logger", "plan")
_CONTROL_KEYS = frozenset({"_target_", "_partial_"})
_ABSENT = object()
_KEY_IN_MESSAGE = re.compile(r"^(?P<key>\w+)=")
_REFERENCE = re.compile(r"^\$\{(?P<key>[\w.]+)\}$")


def check_open(plain: Mapping[str, Any], bases: Bases, references: Mapping[str, str] | None = None) -> None:
    """Check that every class named by ``_target_`` exists and accepts the keys of its node. Imports these classes.

    plain: the resolved configuration.
    bases: the required base class for each key.
    references: result of :func:`references`. A key that another key refers to need not be accepted by a class.

    Raises:
        ConfigError: the class does not exist, its constructor does not accept a key, or ``_target_`` is missing.
    """
    packages = allowed_packages(plain.get("extensions") or [])
    dataset = plain["dataset"]
    plain = {**plain, "dataset": training_node(dataset)}
    for condition, changed in condition_nodes(dataset).items():
        try:
            check_open({**plain, "dataset": changed}, bases, references)
        except ConfigError as error:
            raise in_condition(error, condition) from error
    for name in OPEN_NODES:
        if plain[name] is None and name in OPTIONAL:
            continue
        for path, group in NAMED_GROUPS.items():
            if group.replace("/", ".").removeprefix(f"{name}.") in plain[name]:
                raise needs_name(path, group)
        if name == "dataset" and CONDITION_GROUP.partition("/")[2] in plain[name]:
            raise needs_place()
        if "_target_" not in plain[name] and name not in COLLECTIONS:
            raise ConfigError(f"{name}._target_: is missing; choose an option, for example by {name}=...")
        _check_collections(plain[name], name, bases)
        for path, node in _targets(plain[name], name):
            _check_keys(path, node, bases, set((references or {}).values()), packages)
        for path in (path for path in bases if path.startswith(f"{name}.") and path not in COLLECTIONS):
            key = path.rpartition(".")[2]
            part = plain[name].get(key, _ABSENT)
            if part is None and path in OPTIONAL:
                continue
            if part is not _ABSENT and not (isinstance(part, Mapping) and "_target_" in part):
                group = path.replace(".", "/")
                option = part if isinstance(part, str) and part in group_options(group) else "NAME"
                options = ", ".join(group_options(group))
                raise ConfigError(f"{path}={shown(part)}: is chosen with a slash: {group}={option} (one of {options})")
        for path, value in _leaves(plain[name], name):
            if isinstance(value, str) and value in group_options(path.replace(".", "/")):
                group = path.replace(".", "/")
                raise ConfigError(f"{path}={shown(value)}: is chosen with a slash: {group}={value}")


def _check_collections(section: Mapping[str, Any], name: str, bases: Bases) -> None:
    """Check that the collections of components in ``section`` (terms, distractors, targets) hold only components."""
    for path in COLLECTIONS:
        parent, _, key = path.partition(".")
        if parent != name or (key and key not in section):
            continue
        found = section[key] if key else section
        group = path.replace(".", "/")
        entries = {f"{path}.{entry}": part for entry, part in found.items()} if isinstance(found, Mapping) else {}
        named_group = NAMED_GROUPS.get(path)
        for given, value in {path: found, **entries}.items():
            if named_group is not None and isinstance(value, str) and value in group_options(named_group):
                raise needs_name(path, named_group, value)
            if isinstance(value, str) and value in group_options(group):
                raise ConfigError(f"{given}={shown(value)}: is chosen with a slash: {group}={value}")
        if not isinstance(found, Mapping):
            raise ConfigError(f"{path}={shown(found)}: must hold components by name, {{}} for none")
        for entry, part in found.items():
            if part is None and path == "logger":  # this logger is switched off
                continue
            if not (isinstance(part, Mapping) and "_target_" in part):
                raise ConfigError(
                    f"{path}.{entry}={shown(part)}: must name a class in _target_, derived from {_name(bases[path])}"
                )


def needs_name(collection: str, group: str, option: str = "NAME") -> ConfigError:
    """The error for an option of ``group`` that is not given an entry of ``collection``."""
    options = ", ".join(group_options(group))
    return ConfigError(
        f"{group}={option}: needs an entry of {collection}; write +{group}@{collection}.{option}={option}"
        + ("" if option != "NAME" else f" (one of {options})")
    )


def needs_place() -> ConfigError:
    """The error for a condition without the place where it is composed."""
    return ConfigError(
        f"{CONDITION_GROUP}=NAME: needs a place; to train under it write +{CONDITION_GROUP}@dataset=NAME, to be probed "
        f"under it +{CONDITION_GROUP}@dataset.eval.NAME=NAME (one of {', '.join(group_options(CONDITION_GROUP))})"
    )


def references(cfg: DictConfig, section: str) -> dict[str, str]:
    """Map each key below ``section`` whose value refers to another key (``${model.sim_coeff}``) to that other key.

    A yaml file uses a reference to give a number inside a component a short or published name.
    """
    found: dict[str, str] = {}

    def walk(node: DictConfig, path: str) -> None:
        for key in node:
            child, name = node._get_node(key), join(path, str(key))
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
                walk(child, name)
            elif isinstance(child, Node) and (match := _REFERENCE.match(str(child._value()))):
                found[name] = match["key"]

    walk(cfg[section], section)
    return found


def qualified(
    error: ConfigError, section: str, plain: Mapping[str, Any], references: Mapping[str, str] | None = None
) -> ConfigError:
    """Return ``error`` with the full name of its key.

    A constructor knows only the last part of a key of ``section``. If several keys end in this part, choose the key
    with the value in the message. If ``references`` maps this key to another key, name the other: the user sets it.
    """
    found = _KEY_IN_MESSAGE.match(str(error))
    if not found or found["key"] in plain:
        return error
    rest = str(error)[found.end("key") :]
    named = {path: value for path, value in _values(plain[section], section) if path.rpartition(".")[2] == found["key"]}
    with_value = [path for path, value in named.items() if rest.startswith(f"={value!r}:")]
    paths = [*with_value, *named]
    return ConfigError((references or {}).get(paths[0], paths[0]) + rest) if paths else error


def _targets(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path and the content of ``node`` and of each node below it that has a ``_target_``."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, join(path, str(key)))


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each key at or below ``path`` whose value is not a mapping."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, join(path, str(key)))
    else:
        yield path, node


def _values(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each key below ``path``, mappings included."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield join(path, str(key)), value
            yield from _values(value, join(path, str(key)))


def _place(path: str) -> str:
    """The key of ``Bases`` for the component at ``path``; for an entry of a collection, the collection's key."""
    for collection in COLLECTIONS:
        if path.startswith(f"{collection}."):
            _, *part = path[len(collection) + 1 :].split(".")
            return ".".join([collection.partition(".")[0], *part]) if part else collection
    return path


def _name(base: type) -> str:
    return f"{base.__module__}.{base.__qualname__}"


def _check_keys(
    path: str, node: Mapping[str, Any], bases: Bases, referred_to: Collection[str], packages: Collection[str]
) -> None:
    place = _place(path)
    located = _located(f"{path}._target_", node["_target_"], packages)
    _check_kind(path, node["_target_"], located, bases.get(place))
    partial = node.get("_partial_", False)
    # A model builds its parts and passes them sizes, so parts are partial. A term is built first and gets sizes later.
    if partial is not (path.startswith("model.") and place != "model.terms"):
        raise ConfigError(f"{path}._partial_={shown(partial)}: must stay as the options of the group have it")
    parameters = _parameters(located)
    if parameters is None:
        return
    if place in COLLECTIONS:  # yaml gives all arguments of an entry
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in node:
                raise ConfigError(f"{join(path, name)}: is missing")
    for key in node:
        if key not in parameters and key not in _CONTROL_KEYS and join(path, str(key)) not in referred_to:
            given = [name for name in parameters if name != "self"] + ([CONDITIONS_KEY] if path == "dataset" else [])
            if path in {name.partition(".")[0] for name in referred_to} and not isinstance(node[key], Mapping):
                raise ConfigError(
                    f"{join(path, str(key))}: no part of {path} takes its value from this key any more; set "
                    f"{join(path, str(key))} rather than the key of the part"
                )
            raise unknown_key(join(path, str(key)), (join(path, name) for name in given))


def _parameters(located: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The parameters that a class accepts by name.

    If a constructor has ``**kwargs``, the parameters of its base class's constructor are included. Returns None if the
    last constructor in this chain has ``**kwargs``, since any name could then be accepted.
    """
    if not isinstance(located, type):
        return dict(inspect.signature(located).parameters)
    found: dict[str, inspect.Parameter] = {}
    constructors = [owner for owner in located.__mro__ if "__init__" in vars(owner) and owner is not object]
    for owner in constructors:
        own = inspect.signature(owner).parameters
        found = {**own, **found}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            return {name: value for name, value in found.items() if value.kind is not value.VAR_KEYWORD}
    return None if constructors else {}


def _check_kind(path: str, target: object, located: Callable[..., Any], base: type | None) -> None:
    if base is None:
        raise ConfigError(f"{path}._target_={shown(target)}: no component stands here")
    if not (isinstance(located, type) and issubclass(located, base)) or inspect.isabstract(located):
        options = group_options(path.replace(".", "/"))
        example = f", as of {path.replace('.', '/')}=NAME (one of {', '.join(options)})" if options else ""
        raise ConfigError(f"{path}._target_={shown(target)}: must be a class derived from {_name(base)}{example}")


def _located(key: str, target: object, packages: Collection[str]) -> Callable[..., Any]:
    module, _, name = str(target).rpartition(".")
    package = module.partition(".")[0]
    if package not in packages or not re.fullmatch(r"[a-zA-Z]\w*(\.[a-zA-Z]\w*)*", module):
        also = f"; extensions=[{package}] allows it" if re.fullmatch(r"[a-zA-Z]\w*", package) and package != OWN else ""
        raise ConfigError(f"{key}={shown(target)}: must name a class of the package {' or '.join(packages)}{also}")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key}={shown(target)}: no module {error.name!r}") from error
    except AttributeError:
        raise ConfigError(f"{key}={shown(target)}: no {name!r} in {module}") from None
    if not callable(found):
        raise ConfigError(f"{key}={shown(target)}: cannot be called")
    return found  # type: ignore[no-any-return]
