"""The logger that writes runs of wandb. No other module imports wandb; this one does when a run starts."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jepa.errors import ConfigError, check_choice, shown
from jepa.files import write_text_atomic
from jepa.loggers.base import Logger, RunInfo

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
_OTHER_MODES = {"dryrun": "offline", "run": "online", "shared": "online"}  # that WANDB_MODE may name as well
DEFAULT_PROJECT = "jepa"
LONGEST_TAG = 64  # characters; wandb refuses a run with a longer one
PROVENANCE = ("config_hash", "command", "code", "git_commit", "versions")  # of the record, for wandb's config
_INIT_TIMEOUT_S = 20.0  # how long to wait for the server before going offline
_FINISH_TIMEOUT_S = 60.0  # how long to wait for uploads at the end; what is missing stays on disk, for `wandb sync`


class WandbLogger(Logger):
    """One wandb run a job, with the resolved config, metrics, plots and the summary.

    Nothing that wandb does stops a run: without a login or a network, "online" becomes offline with one warning; any
    other error of wandb's ends the logger with one warning. What was written lies in ``wandb/`` of the run's folder,
    for ``wandb sync``. A run that is resumed goes on under the same wandb id, which is kept in ``wandb/id.txt``.
    """

    def __init__(
        self,
        *,
        mode: str | None,
        project: str | None,
        entity: str | None,
        group: str | None,
        name: str | None,
        tags: Sequence[str],
    ) -> None:
        """Args:
        mode: "offline", "online" or "disabled"; None: as WANDB_DISABLED or WANDB_MODE say, else "offline".
        project, entity, group, name: wandb's own terms; None: as wandb's environment variables say.
        tags: wandb's as well, beside the model's name; each is cut to the length that wandb takes.

        Raises:
            ConfigError: an unknown mode, or a value that is no text.
        """
        _check_texts({"mode": mode, "project": project, "entity": entity, "group": group, "name": name}, tags)
        self._mode = _mode_from_environment() if mode is None else check_choice("mode", mode, MODES)
        self._name = name or os.environ.get("WANDB_NAME")
        self._labels: dict[str, Any] = {
            "project": project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
            "entity": entity or os.environ.get("WANDB_ENTITY") or None,
            "group": group or os.environ.get("WANDB_RUN_GROUP") or None,
        }
        self._tags = list(tags)
        self._run: Any = None
        self._step = 0

    def start(self, run: RunInfo) -> None:
        """Open a wandb run; ``run.record["config"]`` and the run's provenance become its config."""
        self._step = run.step
        if self._mode == "disabled":
            return
        self._labels["group"] = self._labels["group"] or run.sweep
        self._labels["tags"] = shortened([*self._tags, *_model_tag(run, self._tags)])
        modes: tuple[Literal["online", "offline"], ...] = (
            ("online", "offline") if self._mode == "online" else ("offline",)
        )
        for mode in modes:
            try:
                self._run = self._open(run.folder, run.record, mode, new_id=mode != modes[0])
                self._run.define_metric("*", step_metric="step")
                return
            except Exception as error:
                self._run = None
                then = "going on offline" if mode == "online" else "the run goes on without it"
                log.warning("wandb (%s): %s; %s", mode, _first_line(error), then)

    def record(self, record: Mapping[str, Any]) -> None:
        """Log one record; its "step" is the axis (wandb's own counter would not survive a resume)."""
        self._step = int(record["step"])
        self._attempt(lambda: self._run.log(dict(record)))

    def plot(self, name: str, path: Path) -> None:
        """Log a picture as ``plots/<name>``."""

        def log_image() -> None:
            import wandb

            self._run.log({f"plots/{name}": wandb.Image(str(path)), "step": self._step})

        self._attempt(log_image)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the summary (all metrics, the objective, verdict and status) and close the run."""
        summary = {name: result[name] for name in ("status", "verdict", "objective", "error") if name in result}
        summary |= dict(result.get("metrics") or {})
        self._attempt(lambda: self._run.summary.update(summary))
        exit_code = 0 if result.get("status") in ("finished", "pruned") else 1
        self._attempt(lambda: self._run.finish(exit_code=exit_code))
        self._run = None

    def _open(
        self, folder: Path, record: Mapping[str, Any], mode: Literal["online", "offline"], *, new_id: bool
    ) -> Any:
        import wandb

        quiet = _settings(wandb, silent=True)
        wandb.setup(settings=quiet)
        if mode == "online" and not wandb.login(prompt=False):
            raise PermissionError("no login is configured")
        # "create_new": jobs that follow one another in one process would otherwise share a run.
        return wandb.init(
            mode=mode,
            dir=str(folder),
            id=_run_id(folder, str(record.get("config_hash", "run")), new=new_id),
            name=self._name or folder.name,
            config={**(record.get("config") or {}), "provenance": {key: record.get(key) for key in PROVENANCE}},
            reinit="create_new",
            resume="allow",
            save_code=False,
            settings=_settings(
                wandb,
                silent=True,
                console="off",  # run.log holds the output
                disable_git=True,  # the commit is part of the record; wandb would copy the working tree's changes
                init_timeout=_INIT_TIMEOUT_S,
                finish_timeout=_FINISH_TIMEOUT_S,
            ),
            **self._labels,
        )

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._run is None:
            return
        try:
            action()
        except Exception as error:
            self._run = None
            log.warning("wandb: %s; the run goes on without it", _first_line(error))


def shortened(tags: Sequence[str]) -> list[str]:
    """Tags as wandb takes them: each once, not empty, and cut where it is too long."""
    cut = (tag if len(tag) <= LONGEST_TAG else f"{tag[: LONGEST_TAG - 1]}…" for tag in map(str, tags))
    return list(dict.fromkeys(tag for tag in cut if tag.strip()))


def _model_tag(run: RunInfo, tags: Sequence[str]) -> list[str]:
    """The model's name, unless the values of a sweep's axes name it already."""
    model = (run.record.get("choices") or {}).get("model")
    return [] if model is None or any(tag.startswith("model=") for tag in tags) else [str(model)]


def _check_texts(labels: Mapping[str, object], tags: object) -> None:
    for key, value in labels.items():
        if not isinstance(value, str | None):
            raise ConfigError(f"{key}={shown(value)}: must be text or null")
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise ConfigError(f"tags={shown(tags)}: must be a list, each text")


def _mode_from_environment() -> str:
    """The mode that wandb's environment variables ask for; "offline" where they ask for none.

    Raises:
        ConfigError: WANDB_MODE names none.
    """
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    mode = os.environ.get("WANDB_MODE", "").strip().lower() or "offline"
    return check_choice("WANDB_MODE", _OTHER_MODES.get(mode, mode), MODES)


def _settings(wandb: Any, **wanted: object) -> Any:
    """wandb's settings, less those that the installed version doesn't know."""
    known = wandb.Settings.model_fields
    return wandb.Settings(**{name: value for name, value in wanted.items() if name in known})


def _run_id(folder: Path, config_hash: str, *, new: bool) -> str:
    """The folder's wandb id: the config's hash and a random part, since one config may be run in several places.

    new: replace the id; one that an attempt to go online has used stays taken in wandb's service.
    """
    path = folder / "wandb" / "id.txt"
    if new or not path.is_file():
        write_text_atomic(path, f"{config_hash}-{secrets.token_hex(3)}\n")
    return path.read_text(encoding="utf-8").strip()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
