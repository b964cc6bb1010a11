"""One search as work to do: asks for trials, runs their jobs, tells their results, until the total is reached."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution

from jepa.errors import ConfigError
from jepa.sweep import points, records, report
from jepa.sweep.jobs import Job
from jepa.sweep.points import Grid, Point
from jepa.sweep.search import Ask, Search, SearchSettings, batch_size, together
from jepa.sweep.space import as_overrides, build_space, fingerprint
from jepa.sweep.spec import scientific

if TYPE_CHECKING:
    from jepa.sweep._core import Sweep

log = logging.getLogger(__name__)


class SearchWork:
    """The search at one point of what searches keep fixed."""

    def __init__(self, sweep: Sweep, grid: Grid, point: Point, n_trials: int) -> None:
        """Compose and check the corners of the space; nothing is written yet.

        Raises:
            ConfigError: there is nothing to search, or a dimension no run could take.
        """
        spec = sweep.spec
        self.sweep = sweep
        self.grid = grid
        self.point = point
        self.settings = SearchSettings(
            n_trials=n_trials,
            sampler=spec.sampler,
            sampler_options=spec.sampler_options,
            seed=spec.sampler_seed,
            pruner=spec.pruner,
            pruner_options=spec.pruner_options,
            storage=spec.storage,
        )
        self.base = sweep.composer.compose(grid.overrides(point))
        self.space = build_space(spec.space, str(self.base.hydra.runtime.choices.get("model")), sweep.arguments)
        self.work = sweep.work(sweep.arguments_at(point), {key: [] for key in self.space})
        self._jobs: dict[str, list[Ask]] = {}
        self._check_corners()
        self._check_pruner()

    def run(self) -> list[dict[str, Any]]:
        """Bring the study to its total; every job's result."""
        if self.sweep.switches.dry_run:
            self._print_plan()
            return []
        objective = str(OmegaConf.select(self.base, "objective") or "objective")
        work = self.work
        self.search = Search(
            folder=work.folder,
            name=work.name,
            space=self.space,
            fingerprint=fingerprint(self.space, scientific({**self.grid.fixed, **self.point}), objective),
            settings=self.settings,
        )
        with work.sitting(self.sweep.composer.launch_config(self.base, work.folder), on_result=self._tell):
            if self.sweep.switches.retry_failed:
                self.search.retry(self._worth_another_try())
            while asks := [*self.search.adopt(), *self.search.ask(batch_size(self.settings, work.kind.parallel))]:
                self._round(asks)
        self._add_told()
        best = self.search.best()
        if best is not None:
            print("best trial " + " ".join(f"{key}={value}" for key, value in as_overrides(best.params).items()))
        return work.finish()

    def _round(self, asks: list[Ask]) -> None:
        """Run one batch of trials."""
        jobs = [self._job(ask) for ask in asks]
        self._jobs = together(asks, jobs)
        for ask, job in zip(asks, jobs, strict=True):
            self.search.assign(ask, job)
        self.work.add(jobs)
        self.work.write_state()
        self.work.run(self.work.to_do(jobs))
        for job in jobs:
            self._tell(job)

    def _tell(self, job: Job) -> None:
        """Hand a result to the trials that mean this job."""
        for ask in self._jobs.get(job.hash, []):
            self.search.tell(ask, job)

    def _job(self, ask: Ask) -> Job:
        words = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in ask.values.items()}
        label = f"trial {ask.number}: {points.label(words, list(words))}"
        job, _ = self.sweep.composer.job(self._overrides(ask.values), label=label, sweep_folder=self.work.folder)
        return job

    def _overrides(self, values: dict[str, Any]) -> list[str]:
        return self.grid.overrides({**self.point, **as_overrides(values)})

    def _worth_another_try(self) -> set[str]:
        """Jobs that failed, but not because their numbers did: those would fail again."""
        hashes = self.search.failed_jobs()
        results = {key: records.read_result(self.work.folder / key) for key in hashes}
        return {key for key, result in results.items() if result is not None and not records.not_a_number(result)}

    def _add_told(self) -> None:
        """Trials of earlier sittings belong to the list at the end as well."""
        state = records.read_state(self.work.folder).get("jobs", {})
        for trial in self.search.trials():
            key = trial.user_attrs.get("job")
            if key is not None and key in state and all(job.hash != key for job in self.work.jobs):
                entry = state[key]
                folder = self.work.folder / key
                self.work.add([Job(key, entry["overrides"], entry["label"], folder, model="", sequences=None)])

    # --- before the first trial ----------------------------------------------------------------------------------

    def _check_corners(self) -> None:
        """Compose and check every choice and both ends of every range, one at a time."""
        middle = {key: _values(distribution)[0] for key, distribution in self.space.items()}
        tried: list[dict[str, Any]] = [middle]
        for key, distribution in self.space.items():
            tried += [{**middle, key: value} for value in _values(distribution)[1:]]
        for values in tried:
            job, config = self.sweep.composer.job(
                self._overrides(values), label="a corner of the space", sweep_folder=self.work.folder
            )
            self.sweep.composer.check(job, config)

    def _check_pruner(self) -> None:
        every = OmegaConf.select(self.base, "trainer.probe_every_epochs")
        if self.settings.pruner != "none" and not every:
            raise ConfigError(
                f"sweep.pruner={self.settings.pruner}: needs reports on the way; set trainer.probe_every_epochs"
            )

    def _print_plan(self) -> None:
        state = records.read_state(self.work.folder).get("jobs", {})
        done = [_known(self.base, self.work.folder / key, entry) for key, entry in state.items()]
        report.plan(done, folder=self.work.folder, kind=self.work.kind, reuse=self.sweep.switches.reuse)
        for key, distribution in self.space.items():
            print(f"  {key}: {distribution}")
        print(
            f"{self.settings.n_trials} trials in total, sampler {self.settings.sampler}, pruner {self.settings.pruner}"
        )


def _known(base: DictConfig, folder: Any, entry: dict[str, Any]) -> Job:
    return Job(folder.name, entry["overrides"], entry["label"], folder, model="", sequences=None)


def _values(distribution: Any) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]
