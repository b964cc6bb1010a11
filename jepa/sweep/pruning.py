"""Pruning inside a job: after each probe, the run reports its objective and learns whether to stop early.

This works with every launcher.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.errors import ConfigError, check_choice, nearest
from jepa.store.result import objective_value
from jepa.sweep import records
from jepa.sweep.study import open_storage

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

PRUNERS = ("none", "median", "percentile", "successive_halving", "hyperband")
_CLASSES = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
}
_GUARD = threading.Lock()


@dataclass(kw_only=True)
class TrialReporter:
    """Reports a run's objective to its Optuna trial after every probe; called as ``on_probe(epoch, metrics)``.

    A resumed run repeats epochs that it reported before it was killed. The trial therefore stores each decision, and
    the resumed run gets the stored decision. A new decision uses only earlier reports of its own trial. The results of
    other trials are read from disk, so decisions do not depend on when a process was killed.
    """

    storage: str  # as for jepa.sweep.study.open_storage
    study: str  # the study's name
    trial_id: int  # Optuna's id of this job's trial
    objective: str  # the metric to report
    pruner: str  # one of PRUNERS
    pruner_options: Mapping[str, Any]
    folder: str | None = None  # the sweep's folder with results of other trials; None: use only the study's content

    def __post_init__(self) -> None:
        self._storage: Any = None

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report ``metrics[objective]`` at ``epoch``.

        Returns:
            True if the run should stop.
        """
        value = metrics.get(self.objective)
        if value is None or not math.isfinite(value):
            return False
        try:
            return self._decide(epoch, float(value))
        except Exception:  # the run goes on if the study cannot be reached
            log.exception("the probe of epoch %d could not be reported to the study %s", epoch, self.study)
            return False

    def _decide(self, epoch: int, value: float) -> bool:
        """The stored decision for this epoch and value. If there is none, decide and store the decision first."""
        import optuna

        storage = self._connect()
        if self.folder is not None:
            study = optuna.Study(self.study, storage, sampler=optuna.samplers.RandomSampler())
            tell_results(study, Path(self.folder), self.objective)
        trial = storage.get_trial(self.trial_id)
        if trial.state.is_finished():  # the job's folder was deleted, and the job runs again
            return bool(trial.state == optuna.trial.TrialState.PRUNED and epoch >= (trial.last_step or 0))
        probe = trial.user_attrs.get(_probe_key(epoch))
        if probe is None or probe["value"] != value:
            view = TrialView(storage, _as_of(trial, epoch, value))
            study = optuna.Study(self.study, view, pruner=make_pruner(self.pruner, self.pruner_options))  # type: ignore[arg-type]
            prune = bool(study.pruner.prune(study, view.trial))
            probe = {"value": value, "prune": prune, "marks": view.marks}
            storage.set_trial_user_attr(self.trial_id, _probe_key(epoch), probe)
        if trial.intermediate_values.get(epoch) != value:
            storage.set_trial_intermediate_value(self.trial_id, epoch, value)
        for key, mark in probe["marks"].items():
            if trial.system_attrs.get(key) != mark:
                storage.set_trial_system_attr(self.trial_id, key, mark)
        return bool(probe["prune"])

    def _connect(self) -> Any:
        if self._storage is None:
            import optuna

            with _GUARD:
                optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._storage = open_storage(self.storage)
        return self._storage


class TrialView:
    """An Optuna storage that replaces one trial by a given one and collects the pruner's attributes of it in ``marks``.

    All other operations go to the wrapped storage.
    """

    def __init__(self, storage: Any, trial: FrozenTrial) -> None:
        """storage: the wrapped storage. trial: replaces the stored trial of the same id."""
        self._storage = storage
        self.trial = trial
        self.marks: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial with the given id."""
        return self.trial if trial_id == self.trial._trial_id else self._storage.get_trial(trial_id)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """The trials of the study, in the given states if any are given."""
        trials = self._storage.get_all_trials(study_id, deepcopy=deepcopy)
        seen = [self.trial if trial._trial_id == self.trial._trial_id else trial for trial in trials]
        return [trial for trial in seen if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute of the trial in ``marks``."""
        assert trial_id == self.trial._trial_id
        self.marks[key] = value


def _probe_key(epoch: int) -> str:
    return f"probe_{epoch}"


def _as_of(trial: FrozenTrial, epoch: int, value: float) -> FrozenTrial:
    """``trial`` as it was right after it reported ``value`` at ``epoch``, without later reports and attributes."""
    seen = copy.copy(trial)
    earlier = {step: number for step, number in trial.intermediate_values.items() if step < epoch}
    seen.intermediate_values = {**earlier, epoch: value}
    later = {
        mark
        for key, probe in trial.user_attrs.items()
        if key.startswith("probe_") and int(key[len("probe_") :]) >= epoch
        for mark in probe["marks"]
    }
    seen.system_attrs = {key: mark for key, mark in trial.system_attrs.items() if key not in later}
    return seen


def tell_results(study: optuna.Study, folder: Path, metric: str) -> None:
    """Tell the study the finished and pruned results in ``folder`` for its open trials, in the order of the trials.

    Failed results are left to the process that runs the job, because a new attempt may replace an old failure.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        job = trial.user_attrs.get("job")
        result = None if job is None else records.done_result(folder / job, job, metric)
        if result is not None:
            tell(study, trial.number, result, metric)


def tell(study: optuna.Study, number: int, result: Mapping[str, Any], metric: str) -> None:
    """Tell the study the result of a trial. Nothing happens if the trial already has a result.

    Args:
        number: the trial's number.
        result: from :func:`jepa.sweep.records.read_result`.
        metric: the metric that the search minimises.
    """
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    value, state = None, TrialState.FAIL
    if result["status"] == "pruned":
        state = TrialState.PRUNED
    elif result["status"] == "finished":
        value = objective_value(result, metric)
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
    with contextlib.suppress(UpdateFinishedTrialError):  # another process was faster
        study.tell(number, value, state=state, skip_if_finished=True)


def make_pruner(name: str, options: Mapping[str, Any]) -> Any:
    """Make the Optuna pruner ``name``, one of PRUNERS.

    Raises:
        ConfigError: the name is unknown, or the pruner does not accept the options.
    """
    import optuna

    check_choice("sweep.pruner", name, PRUNERS)
    if name == "none":
        return optuna.pruners.NopPruner()
    made_by = getattr(optuna.pruners, _CLASSES[name])
    try:
        return made_by(**options)
    except (TypeError, ValueError) as error:
        raise options_error("pruner", name, options, made_by, error) from error


def options_error(
    kind: str, name: str, options: Mapping[str, Any], made_by: Callable[..., Any], error: Exception
) -> ConfigError:
    """The error for ``sweep.<kind>_options`` that Optuna's class ``made_by`` refuses with ``error``."""
    known = [parameter for parameter in inspect.signature(made_by).parameters if parameter != "seed"]
    for option in options:
        if option not in known:
            close = nearest(option, known)
            hint = f"; did you mean {close!r}?" if close else ""
            return ConfigError(f"sweep.{kind}_options.{option}: no option of {name}{hint} ({', '.join(known)})")
    return ConfigError(f"sweep.{kind}_options={dict(options)}: {name} does not take them ({error})")
