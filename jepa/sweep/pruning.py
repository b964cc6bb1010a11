"""A search's pruner, inside a job: the run reports its probe and is told whether to go on. Works on every launcher."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.errors import ConfigError, check_choice

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

PRUNERS = ("none", "median", "percentile", "successive_halving", "hyperband")
_CLASSES = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
}
JOURNAL = "journal:"
_GUARD = threading.Lock()


class TrialReporter:
    """Reports a run's objective to its Optuna trial after every probe; called as ``on_probe(epoch, metrics)``."""

    def __init__(
        self, *, storage: str, study: str, trial_id: int, objective: str, pruner: str, pruner_options: Mapping[str, Any]
    ) -> None:
        """Args:
        storage: as from :func:`open_storage`'s argument.
        study: the study's name.
        trial_id: Optuna's id of this job's trial.
        objective: the metric to report.
        pruner: one of :data:`PRUNERS`.
        pruner_options: arguments of Optuna's pruner.
        """
        self.storage = storage
        self.study = study
        self.trial_id = trial_id
        self.objective = objective
        self.pruner = pruner
        self.pruner_options = dict(pruner_options)
        self._trial: optuna.trial.Trial | None = None

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report ``metrics[objective]`` at ``epoch``.

        Returns:
            True where the pruner says that the run is not worth going on with.
        """
        value = metrics.get(self.objective)
        if value is None or not math.isfinite(value):
            return False
        try:
            trial = self._connect()
            # A run that was interrupted after its report and before its checkpoint comes by here a second time.
            if epoch not in trial.storage.get_trial(self.trial_id).intermediate_values:
                trial.report(value, epoch)
            return trial.should_prune()
        except Exception:  # a search that cannot be reached must not cost the run
            log.exception("the probe of epoch %d could not be reported to the study %s", epoch, self.study)
            return False

    def _connect(self) -> optuna.trial.Trial:
        if self._trial is None:
            import optuna

            with _GUARD:
                optuna.logging.set_verbosity(optuna.logging.WARNING)
            study = optuna.load_study(
                study_name=self.study,
                storage=open_storage(self.storage),
                pruner=make_pruner(self.pruner, self.pruner_options),
            )
            self._trial = optuna.trial.Trial(study, self.trial_id)
        return self._trial


def open_storage(name: str) -> Any:
    """The storage ``journal:PATH`` (a file in the sweep's folder) or any url that Optuna's RDB storage takes."""
    import optuna

    if name.startswith(JOURNAL):
        return optuna.storages.JournalStorage(journal_backend(Path(name[len(JOURNAL) :])))
    try:
        return optuna.storages.get_storage(name)
    except Exception as error:
        raise ConfigError(
            f"sweep.storage={name}: cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def journal_backend(path: Path) -> Any:
    """Optuna's journal in ``path``, under a lock that its holder's death releases, and without a torn last line."""
    from optuna.storages.journal import JournalFileBackend

    from jepa.sweep.journal import FileLock, mend

    lock = FileLock(path.with_name(path.name + ".lock"))
    mend(path, lock)
    return JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # all it needs are acquire and release


def make_pruner(name: str, options: Mapping[str, Any]) -> Any:
    """Optuna's pruner of that name.

    Raises:
        ConfigError: another name, or options it does not take.
    """
    import optuna

    check_choice("sweep.pruner", name, PRUNERS)
    if name == "none":
        return optuna.pruners.NopPruner()
    try:
        return getattr(optuna.pruners, _CLASSES[name])(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sweep.pruner_options={dict(options)}: {name} does not take them ({error})") from error
