"""The importance of each hyperparameter of a search, computed with Optuna from the runs' files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from jepa.results.axes import axis_value
from jepa.results.records import ResultsError, Run
from jepa.store.result import is_number

_FEWEST_TRIALS = 4
_LOG_RATIO = 50.0


class Unexplained(ResultsError):
    """The importance of hyperparameters cannot be computed. reason: the cause, in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"--plot importance: {reason}")
        self.reason = reason


def importances(runs: Sequence[Run], axes: Sequence[str], metric: str) -> tuple[dict[str, float], str, int]:
    """The share of the variation of ``metric`` that each axis explains.

    The finished runs with values on all axes become the trials of a study in memory. The method is fANOVA (Hutter et
    al. 2014), whose forest of trees needs scikit-learn. Without scikit-learn it is PED-ANOVA (Watanabe et al. 2023).

    Returns:
        The shares by axis, the name of the method, and the number of trials.

    Raises:
        Unexplained: Optuna is not installed, nothing varies, or too few trials are finished.
    """
    try:
        import optuna
    except ImportError as error:
        raise Unexplained("needs Optuna: pip install optuna") from error
    complete = [
        run for run in runs
        if run.status == "finished" and is_number(run.value(metric)) and None not in _point(run, axes)
    ]  # fmt: skip
    columns = {axis: [axis_value(run, axis) for run in complete] for axis in axes}
    columns = {axis: values for axis, values in columns.items() if len(set(values)) > 1}
    if len(complete) < _FEWEST_TRIALS:
        raise Unexplained(f"{len(complete)} finished runs; at least {_FEWEST_TRIALS} are needed")
    if not columns:
        raise Unexplained("nothing varies among the finished runs")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    spaces = {axis: _distribution(optuna, values) for axis, values in columns.items()}
    for place, run in enumerate(complete):
        point = {axis: _parameter(values[place], spaces[axis], optuna) for axis, values in columns.items()}
        study.add_trial(optuna.trial.create_trial(params=point, distributions=spaces, value=float(run.value(metric))))
    evaluator, method = _evaluator(optuna)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that some evaluators are experimental
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {axis: float(share) for axis, share in shares.items()}, method, len(complete)


def _point(run: Run, axes: Sequence[str]) -> list[Any]:
    return [axis_value(run, axis) for axis in axes]


def _evaluator(optuna: Any) -> tuple[Any, str]:
    try:
        import sklearn.ensemble  # noqa: F401
    except ImportError:
        return optuna.importance.PedAnovaImportanceEvaluator(), "PED-ANOVA"
    return optuna.importance.FanovaImportanceEvaluator(seed=0), "fANOVA"


def _distribution(optuna: Any, values: Sequence[Any]) -> Any:
    """The smallest Optuna distribution that contains ``values``. A range is logarithmic from a factor of 50 on."""
    if all(is_number(value) for value in values):
        low, high = float(min(values)), float(max(values))
        return optuna.distributions.FloatDistribution(low, high, log=low > 0 and high / low >= _LOG_RATIO)
    return optuna.distributions.CategoricalDistribution(sorted({str(value) for value in values}))


def _parameter(value: Any, space: Any, optuna: Any) -> Any:
    return float(value) if isinstance(space, optuna.distributions.FloatDistribution) else str(value)
