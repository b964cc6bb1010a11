"""The logger that writes TensorBoard's event files. It imports tensorboard when a run starts."""

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

_PLACE = ("step", "epoch", "kind", "time_s")  # of a record: where it was measured


class TensorboardLogger(Logger):
    """Event files in ``tensorboard/`` of the run's folder, for ``tensorboard --logdir outputs``.

    Numbers are scalars at their step. At the end come the plots, and the configuration with the final metrics as
    TensorBoard's hyperparameters. A resumed run writes on in the same folder. TensorBoard then drops the points beyond
    the checkpoint (its "purge step").
    """

    def __init__(self) -> None:
        """Raises ConfigError: the package tensorboard is missing."""
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError("logger=tensorboard: needs the package tensorboard; pip install 'jepa[tensorboard]'")
        self._writer: SummaryWriter | None = None
        self._step = 0
        self._config: Mapping[str, Any] = {}

    def start(self, run: RunInfo) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._step, self._config = run.step, run.record.get("config") or {}
        # Everything from this step on is dropped: the probe of the last step is made again. Then what stays is written.
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step)
        for record in read_metrics(run.folder):
            if record["step"] == run.step:
                self.record(record)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write one record's numbers; those that are not finite are left out."""
        assert self._writer is not None
        self._step = int(record["step"])
        for name, value in _finite(record).items():
            if name not in _PLACE:
                self._writer.add_scalar(name, value, self._step)
        self._writer.flush()

    def plot(self, name: str, path: Path) -> None:
        """Write a picture as ``plots/<name>``."""
        import numpy as np
        from PIL import Image

        assert self._writer is not None
        pixels = np.asarray(Image.open(path).convert("RGB"))  # [height, width, 3]
        self._writer.add_image(f"plots/{name}", pixels, self._step, dataformats="HWC")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the configuration with the final metrics, where the run was judged, and close the file."""
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
    """The keys of a configuration by their full names; what TensorBoard takes for a value, and text for the rest."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, (bool, int, float, str)) else str(node)
