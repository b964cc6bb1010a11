"""The storage of a search's study (a journal in the sweep's folder, or a database) and the study's name."""

from __future__ import annotations

import logging
import random
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.errors import ConfigError, shown
from jepa.files import Damaged, read_json, write_json_atomic
from jepa.store import layout
from jepa.store.locks import Lock
from jepa.sweep.journal import cut_torn_end, mend

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

JOURNAL = "journal:"
OPENINGS = 20  # attempts to open a database that another process is creating
PATIENCE_S = 60.0  # how long sqlite waits for a lock of another process


def check_storage(name: str) -> None:
    """Check that ``name`` is a journal or a url of a database that can be opened here, without opening it.

    Raises:
        ConfigError: it is neither.
    """
    from sqlalchemy.engine import make_url

    if name.startswith(JOURNAL):
        return
    try:
        make_url(name).get_dialect()
    except Exception as error:  # an unknown kind of database raises an error of SQLAlchemy, a plain word another
        words = "must be the url of a database, such as sqlite:///x.db, or null: a journal in the sweep's folder"
        raise ConfigError(f"sweep.storage={shown(name)}: {words} ({str(error).splitlines()[0]})") from error


def open_storage(name: str, study: str = "search") -> Any:
    """Open the storage ``journal:PATH`` (a file in the sweep's folder) or any url that Optuna's RDB storage accepts.

    study: the study's name, used if a damaged journal has lost it.

    Raises:
        ConfigError: the storage cannot be opened, or a damaged journal cannot be repaired.
    """
    if name.startswith(JOURNAL):
        return _open_journal(Path(name[len(JOURNAL) :]), study)
    if name in ("sqlite://", "sqlite:///:memory:"):
        raise ConfigError(f"sweep.storage={name}: lies in memory, where no job finds it; name a file: sqlite:///x.db")
    for attempt in range(OPENINGS):
        try:
            return _open_database(name)
        except Exception as error:
            # Another process may be creating the tables at the same moment: wait and try again.
            if attempt + 1 < OPENINGS and type(error).__name__ in ("OperationalError", "IntegrityError"):
                time.sleep(random.uniform(0.05, 0.3))
                continue
            raise ConfigError(
                f"sweep.storage={name}: cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]})"
            ) from error
    raise AssertionError


def _open_database(url: str) -> Any:
    """Open a database without a pool: each operation opens and closes a connection, so forked processes share none."""
    import optuna
    from sqlalchemy.pool import NullPool

    options: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": PATIENCE_S}
    return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=options))


def _open_journal(path: Path, study: str) -> Any:
    """Open Optuna's journal in ``path`` with the project's file lock: Optuna's own locks outlive a killed process."""
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
    except Exception:  # an invalid record: errors of json, missing keys, assertions
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
    """The study's name and the identity of the sweep's folder, which marks the trials of this folder.

    Both are stored in a file in the folder, so that the folder may be moved or renamed.

    Args:
        name: the name of a new study.
        shared: whether the storage may hold studies of other folders.
    """
    import optuna

    record = study_record(folder)
    if not {"study", "identity"} <= record.keys():
        names = [] if shared else optuna.get_all_study_names(storage)
        study = names[0] if len(names) == 1 else name  # a journal belongs to one folder and holds one study
        record = {"study": study, "identity": secrets.token_hex(8)}
        write_json_atomic(folder / layout.STUDY, record)
    return record["study"], record["identity"]


def known_trials(folder: Path, storage: str | None) -> list[FrozenTrial]:
    """The trials of the study of a sweep's folder; empty if there is no study or it cannot be read.

    Reading a journal writes no file. storage: the value of ``sweep.storage``.
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
    except Exception:  # damaged: the sweep itself reports the damage
        return []


def study_record(folder: Path) -> dict[str, str]:
    """The study's name and the folder's identity, from a file in the folder; empty if the file cannot be read."""
    try:
        record = read_json(folder / layout.STUDY)
    except (OSError, Damaged):
        return {}
    return {str(key): str(value) for key, value in record.items()} if isinstance(record, dict) else {}
