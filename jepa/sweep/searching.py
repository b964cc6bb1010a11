"""Run one search: ask for trials, run their jobs, tell Optuna the results, until the total is reached."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from jepa.errors import ConfigError
from jepa.sweep import final, folders, points, records, report
from jepa.sweep.arguments import Point, bare
from jepa.sweep.jobs import Job, kind_of, objective_of, workload_of
from jepa.sweep.points import Grid, override_value
from jepa.sweep.search import Ask, Search, batch_size, check_settings, together
from jepa.sweep.space import as_overrides, build_space, check_models, fingerprint, in_words, own_values
from jepa.sweep.spec import scientific
from jepa.sweep.study import known_trials

if TYPE_CHECKING:
    from jepa.sweep._core import Sweep

log = logging.getLogger(__name__)


class SearchWork:
    """One search, at one point of the grid around all searches of the sweep."""

    def __init__(self, sweep: Sweep, grid: Grid, point: Point) -> None:
        """Check the settings, and compose and check jobs at the limits of the space. No file is written.

        Raises:
            ConfigError: the space is empty, a setting is invalid, or a job at a limit of the space cannot run.
        """
        spec = sweep.spec
        self.sweep = sweep
        self.grid = grid
        self.point = point
        self.settings = spec
        check_settings(spec)
        check_models(spec.space, sweep.context.hydra_context.config_loader.get_group_options("model"))
        self.final = final.final_grid(spec.final)
        self.base = sweep.composer.compose(grid.overrides(point))
        self.metric = objective_of(self.base) or "objective"
        self.model = str(self.base.hydra.runtime.choices.get("model"))
        self.kind = kind_of(self.base.hydra.runtime.choices)  # for estimates of time
        self.space = build_space(spec.space, self.model, sweep.arguments)
        self.first = own_values(self.base, self.space) if spec.try_preset else None
        self.work = sweep.work(sweep.arguments_at(point), {key: [] for key in self.space})
        self._jobs: dict[str, list[Ask]] = {}
        self._check_corners()
        self._check_finals()
        self._check_pruner()

    def run(self) -> list[dict[str, Any]]:
        """Run trials until the study has its total. Returns the results of all jobs."""
        if self.sweep.switches.dry_run:
            self._print_plan()
            return []
        work = self.work
        fixed = scientific({**self.grid.fixed, **self.point})
        folders.make(work.folder)
        self.search = Search(
            folder=work.folder,
            name=work.name,
            space=self.space,
            fingerprint=fingerprint(self.space, fixed, self.metric, self.first),
            settings=self.settings,
            metric=self.metric,
            first=self.first,
        )
        work.overview.expect(self.settings.total + self._num_finals)
        with work.sitting(self.sweep.composer.launch_config(self.base, work.folder), on_result=self._tell):
            if self.sweep.switches.retry_failed:
                self.search.retry(self._worth_another_try())
            self._again(self._look_back())
            report.say_other_code(self.work.jobs, report.REMEDY_SEARCH)
            while asks := self._next():
                self._round(asks)
            self._look_back()  # add the trials that other processes finished meanwhile
            best = self.search.best()
            if best is not None and self.final is not None:
                self._run_finals(best)
        if best is not None:
            print("best trial " + " ".join(f"{key}={value}" for key, value in as_overrides(best.params).items()))
        return work.finish()

    # --- final runs ----------------------------------------------------------------------------------------------

    @property
    def _num_finals(self) -> int:
        return 0 if self.final is None else len(self.final.points)

    def _run_finals(self, best: FrozenTrial) -> None:
        """Run the final grid with the parameters of the best trial, or with the preset's own (``preset_margin``)."""
        margin = self.settings.preset_margin
        winner = final.winner(best, self.search.finished(), preset=self.first, margin=margin)
        if winner.number != best.number:
            less = f"less than {100 * margin:g} % better (sweep.preset_margin)"
            print(f"the final runs have the preset's own values: the best trial is {less}", flush=True)
        jobs = [job for job, _ in self._finals(winner.params, str(winner.user_attrs.get("job")))]
        self.work.add(jobs)
        self.work.overview.expect(len(self.work.jobs))
        self.work.write_state()
        self.work.run(self.work.to_do(jobs))

    def _finals(self, values: dict[str, Any], trial: str) -> list[tuple[Job, DictConfig]]:
        """The final runs of a trial with these parameters. trial: the hash of its job."""
        assert self.final is not None
        told = {**self.grid.fixed, **self.point, **as_overrides(values)}
        made = []
        searched = {bare(key) for key in self.space}
        wanted = final.final_points(self.final, told, searched=searched, seed=OmegaConf.select(self.base, "seed"))
        for own, point in zip(self.final.points, wanted, strict=True):
            overrides = [*self.grid.deletions, *(f"{key}={value}" for key, value in point.items())]
            label = f"final run: {points.label(own, list(own))}"
            job, config = self.sweep.composer.job(overrides, label=label, sweep_folder=self.work.folder)
            job.final_of = trial
            made.append((job, config))
        return made

    # --- trials --------------------------------------------------------------------------------------------------

    def _next(self) -> list[Ask]:
        """The trials of the next round.

        A sampler that learns from results is asked only when the previous round of this process is over. If no other
        trial is left, the trials that other processes run are returned, so that this process waits for them.
        """
        search, limit = self.search, batch_size(self.settings, self.work.kind.parallel)
        if search.independent:
            return [*search.adopt(), *search.ask(limit)]
        return search.adopt(held=False) or search.ask(limit) or search.adopt()

    def _again(self, jobs: list[Job]) -> None:
        """Run the jobs of ended trials whose results are gone, because their folders were deleted."""
        self.work.write_state()
        for job in jobs:
            print(f"{job.label}: its folder {job.folder} is gone; it is run again", flush=True)
        if jobs:
            self.work.run(self.work.to_do(jobs))

    def _round(self, asks: list[Ask]) -> None:
        """Run one round of trials, and tell the study their results."""
        jobs = [self._job(ask) for ask in asks]
        self._jobs = together(asks, jobs)
        for ask, job in zip(asks, jobs, strict=True):
            self.search.assign(ask, job)
        self.work.add(jobs)
        to_come = self.settings.total - len(self.search.trials())
        self.work.overview.expect(len(self.work.jobs) + max(0, to_come) + self._num_finals)
        self.work.write_state()
        self.work.run(self.work.to_do(jobs))
        for job in jobs:
            self._tell(job)

    def _tell(self, job: Job) -> None:
        """Tell the study the job's result for every trial of this job."""
        for ask in self._jobs.get(job.hash, []):
            self.search.tell(ask, job)

    def _job(self, ask: Ask) -> Job:
        job, _ = self.sweep.composer.job(self._overrides(ask.values), label=_label(ask), sweep_folder=self.work.folder)
        job.trial = ask.number
        return job

    def _overrides(self, values: dict[str, Any]) -> list[str]:
        return self.grid.overrides({**self.point, **as_overrides(values)})

    def _worth_another_try(self) -> set[str]:
        """The hashes of failed jobs to retry. Jobs that failed with a non-finite number would fail again."""
        hashes = self.search.failed_jobs()
        results = {key: records.read_result(self.work.folder / key, self.search.metric) for key in hashes}
        return {key for key, result in results.items() if result is None or result.get("reason") != "not_finite"}

    def _look_back(self) -> list[Job]:
        """Add the jobs of ended trials to the work. Returns those of these jobs that have no result."""
        told = [(trial, self._told_job(trial)) for trial in self.search.told()]
        self.work.add([job for _, job in told if job is not None])
        return [job for _, job in told if job is not None and records.read_result(job.folder) is None]

    def _told_job(self, trial: FrozenTrial) -> Job | None:
        """The job of an ended trial, from its result or composed again; None if a parameter is missing."""
        ask = Ask(trial.number, trial._trial_id, trial.params)
        key = trial.user_attrs.get("job")
        result = None if key is None else records.read_result(self.work.folder / key)
        if key is not None and result is not None:
            overrides = [str(text) for text in result.get("overrides") or []]
            folder, metric = self.work.folder / key, self.metric
            job = Job(key, overrides, _label(ask), folder, self.kind, workload_of(self.base), metric=metric)
            job.trial = ask.number
            return job
        if not self.space.keys() <= trial.params.keys():
            return None
        job = self._job(ask)
        if not self.sweep.switches.dry_run:
            job.extras.update(self.search.reporting(ask.trial_id))
        return job

    # --- before the first trial ----------------------------------------------------------------------------------

    def _check_corners(self) -> None:
        """Compose and check one job for every choice and for both ends of every range, varying one key at a time."""
        middle = {key: _values(distribution)[0] for key, distribution in self.space.items()}
        tried: list[dict[str, Any]] = [middle]
        for key, distribution in self.space.items():
            tried += [{**middle, key: value} for value in _values(distribution)[1:]]
        for values in tried:
            job, config = self.sweep.composer.job(
                self._overrides(values), label="a corner of the space", sweep_folder=self.work.folder
            )
            self.sweep.composer.check(job, config)
            if values is middle:
                self._middle = job, config
        self._middle_values = middle

    def _check_finals(self) -> None:
        """Compose and check the final runs of one trial."""
        for job, config in self._finals(self._middle_values, "") if self.final is not None else []:
            self.sweep.composer.check(job, config)

    def _check_pruner(self) -> None:
        if self.settings.pruner == "none":
            return
        if not OmegaConf.select(self.base, "trainer.probe_every_epochs"):
            raise ConfigError(
                f"sweep.pruner={self.settings.pruner}: needs reports on the way; set trainer.probe_every_epochs"
            )
        if self.metric == "train_seconds":
            raise ConfigError(
                f"objective=train_seconds: is known at a run's end alone, so sweep.pruner={self.settings.pruner} has "
                "nothing to compare on the way; sweep.pruner=none, or another objective"
            )

    def _print_plan(self) -> None:
        """Print the plan of the search, for a dry run."""
        folder, total, kind = self.work.folder, self.settings.total, self.work.kind
        for key, distribution in self.space.items():
            own = f"; first {override_value(self.first[key])}" if self.first is not None else ""
            print(f"  {key}: {in_words(distribution)}{own}")
        trials = known_trials(folder, self.settings.storage)
        done = [trial for trial in trials if trial.state.is_finished()]
        begun = len(trials) - len(done)
        left = max(0, total - len(done))
        words = f"{left} trials to run ({len(done)} done{f', {begun} begun' if begun else ''})"
        print(f"{words} in {folder}: sampler {self.settings.sampler}, pruner {self.settings.pruner}")
        print(f"  {kind.name} launcher, {kind.parallel} at a time")
        if self.final is not None:
            print(f"  then {self._num_finals} final runs with the winner's parameters")
        told = [self._told_job(trial) for trial in done]
        report.say_other_code([job for job in told if job is not None], report.REMEDY_SEARCH)
        job, config = self._middle
        if left:
            configs = self.sweep.to_try([(self.kind, config)])
            print("  " + report.estimate([job] * left, folders=[folder], kind=kind, configs=configs))
        else:
            print("  every trial is done")
        print("dry run: nothing has been started")


def _label(ask: Ask) -> str:
    words = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in ask.values.items()}
    return f"trial {ask.number}: {points.label(words, list(words))}"


def _values(distribution: Any) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]
