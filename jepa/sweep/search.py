"""A search: Optuna proposes trials, the trials run as jobs, and Optuna gets their results.

Each trial has its own sampler seed. A trial is a job whose folder is named by the hash of its configuration. A RUNNING
trial has no result yet. If its folder is locked, a process runs the trial. If its folder is unlocked, the trial was
abandoned, and is resumed with the same parameters.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from jepa.errors import ConfigError, check_choice
from jepa.store import layout, locks
from jepa.sweep import records
from jepa.sweep.jobs import Job
from jepa.sweep.pruning import TrialView, make_pruner, options_error, tell, tell_results
from jepa.sweep.space import Space, difference, suggest
from jepa.sweep.spec import SweepConfig
from jepa.sweep.study import JOURNAL, check_storage, name_study, open_storage

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS = {
    "random": "RandomSampler",
    "tpe": "TPESampler",
    "qmc": "QMCSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
}
# The packages that samplers import at their first proposal.
PACKAGES = {"qmc": "scipy", "gp": "scipy", "cmaes": "cmaes"}
# Samplers whose proposals do not depend on results. All trials may be asked for at once, and the parameters of trial k
# depend only on the seed and on k.
INDEPENDENT = ("random",)
_TARGET = "jepa.sweep.pruning.TrialReporter"


@dataclass(frozen=True)
class Ask:
    """A trial to run: Optuna's number and id, and the values of its parameters."""

    number: int
    trial_id: int
    values: dict[str, Any]


class Search:
    """One Optuna study in a sweep's folder."""

    def __init__(
        self,
        *,
        folder: Path,
        name: str,
        space: Space,
        fingerprint: dict[str, str],
        settings: SweepConfig,
        metric: str,
        first: Mapping[str, Any] | None = None,
    ):
        """Open the study, or create it.

        Args:
            folder: the sweep's folder.
            name: the name of a new study. An existing study keeps its name, also if the folder was renamed.
            space: the dimensions.
            fingerprint: the settings that must be equal in all sittings, from :func:`jepa.sweep.space.fingerprint`.
            settings: the settings of the search, checked by :func:`check_settings`.
            metric: the metric to minimise.
            first: the parameters of the first trial of a new study; None: they are drawn.

        Raises:
            ConfigError: the existing study has another fingerprint (the message shows the difference), or the storage
                cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.settings = settings
        self.metric = metric
        self.folder = folder
        self.storage_name = settings.storage or f"{JOURNAL}{folder.resolve() / layout.JOURNAL}"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = locks.Lock(folder / layout.STUDY_LOCK)
        with self._lock:
            self._storage = open_storage(self.storage_name, name)
            self.name, self._identity = name_study(folder, self._storage, name, shared=settings.storage is not None)
            self.study = optuna.create_study(
                study_name=self.name, storage=self._storage, load_if_exists=True, direction="minimize"
            )
            before = self.study.user_attrs.get("fingerprint")
            if before is None:
                if first is not None:
                    self.study.enqueue_trial(dict(first), skip_if_exists=True)
                self.study.set_user_attr("fingerprint", fingerprint)
            elif changed := difference(before, fingerprint):
                raise ConfigError(
                    f"the study {self.name} in {self.storage_name} searches another space ({changed}); "
                    "sweep.name=… starts another search, or take the change back"
                )

    # --- trials --------------------------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """All trials, except failed trials that a later trial retries."""
        everything = self.study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get("retry_of") for trial in everything}
        return [trial for trial in everything if trial.number not in replaced]

    def told(self) -> list[FrozenTrial]:
        """The finished, pruned and failed trials of this folder."""
        return [trial for trial in self.trials() if trial.state.is_finished() and self._is_here(trial)]

    def ask(self, limit: int) -> list[Ask]:
        """Ask for new trials: at most ``limit``, and no more than ``settings.total`` allows."""
        with self._lock:
            self._tell_results()
            trials = self.trials()
            waiting = sum(trial.state == TrialState.WAITING for trial in trials)
            count = min(limit, waiting + max(0, self.settings.total - len(trials)))
            if count > waiting and not self.independent:
                # Store the size of the round first. If this process is killed meanwhile, adopt() completes the round.
                first = len(self.study.get_trials(deepcopy=False))
                self.study.set_user_attr("round", [first, count - waiting])
            return [self._ask_one() for _ in range(count)]

    def adopt(self, *, held: bool = True) -> list[Ask]:
        """The open trials of this folder: abandoned by a killed process, or running in another process.

        Tells the study the results on disk first, so that no finished trial is returned. If a process was killed while
        it asked for a round of trials, also asks for the missing trials of the round.

        held: include trials whose jobs another process runs.
        """
        with self._lock:
            self._tell_results()
            adopted = [
                self._resume(trial)
                for trial in self.trials()
                if trial.state == TrialState.RUNNING and self._is_here(trial) and (held or not self._is_held(trial))
            ]
            first, size = self.study.user_attrs.get("round", (0, 0))
            missing = first + size - len(self.study.get_trials(deepcopy=False))
            allowed = self.settings.total - len(self.trials())
            return [*adopted, *(self._ask_one() for _ in range(min(missing, allowed)))]

    @property
    def independent(self) -> bool:
        """Whether the sampler's proposals do not depend on results."""
        return self.settings.sampler in INDEPENDENT

    def retry(self, hashes: set[str]) -> None:
        """Queue the failed trials of these jobs again, with the same parameters. hashes: of the jobs."""
        with self._lock:
            for trial in self.trials():
                if trial.state == TrialState.FAIL and trial.user_attrs.get("job") in hashes:
                    self.study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})

    def failed_jobs(self) -> set[str]:
        """The hashes of the jobs whose trials failed."""
        return {str(t.user_attrs["job"]) for t in self.trials() if t.state == TrialState.FAIL and "job" in t.user_attrs}

    def assign(self, ask: Ask, job: Job) -> None:
        """Store the job's hash in the trial, and give the job the configuration of its pruning reports."""
        self._storage.set_trial_user_attr(ask.trial_id, "job", job.hash)
        job.extras.update(self.reporting(ask.trial_id))

    def reporting(self, trial_id: int) -> dict[str, Any]:
        """The operational keys with which a trial's job reports to the pruner; empty without a pruner."""
        if self.settings.pruner == "none":
            return {}
        return {
            "on_probe": {
                "_target_": _TARGET,
                "storage": self.storage_name,
                "study": self.name,
                "trial_id": trial_id,
                "objective": "${objective}",
                "pruner": self.settings.pruner,
                "pruner_options": dict(self.settings.pruner_options),
                "folder": str(self.folder),
            }
        }

    def tell(self, ask: Ask, job: Job) -> None:
        """Tell the study the job's result. Nothing happens without a result, or if the study has it already."""
        result = records.read_result(job.folder, self.metric)
        if result is not None:
            tell(self.study, ask.number, result, self.metric)

    def best(self) -> FrozenTrial | None:
        """The finished trial with the smallest objective; None if no trial is finished."""
        return min(self.finished(), key=lambda trial: trial.value or 0.0, default=None)

    def finished(self) -> list[FrozenTrial]:
        """The finished trials of the study, without pruned and failed ones."""
        return [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]

    # --- one trial -----------------------------------------------------------------------------------------------

    def _ask_one(self) -> Ask:
        self._seed(len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        trial.set_user_attr("folder", self._identity)
        return Ask(trial.number, trial._trial_id, suggest(trial, self.space))

    def _resume(self, frozen: FrozenTrial) -> Ask:
        """Resume a trial with its stored values. If a kill lost some of the values, draw all values again.

        The new values equal the first ones, because each trial has its own seed. The quasi-random sampler (qmc) is the
        exception: it takes the next point of its sequence.
        """
        if self.space.keys() <= frozen.params.keys():
            return Ask(frozen.number, frozen._trial_id, {key: frozen.params[key] for key in self.space})
        self._seed(frozen.number)
        study = self.study
        if self.settings.sampler != "qmc":
            blank = copy.copy(frozen)
            blank.params, blank.distributions = {}, {}
            study = optuna.Study(self.name, TrialView(self._storage, blank), sampler=self.study.sampler)  # type: ignore[arg-type]
        trial = optuna.trial.Trial(study, frozen._trial_id)
        return Ask(frozen.number, frozen._trial_id, suggest(trial, self.space))

    def _tell_results(self) -> None:
        """Tell the study the results on disk of open trials. Draw lost parameters of these trials first."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "job" in trial.user_attrs and not self.space.keys() <= trial.params.keys():
                self._resume(trial)
        tell_results(self.study, self.folder, self.metric)

    def _is_here(self, trial: FrozenTrial) -> bool:
        """Whether the trial's job belongs to this folder. Several folders may share a study."""
        mark, job = trial.user_attrs.get("folder"), trial.user_attrs.get("job")
        if self.settings.storage is None or mark in (None, self._identity, str(self.folder.resolve())):
            return True  # trials of earlier versions carry the folder's path
        return job is not None and (self.folder / job).is_dir()

    def _is_held(self, trial: FrozenTrial) -> bool:
        job = trial.user_attrs.get("job")
        return job is not None and locks.holder(self.folder / job) is not None

    def _seed(self, number: int) -> None:
        """Seed the sampler so that trial ``number`` depends only on the seed, its number and earlier results."""
        seed = self.settings.sampler_seed
        if self.settings.sampler != "qmc":  # a quasi-random sequence keeps one seed and continues with the trials
            digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
            seed = int.from_bytes(digest[:4], "big")
        self.study.sampler = make_sampler(self.settings.sampler, self.settings.sampler_options, seed)


def check_settings(settings: SweepConfig) -> None:
    """Check the sampler, the pruner and the storage.

    Raises:
        ConfigError: a name is unknown, a package is missing, or the options are not accepted.
    """
    check_choice("sweep.sampler", settings.sampler, SAMPLERS)
    make_pruner(settings.pruner, settings.pruner_options)
    make_sampler(settings.sampler, settings.sampler_options, 0)
    if settings.storage is not None:
        check_storage(settings.storage)


def make_sampler(name: str, options: Mapping[str, Any], seed: int) -> BaseSampler:
    """Make the Optuna sampler ``name``, a key of SAMPLERS.

    Raises:
        ConfigError: the sampler does not accept the options, or a package that it needs is missing.
    """
    import warnings

    if (package := PACKAGES.get(name)) is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(f"sweep.sampler={name}: needs the package {package}; pip install {package}")
    made_by = getattr(optuna.samplers, SAMPLERS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks several samplers and options as experimental
        try:
            return made_by(seed=seed, **options)  # type: ignore[no-any-return]
        except (TypeError, ValueError, ImportError) as error:
            raise options_error("sampler", name, options, made_by, error) from error


def batch_size(settings: SweepConfig, parallel: int) -> int:
    """The number of trials to ask for at once: all for an independent sampler, else one for each worker."""
    return settings.total if settings.sampler in INDEPENDENT else max(1, parallel)


def together(asks: Sequence[Ask], jobs: Sequence[Job]) -> dict[str, list[Ask]]:
    """Group trials by the hash of their job. Two proposals may have the same configuration."""
    found: dict[str, list[Ask]] = {}
    for ask, job in zip(asks, jobs, strict=True):
        found.setdefault(job.hash, []).append(ask)
    return found
