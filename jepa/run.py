"""``python -m jepa.run``: trains and judges one run. With ``--multirun`` or ``+sweep=``, Hydra starts many.

torch is imported when a run starts. ``--help``, ``--cfg job`` and tab completion do not import torch.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig

from jepa import provenance
from jepa.config import presets
from jepa.config.arguments import deferred, prepare
from jepa.config.compose import TRUSTED_TARGETS, config_dir, prepare_arguments, register
from jepa.config.keys import known_keys
from jepa.config.messages import explain, missing_key, one_line
from jepa.errors import ConfigError, RunFailed, choice_error, printable
from jepa.files import disk_full_words, is_disk_full
from jepa.terminal import forgive
from jepa.training import openmp

if TYPE_CHECKING:
    from jepa.store.run_folder import Earlier
    from jepa.training.plan import Plan
    from jepa.training.trainer import Trainer

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> float:
    """Train and judge the run that ``cfg`` describes; Hydra's task function.

    If the run's folder holds a finished result, the result is shown and nothing is trained.

    Returns:
        The metric named by ``objective``.

    Raises:
        ConfigError: the configuration cannot be run; nothing has been written.
        RunFailed: the run has started and failed; its ``result.json`` says so.
        KeyboardInterrupt: a signal asked to stop; the checkpoint is saved, and the same command continues.
    """
    others = openmp.OtherProcesses()
    from jepa.prepare import make_loggers, make_plan
    from jepa.store.run_folder import Earlier, inspect, occupied
    from jepa.store.run_log import RunLog
    from jepa.training.check_model import check_model
    from jepa.training.runtime import prepare as prepare_torch
    from jepa.training.trainer import Trainer

    plan = make_plan(cfg)
    rerun = plan.config.rerun
    earlier = Earlier() if rerun else inspect(plan.folder, plan.scientific)
    if plan.config.dry_run:
        return _announced(plan, earlier)
    if earlier.status == "finished":
        return _shown_again(plan, earlier)
    _check_resume(plan, earlier)
    check_model(plan)
    prepare_torch(device=plan.device, threads=plan.config.threads, precision=plan.config.precision)
    with RunLog() as run_log:
        trainer = Trainer(plan, loggers=make_loggers(plan), resume=earlier.checkpoint)
        _check_continues(plan, trainer)
        with occupied(
            plan.folder, config=plan.plain, overrides=plan.overrides, aside=rerun, seen=earlier.seen
        ):
            run_log.open(plan.folder)
            log.info("%s", provenance.command(plan.overrides))
            _say_if_busy(others)
            try:
                outcome = trainer.run()
            except Exception as error:
                run_log.crash(error)
                if is_disk_full(error):
                    raise RunFailed(f"{disk_full_words(plan.folder)}, which continues from the checkpoint") from error
                raise RunFailed(f"{type(error).__name__}: {one_line(error)}; see {plan.folder}/run.log") from error
    if outcome.status == "failed":
        raise RunFailed(f"{outcome.error}; see {plan.folder}/run.log")
    return outcome.objective


def check(cfg: DictConfig) -> None:
    """Check all that :func:`run` checks, the model's shapes included, without writing or training.

    Raises:
        ConfigError: the configuration cannot be run.
    """
    from jepa.prepare import make_plan
    from jepa.store.run_folder import inspect
    from jepa.training.check_model import check_model

    plan = make_plan(cfg)
    if not plan.config.rerun:
        inspect(plan.folder, plan.scientific)
    check_model(plan)


def main() -> None:
    """The command line: exit code 0, 1 for a run that failed, 2 for a bad configuration, 130 when interrupted."""
    forgive()
    sys.exit(command_line(sys.argv[1:]))


def command_line(arguments: Sequence[str], task: Callable[[DictConfig], float] | None = None) -> int:
    """Run ``arguments`` as :func:`main` does, and return the exit code.

    task: called with the composed configuration instead of :func:`run`; for tests of the command line.
    """
    if "--version" in arguments:
        print(", ".join(f"{name} {version}" for name, version in provenance.versions().items()))
        return 0
    if presets.wants_help(arguments):
        print(presets.overview())
        return 0
    openmp.shorten_spin()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        register()
        arguments, notes = prepare_arguments(prepare(arguments))
        for note in notes:
            print(note)
        return _started(list(arguments), task or _task)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the checkpoint", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as stop:
        error = stop.error if isinstance(stop, _Stopped) else stop
        if wants_traceback:
            raise error from None
        return _report(error, arguments)


def _started(arguments: list[str], task: Callable[[DictConfig], float]) -> int:
    """Start Hydra. If a key exists in some jobs of a sweep only, leave it to the jobs and start Hydra again."""
    start = hydra.main(config_path=str(config_dir()), config_name="config", execution_whitelist=TRUSTED_TARGETS)
    while True:
        try:
            with _hydra_raises(), _argv(arguments):
                start(task)()
            return 0
        except ConfigCompositionException as error:
            key = missing_key(error)
            again = None if key is None else deferred(arguments, key)
            if again is None:
                raise
            arguments = again


class _Stopped(BaseException):
    """Wraps the error that ended a single run. Hydra would print lines of its own for an Exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@functools.wraps(run)
def _task(cfg: DictConfig) -> float:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run(cfg)
    try:
        return run(cfg)
    except Exception as error:
        raise _Stopped(error) from error


def _report(error: BaseException, arguments: Sequence[str]) -> int:
    """Print on one line what ended the command, and return the exit code."""
    if isinstance(error, RunFailed):
        print(f"error: the run failed: {printable(str(error))}", file=sys.stderr)
        return 1
    explained = explain(error, known_keys(arguments), arguments)
    if explained is None:
        traceback.print_exception(error)
        return 1
    print(f"error: {printable(str(explained))}", file=sys.stderr)
    return 2


def _shown_again(plan: Plan, earlier: Earlier) -> float:
    from jepa.results.run_summary import summary_lines

    assert earlier.result is not None
    print(f"{plan.folder} holds the finished result of this configuration (rerun=true runs it again)")
    if provenance.made_by(earlier.result) == "other":
        print(f"made by other code ({provenance.other_code(earlier.result)}); rerun=true runs it again")
    print("\n".join(summary_lines(earlier.result)))
    metrics = earlier.result["metrics"]
    if plan.config.objective not in metrics:
        numbers = [name for name, value in metrics.items() if not isinstance(value, list)]
        raise choice_error("objective", plan.config.objective, numbers)
    value = metrics[plan.config.objective]
    return math.nan if value is None else float(value)


def _say_if_busy(others: openmp.OtherProcesses) -> None:
    """Tell the user if other processes slow a single run down. Jobs of a sweep, which run side by side, do not."""
    import torch

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return
    words = openmp.busy_words(others.cores(), torch.get_num_threads(), os.cpu_count() or 1)
    if words is not None:
        log.info("%s", words)
        print(words, flush=True)


def _announced(plan: Plan, earlier: Earlier) -> float:
    """Print what the run would do (``dry_run=true``). Nothing is written."""
    from jepa.training.check_model import check_model

    if earlier.status != "finished":
        _check_resume(plan, earlier)
    num_parameters = check_model(plan)
    what = "starts it"
    if plan.config.rerun and plan.folder.exists():
        what = "runs it again; the earlier run is moved aside"
    if earlier.status == "finished":
        what = "shows the finished result again"
    elif earlier.checkpoint:
        what = "continues from the checkpoint"
    length = f"{plan.config.trainer.epochs} epochs of {plan.dataset.steps_per_epoch} steps"
    print(f"one run in {plan.folder}: this command {what}")
    print(f"{num_parameters:,} parameters, {length}, on {plan.device} in {plan.config.precision}")
    print("dry run: nothing has been started")
    return math.nan


def _wanted_resume(plan: Plan) -> bool | None:
    """The value of ``resume``: true, false, or None for auto."""
    resume = plan.config.resume
    return resume if isinstance(resume, bool) else {"true": True, "false": False}.get(resume)


def _check_continues(plan: Plan, trainer: Trainer) -> None:
    found = trainer.run_state.found
    if _wanted_resume(plan) is True and (found is None or found.state is None):
        raise ConfigError(f"resume=true: {plan.folder}: every checkpoint is damaged; resume=auto starts again")


def _check_resume(plan: Plan, earlier: Earlier) -> None:
    wanted = _wanted_resume(plan)
    if wanted is True and not earlier.checkpoint:
        raise ConfigError(f"resume=true: {plan.folder} holds no checkpoint; resume=auto starts a run there")
    if wanted is False and earlier.exists:
        raise ConfigError(
            f"resume=false: {plan.folder} holds an unfinished run; resume=auto continues it, "
            "rerun=true moves it aside and starts again"
        )


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Make Hydra raise its errors, so that :func:`_report` explains them; by default Hydra prints them and exits."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _argv(arguments: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


if __name__ == "__main__":
    # Import main by its module's name: a job that is sent to another process must find its function there.
    from jepa.run import main as _main

    _main()
