"""Loggers as parts: how they are chosen, and what the tables and TensorBoard's files hold."""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from jepa.config.compose import compose
from jepa.errors import ConfigError
from jepa.loggers.base import Logger, RunInfo
from jepa.loggers.csv import CsvLogger
from jepa.loggers.files import FilesLogger
from jepa.loggers.tensorboard import TensorboardLogger
from jepa.prepare import make_loggers, make_plan

TOTAL = 40
needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the extra tensorboard"
)


# --- how they are chosen -------------------------------------------------------------------------------------------


def names(*words: str) -> list[str]:
    cfg = compose(["trainer=quick", *words], with_hydra=True)
    return [type(logger).__name__ for logger in make_loggers(make_plan(cfg))]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], []),
        (["logger=files"], []),
        (["logger=wandb"], ["WandbLogger"]),
        (["logger=both"], ["WandbLogger"]),
        (["logger=[wandb,csv]"], ["WandbLogger", "CsvLogger"]),
        (["logger=[files,csv]"], ["CsvLogger"]),
        (["logger=[csv,both]", "logger.wandb.mode=offline", "logger.wandb.tags=[a]"], ["CsvLogger", "WandbLogger"]),
        (["logger=wandb", "logger.wandb=null"], []),
        (["+logger.csv._target_=jepa.loggers.csv.CsvLogger"], ["CsvLogger"]),
    ],
)
def test_several_loggers_may_be_chosen(words: list[str], chosen: list[str]) -> None:
    assert names("progress=none", *words) == ["FilesLogger", *chosen]
    assert names(*words) == ["FilesLogger", "ProgressDisplay", *chosen]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logger=[csv]", "+logger.csv.path=x"], r"logger\.csv\.path: no such key"),
        (["logger=wandb", "logger.wandb.name=3"], r"logger\.wandb\.name=3: must be text or null"),
        (["logger=wandb", "logger.wandb.tags=a"], r"logger\.wandb\.tags='a': must be a list, each text"),
        (["+logger.mine=true"], r"logger\.mine=True: must name a class in _target_"),
        (["+logger.mine._target_=jepa.losses.terms.Nothing"], r"logger\.mine\._target_='jepa\.losses\.terms\.Nothing'"),
        (["+logger.mine._target_=jepa.optim.adam.Adam"], r"logger\.mine\._target_.*derived from jepa\.loggers\.base"),
        (["logger=wandb", "~logger.wandb.tags"], r"logger\.wandb\.tags: is missing"),
    ],
)
def test_what_is_no_logger_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        names(*words)


def test_a_missing_package_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^logger=tensorboard: needs the package tensorboard; pip install"):
        TensorboardLogger()


# --- what they leave -----------------------------------------------------------------------------------------------


def train_record(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "kind": "train", "time_s": 1.5, "loss/total": 1 / step}


def probe_record(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "kind": "probe", "time_s": 1.5, "prediction_rmse_px": 2.0 + step}


def write_run(logger: Logger, folder: Path, *, after: int = 0, until: int = TOTAL) -> None:
    """Records every 10 of 40 steps and a probe every 20, as a run that goes on after a step makes them."""
    folder.mkdir(exist_ok=True)
    both = [FilesLogger(), logger]
    for one in both:
        one.start(RunInfo(folder, {"config": {"seed": 3, "model": {"coeff": 0.5}}}, after, TOTAL, steps_per_epoch=10))
    records = [train_record(step) for step in range(after + 10, until + 10, 10)]
    records += [probe_record(step) for step in range(20, until + 10, 20) if step > after or step == TOTAL]
    for record in sorted(records, key=lambda record: record["step"]):
        for one in both:
            one.record(record)
    for one in both:
        one.finish({"status": "interrupted"})


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_a_row_for_each_record(tmp_path: Path) -> None:
    write_run(CsvLogger(), tmp_path)
    rows = table(tmp_path / "train.csv")
    assert list(rows[0]) == ["step", "epoch", "time_s", "loss/total"]
    assert [(int(row["step"]), float(row["loss/total"])) for row in rows] == [(step, 1 / step) for step in steps()]
    assert [(row["step"], row["prediction_rmse_px"]) for row in table(tmp_path / "probe.csv")] == [
        ("20", "22.0"),
        ("40", "42.0"),
    ]


def steps() -> range:
    return range(10, TOTAL + 10, 10)


def test_a_table_takes_new_columns_and_missing_values(tmp_path: Path) -> None:
    logger = CsvLogger()
    logger.start(RunInfo(tmp_path, {}, 0, TOTAL, steps_per_epoch=10))
    logger.record({"step": 1, "kind": "train", "loss/total": math.nan})
    logger.record({"step": 2, "kind": "train", "loss/total": 0.25, "loss/late": 0.5})
    logger.record({"step": 3, "kind": "train", "loss/late": 1.0})
    expected = "step,loss/total,loss/late\n1,,\n2,0.25,0.5\n3,,1.0\n"
    assert (tmp_path / "train.csv").read_text() == expected


@pytest.mark.parametrize("resumed_at", [10, 20, 30, 40])
def test_resumed_tables_equal_uninterrupted_ones(tmp_path: Path, resumed_at: int) -> None:
    write_run(CsvLogger(), tmp_path / "whole")
    write_run(CsvLogger(), tmp_path / "parts")
    with (tmp_path / "parts" / "train.csv").open("a") as file:
        file.write("50,5.")  # a kill cut this row short
    write_run(CsvLogger(), tmp_path / "parts", after=resumed_at)
    for name in ("train.csv", "probe.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def age(folder: Path) -> None:
    """Date event files back; readers sort files by the second in their name, then by text."""
    for path in (folder / "tensorboard").iterdir():
        path.rename(path.with_name(path.name.replace("tfevents.1", "tfevents.0")))


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()


def points(found: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in found.Scalars(name)]


@needs_tensorboard
@pytest.mark.parametrize("resumed_at", [None, 10, 20, 30, 40])
def test_tensorboard_shows_each_point_once(tmp_path: Path, resumed_at: int | None) -> None:
    write_run(TensorboardLogger(), tmp_path)
    if resumed_at is not None:
        age(tmp_path)
        write_run(TensorboardLogger(), tmp_path, after=resumed_at)
    found = events(tmp_path)
    assert points(found, "loss/total") == [(step, pytest.approx(1 / step)) for step in steps()]
    assert points(found, "prediction_rmse_px") == [(20, 22.0), (40, 42.0)]
    assert set(found.Tags()["scalars"]) == {"loss/total", "prediction_rmse_px"}


@needs_tensorboard
def test_a_run_that_starts_again_shows_nothing_of_the_first(tmp_path: Path) -> None:
    write_run(TensorboardLogger(), tmp_path)
    age(tmp_path)
    write_run(TensorboardLogger(), tmp_path, until=10)
    assert points(events(tmp_path), "loss/total") == [(10, pytest.approx(0.1))]


@needs_tensorboard
def test_the_end_holds_pictures_hyperparameters_and_final_metrics(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    logger = TensorboardLogger()
    logger.start(RunInfo(tmp_path, {"config": {"seed": 3, "model": {"coeff": 0.5, "mlp": None}}}, 0, TOTAL, 10))
    logger.record({**train_record(40), "loss/broken": math.nan, "loss/none": None})
    figure = Figure(figsize=(1, 1), dpi=20, facecolor="red")
    figure.savefig(tmp_path / "losses.png")
    logger.plot("losses", tmp_path / "losses.png")
    logger.finish({"status": "finished", "metrics": {"prediction_rmse_px": 2.5, "per_step": [1.0], "bad": None}})
    found = events(tmp_path)
    assert points(found, "final/prediction_rmse_px") == [(40, 2.5)]
    assert set(found.Tags()["scalars"]) == {"loss/total", "final/prediction_rmse_px"}
    [image] = found.Images("plots/losses")
    assert (image.step, image.width, image.height) == (40, 20, 20)
    assert np.asarray(decoded(image.encoded_image_string))[0, 0].tolist() == [255, 0, 0]
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["seed"].number_value == 3 and values["model.coeff"].number_value == 0.5
    assert values["model.mlp"].string_value == "None"


def decoded(data: bytes) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("make", [CsvLogger, pytest.param(TensorboardLogger, marks=needs_tensorboard)])
def test_a_logger_may_end_before_it_begins(make: Callable[[], Logger]) -> None:
    make().finish({"status": "interrupted"})
