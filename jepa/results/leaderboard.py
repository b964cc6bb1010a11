"""The leaderboard of the benchmark: a row for each method, a column for each condition (docs/benchmark.md).

The runs say themselves which condition they are of (the key ``benchmark``), so archives of others are read too. Trials
of a search are left out: they were judged on the validation stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jepa.config.names import short_names
from jepa.results.intervals import Summary, summarize
from jepa.results.records import ResultsError, Run, is_operational
from jepa.results.render import format_summary
from jepa.store.result import is_number

METRIC = "prediction_rmse_px"
BACKGROUND = "encoder_finite_accuracy"
SEARCHED = "fixed_125"  # the condition of the search, and of the verdict
BOUND = "supervised"  # the method that the others are read against
ORDER = ("clean", "changing_100", "fixed_050", "fixed_125", "fixed_200", "changing_photos_100", "fixed_photos_100")
# Keys that begin so make a method, or say how it is judged. A condition sets the other keys of the data set.
_PARTS = (
    *("model.", "optimizer.", "trainer.", "probe.", "precision", "init_from", "dataset._target_", "dataset.num_"),
    *(f"dataset.{key}" for key in ("batch_size", "size", "dot_std", "channels", "normalize")),
)
_OF_THE_CONDITION = ("probe.targets.", "probe.judge_stream", "probe.num_samples")
_NONE = "–"


@dataclass(frozen=True)
class Standing:
    """One method with one set of hyperparameters.

    method: its name, with the hyperparameters in which entries of this name differ. conditions: runs by condition.
    """

    method: str
    scale: str
    version: str
    conditions: Mapping[str, tuple[Run, ...]]

    def error(self, condition: str) -> Summary | None:
        """The error under ``condition``, px, over its seeds."""
        return self._summary(METRIC, condition)

    @property
    def mean_error(self) -> float | None:
        """The mean error over conditions, px; None unless all conditions of the board have a result."""
        errors = [self.error(condition) for condition in self.conditions]
        return None if None in errors else sum(error.mean for error in errors if error) / len(errors)

    @property
    def background(self) -> Summary | None:
        """How often the encoder's probe tells which of the 16 backgrounds a sequence has, 0 to 1."""
        return self._summary(BACKGROUND, "backgrounds_16")

    @property
    def seconds(self) -> float | None:
        """The training time of a run, s, the mean over all runs."""
        found = summarize([float(value) for run in self._runs if is_number(value := run.value("train_seconds"))])
        return None if found is None else found.mean

    @property
    def verdict(self) -> str:
        """What most runs under fixed uniform noise of 1.25 have learnt."""
        words = Counter(str(run.value("verdict")) for run in self.conditions.get(SEARCHED, ()) if run.value("verdict"))
        return words.most_common(1)[0][0] if words else _NONE

    @property
    def _runs(self) -> list[Run]:
        return [run for runs in self.conditions.values() for run in runs]

    def _summary(self, metric: str, condition: str) -> Summary | None:
        values = (run.value(metric) for run in self.conditions.get(condition, ()))
        return summarize([float(value) for value in values if is_number(value)])


def standings(runs: Sequence[Run]) -> list[Standing]:
    """The rows of the leaderboard, the smallest mean error first, incomplete rows last.

    Raises:
        ResultsError: no finished run is of the benchmark and judged on the test stream.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.status == "finished" and _entry(run) != ("", "") and run.value("probe.judge_stream") != "validation":
            version = _entry(run)[0]
            groups.setdefault((version, str(run.value("scale") or "none"), _model(run), _science(run)), []).append(run)
    if not groups:
        raise ResultsError("--leaderboard: no finished run is of the benchmark (+sweep=benchmark)")
    conditions = {version: _conditions(runs, version) for version, *_ in groups}
    labels = _labels(groups)
    rows = [
        Standing(labels[key], key[1], key[0], {name: _of(group, name) for name in conditions[key[0]]})
        for key, group in groups.items()
    ]
    return sorted(rows, key=lambda row: (row.version, row.scale, row.mean_error is None, row.mean_error or 0.0))


def table(rows: Sequence[Standing]) -> tuple[list[str], list[list[str]]]:
    """The header and the cells, as text."""
    conditions = list(dict.fromkeys(name for row in rows for name in row.conditions))
    scales = len({(row.version, row.scale) for row in rows}) > 1
    header = [*(["version", "scale"] if scales else []), "method", "mean", *conditions]
    header += [f"verdict ({SEARCHED})", "background probe", "s/run"]
    body = []
    for row in rows:
        cells = [*([row.version, row.scale] if scales else []), row.method, _number(row.mean_error)]
        cells += [_NONE if (error := row.error(name)) is None else format_summary(error) for name in conditions]
        seen = _NONE if row.background is None else f"{100 * row.background.mean:.0f} %"
        body.append([*cells, row.verdict, seen, _NONE if row.seconds is None else f"{row.seconds:.0f}"])
    return header, body


def notes(rows: Sequence[Standing]) -> list[str]:
    """What the columns mean, and what the board was made of."""
    scales = sorted({row.scale for row in rows})
    versions = sorted({row.version for row in rows})
    seeds = sorted({len(runs) for row in rows for runs in row.conditions.values() if runs})
    counts = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    return [
        f"benchmark {', '.join(versions)}, scale {', '.join(scales)}; px, prediction probe on the test stream, mean ±"
        f" half of the 95 % interval over {counts} seeds",
        "mean: over the conditions; background probe: its accuracy among 16, from the encoding of frame 0;"
        f" {BOUND}: trained with the true locations for as many sequences",
    ]


def records(rows: Sequence[Standing]) -> list[dict[str, Any]]:
    """One flat mapping for each row, in full precision."""
    found = []
    for row in rows:
        record: dict[str, Any] = {"version": row.version, "scale": row.scale, "method": row.method}
        record["mean"] = row.mean_error
        for name, runs in row.conditions.items():
            error = row.error(name)
            record |= {name: error and error.mean, f"{name}_ci95": error and error.half_width, f"{name}_n": len(runs)}
        record |= {"verdict": row.verdict, "background": row.background and row.background.mean, "seconds": row.seconds}
        found.append(record)
    return found


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _model(run: Run) -> str:
    return run.choices.get("model") or str(run.value("model"))


def _science(run: Run) -> tuple[tuple[str, Any], ...]:
    """The settings that make a method: those of the model, the optimizer, the training and the probe."""
    keys = (key for key in run.config if key.startswith(_PARTS) and not key.startswith(_OF_THE_CONDITION))
    return tuple(sorted((key, str(run.config[key])) for key in keys if not is_operational(key)))


def _entry(run: Run) -> tuple[str, str]:
    """The version and the condition that a run's configuration names, as in ``v1/clean``; empty without a name."""
    version, _, condition = str(run.config.get("benchmark") or "").partition("/")  # the option of the group is "clean"
    return version, condition


def _of(runs: Sequence[Run], condition: str) -> tuple[Run, ...]:
    """The runs of ``condition``, one for each seed: the latest."""
    by_seed: dict[Any, Run] = {}
    for run in sorted(runs, key=lambda run: str(run.value("started"))):
        if _entry(run)[1] == condition:
            by_seed[run.value("seed")] = run
    return tuple(by_seed.values())


def _conditions(runs: Sequence[Run], version: str) -> list[str]:
    """The conditions of ``version`` among the runs, in the order of the protocol."""
    found = dict.fromkeys(name for of, name in map(_entry, runs) if of == version)
    return [name for name in ORDER if name in found] + sorted(name for name in found if name not in ORDER)


def _labels(groups: Mapping[tuple[Any, ...], Sequence[Run]]) -> dict[tuple[Any, ...], str]:
    """The method of each row, with the settings in which rows of this method differ.

    Where rows chose other options of a group, such as model/encoder, the option stands for all of its keys.
    """
    labels = {}
    for key, runs in groups.items():
        version, scale, model, science = key
        same = [other for other in groups if other[:3] == (version, scale, model)]
        own = dict(science)
        differing = [name for name in own if any(dict(other[3]).get(name) != own[name] for other in same)]
        options = [groups[other][0].choices for other in same]
        chosen: dict[str, str] = {}
        for group, option in runs[0].choices.items():
            within = [name for name in differing if name.startswith(group.replace("/", ".") + ".")]
            if "/" in group and within and len({str(of.get(group)) for of in options}) > 1:
                chosen[group.rpartition("/")[2]] = str(option)
                differing = [name for name in differing if name not in within]
        short = short_names(differing)
        settings = {short[name]: _rounded(own[name]) for name in differing}
        words = ", ".join(f"{name}={value}" for name, value in {**chosen, **settings}.items())
        labels[key] = f"{model} ({words})" if words else model
    return labels


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
