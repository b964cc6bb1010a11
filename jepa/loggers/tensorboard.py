"""The logger that writes TensorBoard event files. It imports tensorboard only when a run starts."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.errors import ConfigError
from jepa.loggers.base import Logger, RunInfo
from jepa.store.metrics import read_metrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_PLACE = ("step", "epoch", "kind", "time_s")  # names in a record that are not measurements


class TensorboardLogger(Logger):
    """Writes event files to ``tensorboard/`` in the run's folder; ``tensorboard --logdir outputs`` shows them.

    Each number becomes a scalar at its step. At the end the logger adds the plots, the configuration as TensorBoard
    hyperparameters, and the final metrics. A resumed run adds event files to the same folder and tells TensorBoard to
    hide the points after the checkpoint (``purge_step``).
    """

    def __init__(self) -> None:
        """Raises ConfigError if the package tensorboard is not installed."""
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError("logger=tensorboard: needs the package tensorboard; pip install 'jepa[tensorboard]'")
        self._writer: SummaryWriter | None = None
        self._step = 0
        self._config: Mapping[str, Any] = {}

    def start(self, run: RunInfo) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._step, self._config = run.step, run.record.get("config") or {}
        # TensorBoard hides all points from this step on. So write the records of this step that stay once more.
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step)
        for record in read_metrics(run.folder):
            if record["step"] == run.step:
                self.record(record)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write the finite numbers of one record."""
        assert self._writer is not None
        self._step = int(record["step"])
        for name, value in _finite(record).items():
            if name not in _PLACE:
                self._writer.add_scalar(name, value, self._step)
        self._writer.flush()

    def plot(self, name: str, path: Path) -> None:
        """Write the plot as the image ``plots/<name>``."""
        import numpy as np
        from PIL import Image

        assert self._writer is not None
        pixels = np.asarray(Image.open(path).convert("RGB"))  # [height, width, 3]
        self._writer.add_image(f"plots/{name}", pixels, self._step, dataformats="HWC")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the configuration and the final metrics, if there are any, and close the file."""
        if self._writer is None:
            return
        final = {f"final/{name}": value for name, value in _finite(result.get("metrics") or {}).items()}
        if final:
            from torch.utils.tensorboard.summary import hparams

            for name, value in final.items():
                self._writer.add_scalar(name, value, self._step)
            for summary in hparams(dict(_flat(self._config)), final):  # type: ignore[no-untyped-call]
                self._writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
        self._writer.close()
        self._writer = None


def _finite(record: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: value for name, value in record.items() if isinstance(value, (int, float))}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield the full name and the value of each key; a value that is no bool, number or text becomes text."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, (bool, int, float, str)) else str(node)
