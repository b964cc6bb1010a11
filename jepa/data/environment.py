"""The interface of environments, which methods, training, packing, probes and planning use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from jepa.data.draws import Coefficients, Streams
from jepa.data.normalization import Normalizer, identity_normalizer, pooled_normalizer
from jepa.types import Batch, Counterfactuals, DataShapes


class Environment(ABC):
    """Abstract: makes batches of noisy sequences that depend on the seed alone.

    A batch is made in two steps. ``draw`` draws all random numbers from named generators. ``assemble`` is a pure
    function from these draws to a batch. Packed jobs draw from their own streams; then one ``torch.func.vmap`` of
    ``assemble`` over stacked draws makes all batches::

        stacked = tree_map(lambda *tensors: torch.stack(tensors), *draws)
        batches = torch.func.vmap(dataset.assemble)(stacked, coefficients, normalizer)

    ``jepa.data.dots.DotWorld`` implements most of this for dots that move by a law.
    """

    batch_size: int  # sequences in a batch
    size: int  # new sequences in an epoch
    normalize: bool  # frames, actions and locations have mean 0 and variance 1

    @property
    @abstractmethod
    def shapes(self) -> DataShapes:
        """The sizes of a batch's tensors that a model needs."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in ``size`` sequences."""
        return self.size // self.batch_size

    @property
    def hyperparameter_names(self) -> tuple[str, ...]:
        """The configuration keys, below ``dataset.``, of numbers in which jobs of one pack may differ.

        ``coefficients`` passes these numbers to ``assemble`` as tensors. Jobs of one pack agree in all other keys.
        """
        return ()

    @property
    def classes(self) -> Mapping[str, int]:
        """The number of classes of each label in ``Batch.targets``, by name."""
        return {}

    @property
    def quantities(self) -> tuple[str, ...]:
        """The names of the entries of ``Batch.targets`` that are numbers, float32 [T, B] each."""
        return ()

    # --- batches -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def streams(self, seed: int, purpose: str, device: torch.device | str) -> Streams:
        """The generators of one purpose of a run of ``seed``, at their beginning."""

    def images(self, judging: bool, device: torch.device | str) -> Any:
        """The images that ``draw`` uses, loaded once for each stream; None if it uses none.

        judging: load the images that probes are judged on, else those for training. Raises ConfigError if images are
        missing.
        """
        return None

    @property
    def drawn(self) -> frozenset[str]:
        """The names of the optional parts that ``draw`` draws by default, such as distractors above zero."""
        return frozenset()

    def coefficients(self, device: torch.device | str) -> Coefficients:
        """The numbers for ``assemble``, by name, as tensors [] on ``device``."""
        return {}

    @abstractmethod
    def draw(
        self, streams: Streams, images: Any, batch_size: int | None = None, *, drawn: Collection[str] | None = None
    ) -> Any:
        """Draw all random numbers of a batch, on the device of ``streams``.

        Args:
            streams: the generators.
            images: the result of :meth:`images`.
            batch_size: B; None: the environment's ``batch_size``.
            drawn: the optional parts to draw; None: :attr:`drawn`. A pack draws every part that one of its jobs needs.
                For the other jobs the part's coefficient is zero, which adds exactly zero.

        Returns:
            A pytree of tensors.
        """

    @abstractmethod
    def assemble(self, draws: Any, coefficients: Coefficients, normalizer: Normalizer | None) -> Batch:
        """Make a batch from ``draws`` and ``coefficients``; a pure function that works under ``torch.func.vmap``.

        normalizer: of the frames; None leaves frames unnormalised. Locations and actions follow ``normalize``.
        """

    has_overlays: bool = False  # whether ``with_overlay`` is implemented

    def with_overlay(self, num_modes: int) -> Environment:
        """A copy whose batches also hold the overlay, as ``targets["overlay"]`` [T, B, C·num_modes], normalised.

        The numbers are the amplitudes of :func:`jepa.data.cosines.cosine_modes` in what the distractors add to a frame.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its overlays are")

    has_counterfactuals: bool = False  # whether ``counterfactuals`` is implemented

    def counterfactuals(
        self, draws: Any, others: Any, coefficients: Coefficients, normalizer: Normalizer | None
    ) -> Counterfactuals:
        """The batch of ``draws``, and its frames with the distractors or with the dots of ``others``.

        A pure function, as :meth:`assemble`. Diagnostics of a representation need it; an environment without it has
        ``has_counterfactuals`` false.
        """
        raise NotImplementedError(f"{type(self).__name__} has no counterfactuals")

    def estimate_normalizer(self, seed: int, device: torch.device | str, num_batches: int = 100) -> Normalizer:
        """Estimate mean and standard deviation of noisy frames from ``num_batches`` batches of training data.

        A run uses this one normalizer for training, probe fitting and judging. With ``normalize`` false it is the
        identity. Raises ConfigError if images are missing. Source: docs/science.md.
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
        """Convert a batch's ``locations`` [..., 2] to px."""

    @abstractmethod
    def unnormalize_actions(self, actions: Tensor) -> Tensor:
        """Convert a batch's ``actions`` [..., A] to the unit that ``step`` takes."""

    def unnormalize_quantity(self, name: str, values: Tensor) -> Tensor:
        """Convert ``values``, of the batch's number ``name`` of ``quantities``, to the number's unit."""
        return values

    def reference_lines(self) -> dict[str, Any] | None:
        """Errors of simple guesses of the locations, in px; None if the environment has no reference lines.

        The entries are those of ``jepa.data.reference.reference_lines``. An entry "no_verdict" says why no verdict may
        be given. The function draws from no stream of a run.
        """
        return None

    # --- the true dynamics, for planning -----------------------------------------------------------------------------

    def layouts(self, draws: Any) -> Tensor | None:
        """The layouts [B, L] of the sequences of ``draws``: what surrounds the dots, such as the place of a wall.

        A layout stays the same within a sequence. None: the environment has no layouts.
        """
        return None

    @abstractmethod
    def start(self, locations: Tensor, layouts: Tensor | None = None) -> Tensor:
        """The states [..., S] of sequences that begin at ``locations`` [..., 2], px.

        The next state depends on the state and the action alone. The first two numbers of a state are the location, in
        px, of the dot that actions move. Further numbers are the environment's own, such as a velocity.

        layouts: [..., L], of :meth:`layouts`; None where there are none.
        """

    @abstractmethod
    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """The states [..., S] after one step from ``states`` [..., S] with unnormalised ``actions`` [..., A]."""
