"""A search: Optuna proposes trials, they run as jobs, and their results go back. Each trial has a seed of its own.

A trial is a job whose folder is named after its configuration. A RUNNING trial has no result in its folder yet. Where
its folder is locked, a process runs it. Where the folder is free, the trial was abandoned: it is resumed with the
parameters it has.
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
from jepa.sweep.pruning import TrialView, make_pruner, tell, tell_results
from jepa.sweep.space import Space, difference, suggest
from jepa.sweep.spec import SweepConfig
from jepa.sweep.study import JOURNAL, name_study, open_storage

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS = {
    "random": "RandomSampler",
    "tpe": "TPESampler",
    "qmc": "QMCSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
}
# What a sampler imports when it is first asked.
PACKAGES = {"qmc": "scipy", "gp": "scipy", "cmaes": "cmaes"}
# Samplers whose proposals do not depend on results: all trials may be asked for at once, and trial k is the same
# whatever happened before it.
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
    ):
        """Open the study, or make it.

        Args:
            folder: the sweep's.
            name: of a study that is made; one that the folder has keeps its own, so that the folder may be renamed.
            space: the dimensions.
            fingerprint: what must not change from one sitting to the next.
            settings: how to search; checked by :func:`check_settings`.
            metric: what is minimised.

        Raises:
            ConfigError: the study there searches another space; the difference is shown. Or it cannot be opened.
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
                self.study.set_user_attr("fingerprint", fingerprint)
            elif changed := difference(before, fingerprint):
                raise ConfigError(
                    f"the study {self.name} in {self.storage_name} searches another space ({changed}); "
                    "sweep.name=… starts another search, or take the change back"
                )

    # --- trials --------------------------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """Every trial that counts: a failed one that is tried again counts once."""
        everything = self.study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get("retry_of") for trial in everything}
        return [trial for trial in everything if trial.number not in replaced]

    def told(self) -> list[FrozenTrial]:
        """Trials of this folder that have an end."""
        return [trial for trial in self.trials() if trial.state.is_finished() and self._is_here(trial)]

    def ask(self, limit: int) -> list[Ask]:
        """New trials, at most ``limit`` and as many as the total still allows."""
        with self._lock:
            self._tell_results()
            trials = self.trials()
            waiting = sum(trial.state == TrialState.WAITING for trial in trials)
            count = min(limit, waiting + max(0, self.settings.total - len(trials)))
            if count > waiting and not self.independent:
                # Noted first: a process killed while it asks leaves a round that the next one has to complete.
                first = len(self.study.get_trials(deepcopy=False))
                self.study.set_user_attr("round", [first, count - waiting])
            return [self._ask_one() for _ in range(count)]

    def adopt(self, *, held: bool = True) -> list[Ask]:
        """Trials of this folder without an end: left by a killed process, or being run.

        Results on disk are told first, so that none of these trials is finished. Where a round was not asked for to its
        end, its missing trials are asked for now.

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
        """Whether proposals do not depend on results."""
        return self.settings.sampler in INDEPENDENT

    def retry(self, hashes: set[str]) -> None:
        """Queue failed trials of these jobs again, with the parameters they had."""
        with self._lock:
            for trial in self.trials():
                if trial.state == TrialState.FAIL and trial.user_attrs.get("job") in hashes:
                    self.study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})

    def failed_jobs(self) -> set[str]:
        """Hashes of the jobs whose trials have failed."""
        return {str(t.user_attrs["job"]) for t in self.trials() if t.state == TrialState.FAIL and "job" in t.user_attrs}

    def assign(self, ask: Ask, job: Job) -> None:
        """Note which job a trial is, and give the job what it needs to report to it."""
        self._storage.set_trial_user_attr(ask.trial_id, "job", job.hash)
        job.extras.update(self.reporting(ask.trial_id))

    def reporting(self, trial_id: int) -> dict[str, Any]:
        """Operational keys of a trial's job."""
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
        """Hand a job's result to its trial; nothing happens where there is none yet, or somebody has told it."""
        result = records.read_result(job.folder, self.metric)
        if result is not None:
            tell(self.study, ask.number, result, self.metric)

    def best(self) -> FrozenTrial | None:
        """The finished trial with the smallest objective."""
        finished = [(trial.value, trial) for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return min(finished, key=lambda pair: pair[0] or 0.0, default=(None, None))[1]

    # --- one trial -----------------------------------------------------------------------------------------------

    def _ask_one(self) -> Ask:
        self._seed(len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        trial.set_user_attr("folder", self._identity)
        return Ask(trial.number, trial._trial_id, suggest(trial, self.space))

    def _resume(self, frozen: FrozenTrial) -> Ask:
        """The trial with the values it has; where a kill has left it without some of them, all are drawn again.

        They come out as at first, since the seed of a trial's draws is its own. Only a quasi-random sequence goes on.
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
        """Hand results on disk to the open trials; a trial that has lost a parameter is completed first."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "job" in trial.user_attrs and not self.space.keys() <= trial.params.keys():
                self._resume(trial)
        tell_results(self.study, self.folder, self.metric)

    def _is_here(self, trial: FrozenTrial) -> bool:
        """Whether the trial's job belongs into this folder: a study may be shared by several."""
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
        if self.settings.sampler != "qmc":  # a quasi-random sequence goes on by itself
            digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
            seed = int.from_bytes(digest[:4], "big")
        self.study.sampler = make_sampler(self.settings.sampler, self.settings.sampler_options, seed)


def check_settings(settings: SweepConfig) -> None:
    """Refuse a sampler or a pruner that does not exist, lacks a package, or does not take its options.

    Raises:
        ConfigError: names the key.
    """
    check_choice("sweep.sampler", settings.sampler, SAMPLERS)
    make_pruner(settings.pruner, settings.pruner_options)
    make_sampler(settings.sampler, settings.sampler_options, 0)


def make_sampler(name: str, options: Mapping[str, Any], seed: int) -> BaseSampler:
    """Optuna's sampler of that name.

    Raises:
        ConfigError: options it does not take, or a package it needs is missing.
    """
    import warnings

    if (package := PACKAGES.get(name)) is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(f"sweep.sampler={name}: needs the package {package}; pip install {package}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks several samplers and options as experimental
        try:
            return getattr(optuna.samplers, SAMPLERS[name])(seed=seed, **options)  # type: ignore[no-any-return]
        except (TypeError, ValueError, ImportError) as error:
            raise ConfigError(f"sweep.sampler_options={dict(options)}: {name} does not take them ({error})") from error


def batch_size(settings: SweepConfig, parallel: int) -> int:
    """Trials to ask for at once: all of them where results do not matter, else one for each worker."""
    return settings.total if settings.sampler in INDEPENDENT else max(1, parallel)


def together(asks: Sequence[Ask], jobs: Sequence[Job]) -> dict[str, list[Ask]]:
    """Trials by the job they mean: two proposals may be one configuration."""
    found: dict[str, list[Ask]] = {}
    for ask, job in zip(asks, jobs, strict=True):
        found.setdefault(job.hash, []).append(ask)
    return found
