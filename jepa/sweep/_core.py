"""The implementation of :class:`jepa.sweep.plugin.JepaSweeper`: run one grid or several searches."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from jepa import provenance
from jepa.config.messages import no_such_key
from jepa.errors import ConfigError, check_folder, printable
from jepa.sweep import folders, points, records, report
from jepa.sweep.arguments import MAX_VALUES, Arguments, Point, bare, parse_arguments
from jepa.sweep.execution import launcher_kind
from jepa.sweep.jobs import Composer, distinct, load_check
from jepa.sweep.leaving_out import with_one_left_out
from jepa.sweep.points import Grid
from jepa.sweep.spec import SweepConfig, read_sweep, sweep_names
from jepa.sweep.work import FAILED, Context, Work
from jepa.terminal import forgiving

__all__ = ["Context", "main"]


def main(context: Context, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Run a sweep.

    Returns:
        The results of its jobs, in order.

    Raises:
        SystemExit: 2 for a bad configuration, 1 if jobs failed, 130 if a signal stopped the sweep.
    """
    with forgiving():
        try:
            return Sweep(context, arguments).run()
        except ConfigError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            raise SystemExit(2) from error


class Sweep:
    """One sweep, described by the configuration and the command-line arguments."""

    def __init__(self, context: Context, arguments: Sequence[str]) -> None:
        self.context = context
        self.spec, self.switches = read_sweep(context.config)
        self.arguments = parse_arguments(arguments, context.hydra_context.config_loader)
        self.kind = launcher_kind(context.config)
        self.composer = Composer(
            loader=context.hydra_context.config_loader, config=context.config, check=load_check(context.check)
        )

    def run(self) -> list[dict[str, Any]]:
        """Run the grid, or run the searches one after another (one for each point of the outer grid)."""
        if self.spec.n_trials is not None:
            return self._searches(self.spec.n_trials)
        if self.spec.final:
            raise ConfigError("sweep.final: is for a search; set sweep.n_trials, or use +sweep=search")
        if self.arguments.intervals:
            key = next(iter(self.arguments.intervals))
            raise ConfigError(f"{key}: an interval is for a search; use +sweep=search, or give values")
        return self._grid()

    def work(self, arguments: Arguments, axes: dict[str, list[str]]) -> Work:
        """Build the :class:`Work` for the sweep folder that ``arguments`` name.

        axes: the keys that jobs differ in, with their values.
        """
        folder = sweep_folder(self.context.config, self.spec, arguments)
        folders.check_contents(folder)
        return Work(
            context=self.context,
            folder=folder,
            kind=self.kind,
            switches=self.switches,
            retries=self.spec.retries,
            axes=axes,
            command=provenance.command(_typed(sys.argv[1:])),
            name=folder.name,
            auto=[str(text) for text in self.spec.auto],
        )

    # --- a grid --------------------------------------------------------------------------------------------------

    def _grid(self) -> list[dict[str, Any]]:
        grid = self._with_ablations(self._built(self.arguments, 1, "jobs"))
        work = self.work(self.arguments, {key: _values(grid, key) for key in grid.varied})
        given = self._fitting(grid)
        made = [
            self.composer.job(
                overrides,
                label=points.label(_among(point, set(overrides)), grid.varied),
                sweep_folder=work.folder,
            )
            for point, overrides in zip(grid.points, given, strict=True)
        ]
        for job, config in made:
            if records.done_result(job.folder, job.hash, job.metric) is None:
                self.composer.check(job, config)
        jobs = distinct(job for job, _ in made)
        if self.switches.dry_run:
            configs = self.to_try((job.model, config) for job, config in made)
            report.plan(jobs, folder=work.folder, kind=self.kind, reuse=self.switches.reuse, configs=configs)
            return []
        work.add(jobs)
        if not self.switches.rerun:
            report.say_other_code(jobs, report.REMEDY_GRID)
        configs = self.to_try((job.model, config) for job, config in made)
        report.before_start(jobs, folder=work.folder, kind=self.kind, reuse=self.switches.reuse, configs=configs)
        with work.sitting(self.composer.launch_config(made[0][1], work.folder)):
            work.write_state()
            work.run(work.to_do(jobs))
        return work.finish()

    def _with_ablations(self, grid: Grid) -> Grid:
        """``grid``, with the jobs that ``sweep.leave_out`` adds."""
        if self.spec.leave_out is None:
            return grid

        def compose(point: Point) -> DictConfig:
            kept, _ = self.composer.fitting(grid.overrides(point), grid.shared)
            return self.composer.compose(kept)

        grid = with_one_left_out(grid, self.spec.leave_out, compose)
        self._check_size(len(grid.points), "jobs")
        return grid

    # --- searches ------------------------------------------------------------------------------------------------

    def _searches(self, n_trials: int) -> list[dict[str, Any]]:
        from jepa.sweep.searching import SearchWork
        from jepa.sweep.space import searched_keys

        searched = searched_keys(self.spec.space)
        outer = {key: values for key, values in self.arguments.axes.items() if bare(key) not in searched}
        arguments = Arguments(self.arguments.fixed, self.arguments.deletions, outer, self.arguments.intervals)
        grid = self._built(arguments, n_trials, "trials")
        for key in sorted({bare(key) for key in grid.keys} & searched):
            if key not in {bare(key) for key in self.arguments.fixed}:
                raise ConfigError(f"{key}: set by sweep.space and by another block of the sweep; leave one out")
        searches = [SearchWork(self, *part) for part in self._parts(grid)]
        results: list[dict[str, Any]] = []
        failed = False
        for search in searches:
            try:
                results += search.run()
            except SystemExit as stop:  # a search with failed jobs does not stop the next search
                if stop.code != FAILED:
                    raise
                failed = True
        if failed:
            raise SystemExit(FAILED)
        return results

    def _parts(self, grid: Grid) -> list[tuple[Grid, Point]]:
        """The grid and the point of each search, without the keys that the point's group options do not have."""
        kept = [set(overrides) for overrides in self._fitting(grid)]
        return [
            (
                dataclasses.replace(grid, fixed=_among(grid.fixed, overrides)),
                _among(point, overrides),
            )
            for point, overrides in zip(grid.points, kept, strict=True)
        ]

    def arguments_at(self, point: Point) -> Arguments:
        """The command line of one search: ``point`` is added to the fixed values and replaces the axes."""
        return Arguments({**self.arguments.fixed, **point}, self.arguments.deletions, {}, {})

    # --- both ----------------------------------------------------------------------------------------------------

    def _built(self, arguments: Arguments, trials: int, what: str) -> Grid:
        """Check the number of jobs, then build the grid.

        Args:
            trials: jobs at each point of the grid.
            what: the word for jobs in the error message.

        Raises:
            ConfigError: there are more jobs than a sweep may have.
        """
        spec = dataclasses.asdict(self.spec)
        self._check_size(points.grid_size(spec, arguments) * trials, what)
        return points.build_grid(spec, arguments)

    def _fitting(self, grid: Grid) -> list[list[str]]:
        """The overrides of each job.

        A key that only some jobs' group options have is dropped from the other jobs. A printed line reports this.

        Raises:
            ConfigError: no job has the key.
        """
        given = [self.composer.fitting(grid.overrides(point), grid.shared) for point in grid.points]
        left_out: dict[str, int] = {}
        for _, dropped in given:
            for key in dropped:
                left_out[key] = left_out.get(key, 0) + 1
        for key, count in left_out.items():
            if count == len(given):
                raise no_such_key(key, self.composer.known_keys())
            print(f"{key}: {count} of {len(given)} points have no such key and do without it")
        return [kept for kept, _ in given]

    def _check_size(self, size: int, what: str) -> None:
        if size > MAX_VALUES:
            raise ConfigError(f"{size} {what}: a sweep has at most {MAX_VALUES}")
        if size > self.spec.max_jobs and not self.switches.yes:
            raise ConfigError(f"{size} {what}: more than sweep.max_jobs={self.spec.max_jobs}; yes=true starts them all")

    def to_try(self, configs: Iterable[tuple[str, DictConfig]]) -> dict[str, DictConfig]:
        """One configuration for each model, for timing a few steps. Empty if the sweep has no check for its jobs."""
        return dict(configs) if self.context.check is not None else {}


def sweep_folder(config: DictConfig, spec: SweepConfig, arguments: Arguments) -> Path:
    """The folder of a sweep.

    A ``hydra.sweep.dir`` on the command line is the folder itself. Otherwise the folder is named after the sweep and
    lies below the part of the default ``hydra.sweep.dir`` that precedes the first interpolation.

    Raises:
        ConfigError: the folder cannot be used.
    """
    if any(str(text).lstrip("+").startswith("hydra.sweep.dir=") for text in config.hydra.overrides.hydra):
        return check_folder("hydra.sweep.dir", Path(str(config.hydra.sweep.dir)).absolute())
    node = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(node, dict)
    outputs = Path(str(node["dir"]).partition("${")[0]).absolute()
    names = sweep_names(spec, _file(config), arguments)
    name = next((name for name in names if os.path.isdir(outputs / name)), names[0])
    return check_folder("sweep.name", outputs / name)


def _typed(arguments: Sequence[str]) -> list[str]:
    """The command line without the ``sweep.auto`` override, which the program adds by itself."""
    return [text for text in arguments if not text.startswith("sweep.auto=")]


def _file(config: DictConfig) -> str | None:
    """The name of the sweep file; None for a sweep without a file."""
    name = config.hydra.runtime.choices.get("sweep")
    return None if name is None else str(name)


def _values(grid: Grid, key: str) -> list[str]:
    return list(dict.fromkeys(point[key] for point in grid.points if key in point))


def _among(point: Point, overrides: set[str]) -> Point:
    return {key: value for key, value in point.items() if f"{key}={value}" in overrides}
