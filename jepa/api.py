"""The Python interface: train a run, load a run, tabulate many runs. docs/python.md shows how to use it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jepa.config.arguments import prepare
from jepa.config.compose import compose
from jepa.errors import ConfigError, check_choice
from jepa.files import Damaged
from jepa.store import checkpoint, layout
from jepa.store.config import read_config, read_overrides
from jepa.store.metrics import read_metrics
from jepa.store.recompose import compose_again, moved_to
from jepa.store.result import read_result

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from jepa.data.environment import Environment
    from jepa.data.normalization import Normalizer
    from jepa.methods.base import Method
    from jepa.planning.planner import Planned, Planner
    from jepa.probes.maps import ProbeMaps
    from jepa.training.plan import Plan
    from jepa.types import Batch

PathLike = str | os.PathLike[str]
Value = TypeVar("Value")


def train(overrides: Sequence[str]) -> Run:
    """Train and judge a run, as ``python -m jepa.run OVERRIDES`` does. A finished run is not trained again.

    Args:
        overrides: as on the command line, for example ``["model=vicreg", "dataset.noise=1"]``.

    Returns:
        The run, on the CPU.

    Raises:
        ConfigError: the configuration cannot be run; nothing has been written.
        RunFailed: the run has failed; its ``run.log`` says why.
    """
    from jepa import run
    from jepa.prepare import make_plan

    cfg = compose(prepare(list(overrides)), with_hydra=True)
    folder = make_plan(cfg).folder
    run.run(cfg)
    return load(folder)


def load(folder: PathLike, device: str = "cpu", *, config_dir: PathLike | None = None) -> Run:
    """The run in ``folder``, finished or not.

    Args:
        folder: the folder of a run, such as ``outputs/runs/vicreg-1e07bc3a24``, or of a job of a sweep.
        device: the device of the model and the data, as for ``device=`` on the command line.
        config_dir: the folder of yaml files that ``--config-dir`` named, if the run has parts of your own.

    Raises:
        ConfigError: the folder holds no run, or one of its files cannot be read.
    """
    path = Path(folder)
    if not any((path / name).is_file() for name in (layout.RESULT, layout.CONFIG)):
        raise ConfigError(f"{path}: holds no run (neither result.json nor config.yaml)")
    return Run(path, device, config_dir)


def runs(*folders: PathLike) -> pd.DataFrame:
    """One row for each run below ``folders``: folder, status, configuration, metrics, and other recorded fields.

    Columns have the names that ``python -m jepa.results`` uses: ``dataset.noise``, ``prediction_rmse_px``, ``verdict``.
    Metrics by time step and by dot are lists.

    Raises:
        ResultsError: a folder does not exist or holds no runs.
    """
    from jepa.results.collect import collect

    found = collect(os.fspath(folder) for folder in folders).runs
    rows = [
        {"folder": run.folder, "status": run.status, **run.choices, **run.config, **run.metrics, **run.fields}
        for run in found
    ]
    return _pandas().DataFrame(rows)


class Run:
    """The files of a run, and its frozen model. Each file is read at its first use."""

    def __init__(self, folder: Path, device: str, config_dir: PathLike | None = None) -> None:
        """Called by ``load``, with the same arguments."""
        self.folder = folder
        self._device_name = device
        self._config_dir = config_dir

    def __repr__(self) -> str:
        return f"<jepa run {self.folder}: {self.status}>"

    # --- the files -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def result(self) -> dict[str, Any] | None:
        """``result.json``; None while the run has none."""
        return _read(read_result, self.folder)

    @property
    def status(self) -> str:
        """``finished``, ``failed`` or ``pruned``; ``unfinished`` without a result."""
        return "unfinished" if self.result is None else str(self.result["status"])

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The whole configuration, resolved, as nested dictionaries."""
        config = _read(read_config, self.folder)
        if config is None:
            raise ConfigError(f"{self.folder / layout.CONFIG}: is missing")
        return config

    @functools.cached_property
    def metrics(self) -> pd.DataFrame:
        """``metrics.jsonl``, one row a record: ``step``, ``epoch``, ``kind`` (train or probe) and the values."""
        return _pandas().DataFrame(read_metrics(self.folder))

    # --- the model and its data ------------------------------------------------------------------------------------

    @functools.cached_property
    def device(self) -> torch.device:
        """The device of the model and the data."""
        from jepa.training.device import resolve_device

        return resolve_device(self._device_name)

    @functools.cached_property
    def _plan(self) -> Plan:
        from jepa.prepare import make_plan

        cfg = compose_again(self.config, self._overrides(), self._config_dir)
        return make_plan(moved_to(cfg, self._device_name, is_cuda=self.device.type == "cuda"))

    def _overrides(self) -> list[str]:
        found = _read(read_overrides, self.folder) or []
        return [text for text in found if not text.startswith(("hydra", "+hydra"))]

    @functools.cached_property
    def _state(self) -> dict[str, Any]:
        found = checkpoint.latest(self.folder, None)
        if found.state is None:
            reason = found.damaged[0][1] if found.damaged else f"{self.folder}: holds no checkpoint"
            raise ConfigError(f"{reason}; without one there is no model to load")
        return found.state

    @functools.cached_property
    def model(self) -> Method:
        """The trained model, frozen: in evaluation mode, without gradients, on ``device``."""
        model = self._plan.build_method()
        expected = model.state_dict()
        model.load_state_dict({**expected, **checkpoint.our_names(self._state["model"], expected)})
        return model.to(self.device).eval().requires_grad_(False)

    @functools.cached_property
    def environment(self) -> RunEnvironment:
        """The data that the run was trained on, with its normalisation."""
        from jepa.data.normalization import Normalizer

        saved = self._state["normalizer"]
        normalizer = None if saved is None else Normalizer.of(saved, self.device)
        plan = self._plan
        return RunEnvironment(plan.dataset, normalizer, plan.config.seed, self.device, plan.probe.judging_purpose)

    def encode(self, frames: Tensor) -> Tensor:
        """Embeddings of frames.

        Args:
            frames: [T, B, C, H, W], normalised as ``environment.batch`` returns them.

        Returns:
            [T, B, D].
        """
        return self._rollout(frames, None)[0]

    def predict(self, frame: Tensor, actions: Tensor) -> Tensor:
        """Predicted embeddings of the frames after the first.

        Args:
            frame: frame 0, [B, C, H, W]. For a predictor with a burn-in: the first S frames, [S, B, C, H, W].
            actions: all actions [T-1, B, A], normalised.

        Returns:
            [T-1, B, D].
        """
        frames = frame if frame.ndim == 5 else frame.unsqueeze(0)
        return self._rollout(frames, actions)[1]

    def _rollout(self, frames: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        from jepa.seeding import generator

        if actions is None:
            shapes = self._plan.dataset.shapes
            actions = frames.new_zeros(shapes.num_steps - 1, frames.shape[1], shapes.action_size)
        with torch.no_grad():
            source = generator(self._plan.config.seed, "probe/model", self.device)
            noise = self.model.draw_rollout_noise(source, frames.shape[1], self.device)
            encodings, predictions = self.model.rollout(frames.to(self.device), actions.to(self.device), noise)
        return encodings.float(), predictions.float()

    def check_planner(self, planner: Planner) -> None:
        """Raise ConfigError if ``planner`` cannot plan with this run."""
        planner.check(self._plan.dataset, self.model, str(self.folder))

    def planned(self, planner: Planner, settings: Mapping[str, Any]) -> Planned:
        """Plan with the run's model, on ``device``.

        planner, settings: from ``jepa.prepare.make_planner(["plan=cem"])``.

        Raises:
            ConfigError: this run cannot be planned with.
        """
        from dataclasses import replace

        from jepa.training.planning import plan_with

        path = self.folder / layout.PROBE
        maps = checkpoint.load(path) if path.is_file() else None
        plan = replace(self._plan, device=self.device)
        return plan_with(planner, settings, plan, self.model, self.environment.normalizer, maps)

    def probe(self, target: str = "location") -> ProbeMaps:
        """The probes that the run was judged with, for one target.

        Raises:
            ConfigError: the run has no such target, has not been judged yet, or was made by a version that did not
                save its probes.
        """
        from jepa.probes.maps import ProbeMaps, load_map

        targets = self._plan.probe.asked(self._plan.dataset)
        check_choice("target", target, targets)
        path = self.folder / layout.PROBE
        if not path.is_file():
            raise ConfigError(f"{path}: is missing; a run saves its probes when it has been judged")
        state = checkpoint.load(path)[target]
        maps = {name: load_map(state[name], self.device) for name in ("prediction", "encoder")}
        return ProbeMaps(targets[target], **maps)


class RunEnvironment(NamedTuple):
    """Sequences as the run's model sees them."""

    dataset: Environment
    normalizer: Normalizer | None
    seed: int
    device: torch.device
    judging_purpose: str  # of the random stream that the run's probes are judged on

    def batch(self, num_sequences: int, *, seed: int | None = None) -> Batch:
        """Sequences that the run was not trained on, normalised.

        Args:
            num_sequences: B.
            seed: the seed of the draws; None: that of the run. The random stream is the one that probes are judged on,
                so the run's own seed and batch size give the first sequences that its probes were judged on.

        Returns:
            ``states`` [T, B, C, H, W], ``actions`` [T-1, B, A], ``locations`` [T, B, K, 2], and ``targets`` by name.
        """
        from jepa.data.stream import Stream

        own = self.seed if seed is None else seed
        return Stream(self.dataset, own, self.judging_purpose, self.normalizer, self.device).next(num_sequences)

    def to_px(self, locations: Tensor) -> Tensor:
        """Normalised locations [..., 2] in px."""
        return self.dataset.unnormalize_locations(locations)

    def reference_lines(self) -> dict[str, Any] | None:
        """Errors of simple guesses of the location, in px; None if the environment has no reference lines."""
        return self.dataset.reference_lines()


def _read(read: Callable[[Path], Value], folder: Path) -> Value:
    """``read(folder)``, with ConfigError in place of Damaged."""
    try:
        return read(folder)
    except Damaged as damage:
        raise ConfigError(str(damage)) from damage


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("a table needs pandas: install the extra 'notebook' of this package") from error
    return pandas
