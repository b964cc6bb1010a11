"""What an environment must offer: all that methods, trainer, packing, probes and results use of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from jepa.data.draws import Coefficients, Streams
from jepa.data.normalization import Normalizer, identity_normalizer, pooled_normalizer
from jepa.types import Batch, DataShapes


class Environment(ABC):
    """Abstract: makes batches of noisy sequences, reproducible from a seed and fit to be packed.

    Making a batch has two halves. ``draw`` takes everything random from named generators. ``assemble`` is a pure
    function from those draws to a batch. The halves allow jobs to be packed: each job draws from its own streams, then
    one ``torch.func.vmap`` of ``assemble`` over stacked draws makes all batches at once::

        stacked = tree_map(lambda *tensors: torch.stack(tensors), *draws)
        batches = torch.func.vmap(dataset.assemble)(stacked, coefficients, normalizer)

    ``jepa.data.dots.DotWorld`` does most of this for dots that move by a law.
    """

    batch_size: int  # sequences in a batch
    size: int  # new sequences in an epoch
    normalize: bool  # frames, actions and locations have mean 0 and variance 1

    @property
    @abstractmethod
    def shapes(self) -> DataShapes:
        """What a model needs to know of the batches."""

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in ``size`` sequences."""
        return self.size // self.batch_size

    @property
    def hyperparameter_names(self) -> tuple[str, ...]:
        """The configuration keys, below ``dataset.``, of numbers that jobs of one pack may differ in.

        These numbers enter ``assemble`` as tensors, by ``coefficients``; all others are structure.
        """
        return ()

    @property
    def classes(self) -> Mapping[str, int]:
        """The number of classes of each label in ``Batch.targets``, by name."""
        return {}

    # --- batches -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def streams(self, seed: int, purpose: str, device: torch.device | str) -> Streams:
        """The generators of one purpose of a run of ``seed``, at their beginning."""

    def images(self, judging: bool, device: torch.device | str) -> Any:
        """What ``draw`` takes images from, read once a stream; None where there are none.

        ``judging``: the images that probes are judged on, else those to train on. Raises ConfigError where they are
        missing.
        """
        return None

    @property
    def drawn(self) -> frozenset[str]:
        """The names of the optional parts that ``draw`` draws by itself, such as distractors above zero."""
        return frozenset()

    def coefficients(self, device: torch.device | str) -> Coefficients:
        """The numbers that ``assemble`` takes, by name, as tensors [] on ``device``."""
        return {}

    @abstractmethod
    def draw(
        self, streams: Streams, images: Any, batch_size: int | None = None, *, drawn: Collection[str] | None = None
    ) -> Any:
        """Draw what is random in a batch from ``streams``, on their device: a pytree of tensors.

        Args:
            streams: where the numbers come from.
            images: the result of :meth:`images`.
            batch_size: replaces the data set's.
            drawn: the optional parts to draw; None: :attr:`drawn`. A pack draws what any of its jobs needs; a
                coefficient of zero then adds exactly nothing.
        """

    @abstractmethod
    def assemble(self, draws: Any, coefficients: Coefficients, normalizer: Normalizer | None) -> Batch:
        """The batch that ``draws`` and ``coefficients`` make; a pure function, fit for ``torch.func.vmap``.

        ``normalizer`` None leaves frames as they are; locations and actions are normalised as ``normalize`` says.
        """

    def estimate_normalizer(self, seed: int, device: torch.device | str, num_batches: int = 100) -> Normalizer:
        """Mean and standard deviation of noisy frames over ``num_batches`` training batches of ``seed``.

        The one normalizer of a run: for training, probe fitting and judging. Changes nothing where data are not
        normalised. Raises ConfigError where images are missing. Source: docs/science.md.
        """
        coefficients = self.coefficients(device)
        if not self.normalize:
            return identity_normalizer(torch.zeros((), device=device))
        streams = self.streams(seed, "normalization", device)
        images = self.images(judging=False, device=device)
        moments = []
        for _ in range(num_batches):
            states = self.assemble(self.draw(streams, images), coefficients, None).states
            mean = states.mean()
            moments.append(torch.stack((mean, (states - mean).square_().mean())))
        means, variances = torch.stack(moments).unbind(-1)
        return pooled_normalizer(means, variances)

    # --- units, and what probes are compared with --------------------------------------------------------------------

    @abstractmethod
    def unnormalize_locations(self, locations: Tensor) -> Tensor:
        """Locations [..., 2] in px of a batch's ``locations``."""

    @abstractmethod
    def unnormalize_actions(self, actions: Tensor) -> Tensor:
        """Actions [..., A], in the units that ``step`` takes, of a batch's ``actions``."""

    def reference_lines(self) -> dict[str, Any] | None:
        """What simple guesses of the locations score here, in px; None where there are no such lines.

        The entries are those of ``jepa.data.reference.reference_lines``. "no_verdict", where it is there, says why no
        verdict may be given. Draws from no stream of a run.
        """
        return None

    # --- the true dynamics, for planning -----------------------------------------------------------------------------

    @abstractmethod
    def start(self, locations: Tensor) -> Tensor:
        """The states [..., S] of sequences that begin at ``locations`` [..., 2], px.

        A state is all that the next state depends on, besides the action. Its first two numbers are the location, in
        px, of what the actions move. Further ones are the environment's own, such as a velocity.
        """

    @abstractmethod
    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """The states [..., S] that follow ``states`` [..., S] under ``actions`` [..., A], not normalised."""
