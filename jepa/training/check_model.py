"""Checks of a plan that need the model: the model is built without weights, so the checks take no time."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from jepa.errors import ConfigError, check_choice
from jepa.methods.base import Method
from jepa.planning.report import METRIC_NAMES
from jepa.probes.conditions import condition_metric_names
from jepa.store import checkpoint
from jepa.training.plan import Plan

MAX_PARAMETERS = 2**31  # with gradients and the optimizer's state, such a model takes 26 to 34 GB
MAX_STEPS = 10**8  # training takes years, and the table of learning rates would fill the memory


def check_model(plan: Plan) -> int:
    """Build the model without weights, and check what depends on the model.

    These are: the number of parameters and of steps, the schedule, ``init_from``, the batch size, and the metrics that
    ``objective`` and ``on_probe`` name.

    Returns:
        The number of parameters.

    Raises:
        ConfigError: one of them does not fit.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        method = plan.build_method()
    num_parameters = sum(parameter.numel() for parameter in method.parameters())
    if num_parameters > MAX_PARAMETERS:
        raise ConfigError(f"model: has {num_parameters:,} parameters; at most {MAX_PARAMETERS:,} are allowed")
    num_steps = plan.config.trainer.epochs * plan.dataset.steps_per_epoch
    if num_steps > MAX_STEPS:
        raise ConfigError(
            f"trainer.epochs={plan.config.trainer.epochs}: makes {num_steps:,} steps with dataset.size="
            f"{plan.dataset.size} and dataset.batch_size={plan.dataset.batch_size}; at most {MAX_STEPS:,} are allowed"
        )
    if method.trainable:
        _check_schedule(plan, num_steps)
    if plan.config.init_from is not None:
        checkpoint.check_initial_model(Path(plan.config.init_from), method.state_dict())
    if plan.planner is not None:
        plan.planner.check(plan.dataset, method, f"model={plan.config.choices.get('model')}")
    _check_batch(plan, method)
    _check_metrics(plan, method)
    return num_parameters


def _check_schedule(plan: Plan, num_steps: int) -> None:
    """Check the warm-up. The error names ``trainer.warmup_epochs``, unless the user set the schedule's own key."""
    try:
        plan.optimizer.schedule.check(num_steps, plan.dataset.steps_per_epoch)
    except ConfigError as error:
        told = {text.lstrip("+").partition("=")[0] for text in plan.overrides}
        key = "optimizer.schedule.warmup_epochs"
        if key in told or not str(error).startswith(key):
            raise
        raise ConfigError(f"trainer.warmup_epochs{str(error)[len(key) :]}") from error


def _check_batch(plan: Plan, method: Method) -> None:
    if method.trainable and plan.dataset.batch_size < method.smallest_batch:
        raise ConfigError(
            f"dataset.batch_size={plan.dataset.batch_size}: must be at least {method.smallest_batch} for "
            f"model={plan.config.choices.get('model')}, whose loss compares the sequences of a batch"
        )


def _check_metrics(plan: Plan, method: Method) -> None:
    """Refuse an ``objective`` or ``on_probe.objective`` that names a metric the run does not measure."""
    trained = method.trainable and plan.config.trainer.epochs > 0
    losses = [f"loss/{name}" for name in ("total", *method.loss_weights())] if trained else []
    errors = [*plan.probe.metric_names, *(["head_rmse_px"] if method.has_location_head else [])]
    errors += condition_metric_names(plan.conditions)
    planned = [] if plan.planner is None else METRIC_NAMES
    dots = plan.dataset.shapes.num_dots
    by_dot = [f"{probe}_rmse_px_per_dot.{dot}" for probe in ("prediction", "encoder") for dot in range(dots)]
    _refuse_gain(plan.config.objective)
    terms_known = bool(method.loss_weights()) or not trained
    known = [*errors, *by_dot, *losses, *planned, "train_seconds"]
    _check_metric("objective", plan.config.objective, known, terms_known)
    watched = getattr(plan.on_probe, "objective", None)
    if isinstance(watched, str):
        _check_metric("on_probe.objective", watched, [*errors, *losses], terms_known)


def _refuse_gain(name: str) -> None:
    """Refuse a metric that is the better the larger it is: an objective is minimised."""
    if name.startswith("planning_success"):
        raise ConfigError(f"objective={name}: an objective is minimised; take planning_failure, which is 1 - success")
    if re.search(r"_(r2|accuracy)(_on_|$)", name):
        raise ConfigError(f"objective={name}: an objective is minimised, and more is better here; take an _rmse")


def _check_metric(key: str, name: str, measured: list[str], terms_known: bool) -> None:
    if not terms_known and name.startswith("loss/"):
        return
    check_choice(key, name, measured)
