"""Probes judged on the test stream or on the validation stream, against a judgement by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import open_dict

from jepa import api
from jepa.config.compose import compose, config_hash, register
from jepa.data.stream import Stream
from jepa.errors import ConfigError
from jepa.packing.pack import PackOptions, run_pack
from jepa.prepare import make_plan
from jepa.run import run

TINY = [
    "dataset.size=24",
    "dataset.batch_size=8",
    "dataset.num_steps=5",
    "dataset.noise=0.5",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "trainer.epochs=2",
    "trainer.warmup_epochs=1",
    "probe.fit_sequences=192",
    "probe.judge_sequences=8",
    "progress=none",
    "plots=false",
]
PURPOSES = {"test": "probe_judge", "validation": "probe_validation"}


def execute(folder: Path, *overrides: str) -> dict[str, Any]:
    register()
    run(compose([*TINY, f"folder={folder}", *overrides], with_hydra=True))
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def by_hand(folder: Path, purpose: str) -> float:
    """The RMSE of the prediction probe on the first batch of a stream, in px."""
    loaded = api.load(folder)
    environment = loaded.environment
    batch = Stream(environment.dataset, 0, purpose, environment.normalizer, "cpu").next()
    trajectory = torch.cat([loaded.encode(batch.states)[:1], loaded.predict(batch.states[0], batch.actions)])
    answers = loaded.probe().prediction(trajectory)
    true = environment.to_px(batch.locations)
    return math.sqrt(float((answers - true).square().sum(-1).mean()))


@pytest.mark.parametrize("stream", ["test", "validation"])
def test_a_run_is_judged_on_the_stream_that_it_names(stream: str, tmp_path: Path) -> None:
    result = execute(tmp_path, f"probe.judge_stream={stream}")
    assert result["judge_stream"] == stream
    values = {name: by_hand(tmp_path, purpose) for name, purpose in PURPOSES.items()}
    assert result["metrics"]["prediction_rmse_px"] == pytest.approx(values[stream], rel=1e-5)
    assert abs(values["test"] - values["validation"]) > 0.01


def test_packed_jobs_are_judged_on_the_stream_that_they_name(tmp_path: Path) -> None:
    register()
    plans = []
    for seed in (0, 1):
        names = [f"seed={seed}", "probe.judge_stream=validation"]
        execute(tmp_path / f"alone{seed}", *names)
        plans.append(make_plan(compose([*TINY, *names, f"folder={tmp_path}/packed{seed}"], with_hydra=True)))
    for seed, outcome in enumerate(run_pack(plans, PackOptions(2, "vmap", False))):
        alone = json.loads((tmp_path / f"alone{seed}" / "result.json").read_text())["metrics"]
        assert outcome.metrics["prediction_rmse_px"] == pytest.approx(alone["prediction_rmse_px"], rel=1e-4)


def test_the_test_stream_is_not_in_the_hash() -> None:
    """A run of an earlier version, whose configuration has no such key, keeps its hash."""
    earlier = compose([])
    with open_dict(earlier):
        del earlier.probe["judge_stream"]
    assert config_hash(earlier) == config_hash(compose(["probe.judge_stream=test"])) == config_hash(compose([]))
    assert config_hash(compose(["probe.judge_stream=validation"])) != config_hash(earlier)


def test_an_unknown_stream_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^probe\.judge_stream='validaton': .*did you mean 'validation'"):
        make_plan(compose([*TINY, "probe.judge_stream=validaton", f"folder={tmp_path}"], with_hydra=True))
