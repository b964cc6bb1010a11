"""The language of --where: what it accepts, what it means, and how it refuses."""

from __future__ import annotations

import pytest

from jepa.results.query import compile_condition
from jepa.results.records import Names, ResultsError, Run

RUNS = [
    Run("s/a", "finished", {"dataset.static_noise": 1.25, "dataset.noise": 0.0, "probe.size": 5}, {"model": "vicreg"},
        {"prediction_rmse_px": 3.5, "prediction_rmse_px_per_dot": [3.5, 9.0]},
        fields={"seed": 0, "config_hash": "0123456789"}),
    Run("s/b", "finished", {"dataset.static_noise": 0, "dataset.noise": 2.0, "trainer.size": 7}, {"model": "rssm"},
        {"prediction_rmse_px": 1.5},
        fields={"seed": 1, "config_hash": "12e4567890", "verdict": "knows only the start"}),
    Run("s/c", "pending", overrides=("model=simclr", "dataset.static_noise=2.0", "dataset.structured_noise=true")),
]  # fmt: skip


def matching(text: str) -> str:
    condition = compile_condition(text, Names(RUNS))
    return "".join(run.name for run in RUNS if condition.holds(run))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("model=vicreg", "a"),
        ("model == vicreg", "a"),
        ("model!=vicreg", "bc"),
        ("static_noise>1", "ac"),
        ("static_noise > 1 and model=vicreg", "a"),
        ("static_noise>=1.25 or noise=2", "abc"),
        ("static_noise=0", "b"),
        ("static_noise=0.0", "b"),
        ("not static_noise<=1", "ac"),
        ("not model=vicreg and not model=rssm", "c"),
        ("model=vicreg or model=rssm and seed=0", "a"),
        ("(model=vicreg or model=rssm) and seed=1", "b"),
        ("NOT (model = vicreg OR model = rssm)", "c"),
        ("model in (vicreg, simclr)", "ac"),
        ("model in [vicreg,simclr]", "ac"),
        ("model not in (vicreg, simclr)", "b"),
        ("seed in (0, 1)", "ab"),
        ("verdict='knows only the start'", "b"),
        ('verdict = "knows only the start"', "b"),
        ("verdict=null", "ac"),
        ("verdict!=none", "b"),
        ("hash=0123456789", "a"),
        ("hash=12e4567890", "b"),
        ("structured_noise=true", "c"),
        ("status=pending", "c"),
        ("rmse<2", "b"),
        ("prediction_rmse<2", "b"),
        ("prediction_rmse_px_per_dot.1>8", "a"),
        ("dataset.noise>-1", "ab"),
        ("model<simclr", "b"),
    ],
)
def test_meaning(text: str, names: str) -> None:
    assert matching(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle=vicreg", "no run has a key 'modle'; did you mean 'model'"),
        ("statik_noise=1", "did you mean 'dataset.static_noise'"),
        ("size=5", "'size' could be probe.size, trainer.size: write more of it"),
        ("model", "expected one of = != < <= > >= in at character 6, it ends"),
        ("model=", "expected a value at character 7, it ends"),
        ("=vicreg", "expected a key at character 1, found '='"),
        ("(model=vicreg", "expected ')'"),
        ("model=vicreg)", "expected 'and', 'or' or the end at character 13"),
        ("model=vicreg model=rssm", "expected 'and', 'or' or the end"),
        ("model in vicreg", "expected a list"),
        ("model in (vicreg", "expected ')'"),
        ("model not vicreg", "expected 'in'"),
        ("model='vicreg", "cannot read"),
        ("noise>null", "only numbers and words have an order"),
        ("", "expected a key"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ResultsError) as error:
        compile_condition(text, Names(RUNS))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_order_of_words_and_numbers() -> None:
    with pytest.raises(ResultsError, match="model is 'vicreg', which has no order with 3"):
        matching("model>3")


def test_nothing_is_evaluated() -> None:
    with pytest.raises(ResultsError):
        compile_condition("__import__('os').system('true')", Names(RUNS))
