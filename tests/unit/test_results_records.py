"""Names: short ones, ambiguous ones, wrong ones; what is no axis."""

from __future__ import annotations

import pytest

from jepa.config.names import short_names
from jepa.results.records import Names, ResultsError, Run, flatten, is_operational, parse_override


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("logger.wandb.mode", True),
        ("logger", True),
        ("trainer.compile", True),
        ("trainer.epochs", False),
        ("seed", False),
    ],
)
def test_operational(key: str, expected: bool) -> None:
    assert is_operational(key) is expected


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2.5], "f": {}}) == {
        "a.b": 1,
        "a.c.d": None,
        "e": "[1, 2.5]",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset.noise=1", ("dataset.noise", "1")),
        ("+model/encoder@model.encoder=menet5", ("model/encoder", "menet5")),
        ("++a.b='x y'", ("a.b", "x y")),
        ("~optimizer.schedule", ("optimizer.schedule", "")),
    ],
)
def test_parse_override(text: str, expected: tuple[str, str]) -> None:
    assert parse_override(text) == expected


def test_resolution() -> None:
    run = Run(
        "r",
        "finished",
        {"optimizer.base_lr": 1.0, "a.size": 1, "b.size": 2, "model.sim_coeff": 3.0, "noise": 4, "dataset.noise": 5},
        {"model": "vicreg", "model/encoder": "menet5"},
        {"loss/total": 1.0, "encoder_rmse_px": 2.0, "encoder_rmse_px_per_dot": [1.0, 2.0]},
    )
    names = Names([run])
    assert names.resolve("lr") == "optimizer.base_lr"
    assert names.resolve("total") == "loss/total"
    assert names.resolve("encoder") == "model/encoder"
    assert names.resolve("sim") == "model.sim_coeff"
    assert names.resolve("encoder_rmse") == "encoder_rmse_px"
    assert names.resolve("noise") == "noise"  # an exact name is never ambiguous
    assert run.value(names.resolve("encoder_rmse_px_per_dot.1")) == 2.0
    assert run.value("encoder_rmse_px_per_dot.2") is None
    with pytest.raises(ResultsError, match=r"'size' could be a\.size, b\.size"):
        names.resolve("size")
    with pytest.raises(ResultsError, match="did you mean 'optimizer.base_lr'"):
        names.resolve("base_rl")


def test_short_names_stay_distinct() -> None:
    keys = ["dataset.noise", "probe.noise", "optimizer.base_lr", "m_per_dot.0", "model"]
    assert list(short_names(keys).values()) == ["dataset.noise", "probe.noise", "base_lr", "m_per_dot.0", "model"]
