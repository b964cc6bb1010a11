"""Where a search keeps its study: a journal in the sweep's folder, or a database; and the study's name."""

from __future__ import annotations

import logging
import random
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.errors import ConfigError
from jepa.files import Damaged, read_json, write_json_atomic
from jepa.store import layout
from jepa.store.locks import Lock
from jepa.sweep.journal import cut_torn_end, mend

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

JOURNAL = "journal:"
OPENINGS = 20  # tries to open a database that another process is making
PATIENCE_S = 60.0  # to wait for a lock of sqlite's that another process holds


def open_storage(name: str, study: str = "search") -> Any:
    """The storage ``journal:PATH`` (a file in the sweep's folder) or any url that Optuna's RDB storage takes.

    study: the study's name, needed where a damaged journal has lost it.

    Raises:
        ConfigError: it cannot be opened, or what is there cannot be mended.
    """
    if name.startswith(JOURNAL):
        return _open_journal(Path(name[len(JOURNAL) :]), study)
    if name in ("sqlite://", "sqlite:///:memory:"):
        raise ConfigError(f"sweep.storage={name}: lies in memory, where no job finds it; name a file: sqlite:///x.db")
    for attempt in range(OPENINGS):
        try:
            return _open_database(name)
        except Exception as error:
            # Another process that makes the tables at the same moment is done with it soon.
            if attempt + 1 < OPENINGS and type(error).__name__ in ("OperationalError", "IntegrityError"):
                time.sleep(random.uniform(0.05, 0.3))
                continue
            raise ConfigError(
                f"sweep.storage={name}: cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]})"
            ) from error
    raise AssertionError


def _open_database(url: str) -> Any:
    """A database without connections of its own: each operation opens one and closes it, in whatever process."""
    import optuna
    from sqlalchemy.pool import NullPool

    options: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": PATIENCE_S}
    return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=options))


def _open_journal(path: Path, study: str) -> Any:
    """Optuna's journal in ``path``, under a lock of ours: Optuna's own locks outlive a killed process."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    lock = Lock(path.with_name(path.name + ".lock"))

    def opened() -> Any:
        backend = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # needs acquire and release
        return optuna.storages.JournalStorage(backend)

    try:
        if cut_torn_end(path, lock):
            return opened()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened ({error.strerror})") from error
    except Exception:  # a line that is no record: json's errors, missing keys, assertions
        log.debug("%s is damaged", path, exc_info=True)
    try:
        print(mend(path, lock, study), flush=True)
        return opened()
    except Exception as error:
        raise ConfigError(
            f"{path}: is damaged and cannot be mended ({type(error).__name__}); move it away: the same command then "
            "makes the study anew from the results in the folder"
        ) from error


def name_study(folder: Path, storage: Any, name: str, *, shared: bool) -> tuple[str, str]:
    """The study's name, and what its trials know the sweep's folder by: both are kept in the folder, not its path.

    name: of a study that is made. shared: the storage may hold studies of other folders.
    """
    import optuna

    record = study_record(folder)
    if not {"study", "identity"} <= record.keys():
        names = [] if shared else optuna.get_all_study_names(storage)
        study = names[0] if len(names) == 1 else name  # a journal lies in its folder and holds one study
        record = {"study": study, "identity": secrets.token_hex(8)}
        write_json_atomic(folder / layout.STUDY, record)
    return record["study"], record["identity"]


def known_trials(folder: Path, storage: str | None) -> list[FrozenTrial]:
    """The trials of the study in a sweep's folder, read without writing anything; empty where that cannot be done.

    storage: ``sweep.storage``.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / layout.JOURNAL
    try:
        if not (path if storage is None else folder / layout.STUDY).is_file():
            return []
        opened = JournalStorage(JournalFileBackend(str(path))) if storage is None else open_storage(storage)
        name = study_record(folder).get("study") or optuna.get_all_study_names(opened)[0]
        return optuna.load_study(study_name=name, storage=opened).get_trials(deepcopy=False)
    except Exception:  # damaged: the sweep itself will say so
        return []


def study_record(folder: Path) -> dict[str, str]:
    """The study's name and the folder's identity, as kept in the folder; empty where nothing can be read."""
    try:
        record = read_json(folder / layout.STUDY)
    except (OSError, Damaged):
        return {}
    return {str(key): str(value) for key, value in record.items()} if isinstance(record, dict) else {}
