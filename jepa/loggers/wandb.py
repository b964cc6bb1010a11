"""The logger that writes wandb runs. It imports wandb when a run starts; no other module imports wandb."""

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
_OTHER_MODES = {"dryrun": "offline", "run": "online", "shared": "online"}  # further values that WANDB_MODE accepts
DEFAULT_PROJECT = "jepa"
LONGEST_TAG = 64  # characters; wandb refuses a run with a longer tag
PROVENANCE = ("config_hash", "command", "code", "git_commit", "versions")  # keys of the record for wandb's config
_INIT_TIMEOUT_S = 20.0  # how long to wait for the server before going offline
_FINISH_TIMEOUT_S = 60.0  # how long to wait for uploads at the end; the rest stays on disk, for `wandb sync`


class WandbLogger(Logger):
    """Writes one wandb run for each job: the resolved config, metrics, plots and the summary.

    An error of wandb never stops a run. Without a login or a network, "online" becomes offline, with one warning. After
    any other error of wandb the logger warns once and writes no more. The written files lie in ``wandb/`` of the run's
    folder; ``wandb sync`` uploads them. A resumed run keeps its wandb id, which ``wandb/id.txt`` holds.
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
        mode: "offline", "online" or "disabled"; None: the value of WANDB_DISABLED or WANDB_MODE, else "offline".
        project, entity, group, name: arguments of wandb.init; None: the values of wandb's environment variables.
        tags: tags in addition to the model's name; longer tags than wandb accepts are shortened.

        Raises:
            ConfigError: an unknown mode, or a value that is not text.
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
        """Open a wandb run. Its config holds ``run.record["config"]`` and the run's provenance."""
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
        """Log one record. Its "step" is the horizontal axis, because wandb's own counter is wrong after a resume."""
        self._step = int(record["step"])
        self._attempt(lambda: self._run.log(dict(record)))

    def plot(self, name: str, path: Path) -> None:
        """Log the plot as the image ``plots/<name>``."""

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
                disable_git=True,  # the record holds the commit; wandb would copy uncommitted changes
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
    """Tags that wandb accepts: without repetitions and empty tags; tags that are too long are shortened."""
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
    """The mode that wandb's environment variables set; "offline" if they set none.

    Raises:
        ConfigError: WANDB_MODE is set to an unknown mode.
    """
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    mode = os.environ.get("WANDB_MODE", "").strip().lower() or "offline"
    return check_choice("WANDB_MODE", _OTHER_MODES.get(mode, mode), MODES)


def _settings(wandb: Any, **wanted: object) -> Any:
    """wandb's settings, without those that the installed version does not know."""
    known = wandb.Settings.model_fields
    return wandb.Settings(**{name: value for name, value in wanted.items() if name in known})


def _run_id(folder: Path, config_hash: str, *, new: bool) -> str:
    """The folder's wandb id: the hash of the config and a random part, since a config may run in several folders.

    new: replace the id. After a failed attempt to go online, wandb's service may refuse the old id.
    """
    path = folder / "wandb" / "id.txt"
    if new or not path.is_file():
        write_text_atomic(path, f"{config_hash}-{secrets.token_hex(3)}\n")
    return path.read_text(encoding="utf-8").strip()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
