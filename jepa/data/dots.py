"""The base class of environments with dots. A subclass says by which law the dots move."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from jepa.data.area import Area
from jepa.data.cosines import cosine_modes
from jepa.data.distractors.base import Distractor, Extent
from jepa.data.draws import MOTION, Coefficients, Streams
from jepa.data.environment import Environment
from jepa.data.motion import shortened
from jepa.data.normalization import Normalizer, identity_normalizer
from jepa.data.overlays import chosen_texture, published_overlays
from jepa.data.reference import reference_lines
from jepa.data.render import brightest, gaussian_profiles
from jepa.data.textures.base import Images, Texture
from jepa.errors import ConfigError, check_count, check_flag, check_number
from jepa.types import Batch, Counterfactuals, DataShapes

MAX_BATCH_NUMBERS = 2**31  # numbers in the frames of a batch: 8 GiB
START_ROWS = 2  # uniform numbers for a dot's start: x and y


class DotDraws(NamedTuple):
    """All random numbers of a batch."""

    motion: Tensor  # [START_ROWS + num_uniforms, B, K], uniform on [0, 1)
    overlays: dict[str, Any]  # by name of a distractor, the output of its ``draw``; only distractors that are drawn


class DotWorld(Environment):
    """Abstract: Gaussian dots that move by a law, each in an image of its own, under distractors.

    Each dot starts uniformly in ``area``. ``sample_actions`` draws the actions of a moving dot; ``step`` applies one. A
    law whose state is more than the location also overrides ``start`` and ``location_of``. Dots from index
    ``num_moving_dots`` on rest.
    """

    image_size: int = 28  # H = W, px; pixel centres at 0 ... 27
    dot_names: ClassVar[tuple[str, ...]] = ("action", "random", "stationary")  # the model sees the first dot's actions
    num_moving_dots: ClassVar[int] = 2  # dots from this index on are stationary
    coordinates_alike: ClassVar[bool] = True  # x and y follow the same law; the reference lines use it

    def __init__(
        self,
        *,
        num_dots: int,
        channels: int,
        num_steps: int,
        dot_std: float,
        noise: float,
        static_noise: float,
        distractors: Mapping[str, Distractor] | None = None,
        structured_noise: bool,
        static_noise_speed: float,
        structured_source: str | None,
        cifar10_folder: str | None,
        texture: Texture | None = None,
        batch_size: int,
        size: int,
        normalize: bool,
    ) -> None:
        """``conf/dataset/single.yaml`` explains each argument.

        Raises:
            ConfigError: a value is of another type or out of range.
        """
        self.num_dots = check_count("dataset.num_dots", num_dots, maximum=len(self.dot_names))
        self.channels = _check_channels(channels, num_dots)
        self.num_steps = check_count("dataset.num_steps", num_steps, minimum=2, maximum=10_000)
        self.dot_std = check_number("dataset.dot_std", dot_std, minimum=0.1, maximum=(self.image_size - 2) / 4)
        self.noise = check_number("dataset.noise", noise, minimum=0, maximum=1000)
        self.static_noise = check_number("dataset.static_noise", static_noise, minimum=0, maximum=1000)
        check_number("dataset.static_noise_speed", static_noise_speed, minimum=0, maximum=1000)
        self._further_distractors = tuple(distractors or {})
        self.overlays = published_overlays(
            noise=noise,
            static_noise=static_noise,
            static_noise_speed=static_noise_speed,
            distractors=distractors or {},
            texture=chosen_texture(
                texture,
                structured_noise=structured_noise,
                structured_source=structured_source,
                cifar10_folder=cifar10_folder,
            ),
            image_size=self.image_size,
        )
        self.batch_size = check_count("dataset.batch_size", batch_size, maximum=2**20)
        self.size = check_count("dataset.size", size, minimum=batch_size, maximum=10**9)
        self.normalize = check_flag("dataset.normalize", normalize)
        _check_memory(num_steps, batch_size, channels * self.image_size**2)
        self.padding = 2 * self.dot_std  # px, the smallest distance of a dot's centre from the border
        self.area = Area(self.padding, self.image_size)

    @property
    def shapes(self) -> DataShapes:
        return DataShapes(
            num_steps=self.num_steps,
            channels=self.channels,
            image_size=self.image_size,
            num_dots=self.num_dots,
            action_size=2,
        )

    @property
    def hyperparameter_names(self) -> tuple[str, ...]:
        return ("noise", "static_noise", *(f"distractors.{name}.coeff" for name in self._further_distractors))

    @property
    def classes(self) -> Mapping[str, int]:
        return self.overlays.classes

    # --- the law -----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def action_std(self) -> float:
        """Standard deviation of each coordinate of a moving dot's actions, px; the mean is 0."""

    @property
    def action_limit(self) -> float:
        """The length of the longest action, px. By default that of actions whose length is uniform from 0."""
        return math.sqrt(6) * self.action_std

    @property
    @abstractmethod
    def num_uniforms(self) -> int:
        """Number of uniform numbers that ``sample_actions`` needs for a dot."""

    @abstractmethod
    def sample_actions(self, uniforms: Tensor) -> Tensor:
        """Actions [T-1, B, K, 2] of moving dots, px, from ``uniforms`` [num_uniforms, B, K] in [0, 1)."""

    def start(self, locations: Tensor, layouts: Tensor | None = None) -> Tensor:
        return locations

    def layouts_from(self, uniforms: Tensor) -> Tensor | None:
        """Layouts [..., L] from ``uniforms`` [..., 2] in [0, 1); None: the environment has no layouts."""
        return None

    def place(self, uniforms: Tensor, layouts: Tensor | None) -> Tensor:
        """Locations [..., 2], px, where a dot may start, uniform for ``uniforms`` [..., 2] in [0, 1).

        layouts: [..., L]; None where there are none.
        """
        return self.area.locate(uniforms)

    def parted(self, locations: Tensor, goals: Tensor, layouts: Tensor | None) -> Tensor:
        """Whether something stands between ``locations`` and ``goals``: bool [...]. Both are [..., 2], px."""
        return torch.zeros_like(locations[..., 0], dtype=torch.bool)

    def distance(self, states: Tensor, goals: Tensor) -> Tensor:
        """The length [...], px, of the way from ``states`` [..., S] to ``goals`` [..., 2], px."""
        return (self.location_of(states) - goals).square().sum(-1).sqrt()

    def location_of(self, states: Tensor) -> Tensor:
        """The locations [..., 2], px, of ``states`` [..., S]."""
        return states

    def guesses(self, start: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Further guesses of one coordinate of the location, by name, for the reference lines.

        Args:
            start: [N], the coordinate of the first location relative to the image's centre, px, float64.
            actions: [T-1, N], the same coordinate of the actions, px.

        Returns:
            [T, N] each, relative to the image's centre, px.
        """
        return {}

    # --- batches -----------------------------------------------------------------------------------------------------

    @property
    def drawn(self) -> frozenset[str]:
        return self.overlays.drawn

    def coefficients(self, device: torch.device | str) -> Coefficients:
        return self.overlays.coefficients(device)

    def streams(self, seed: int, purpose: str, device: torch.device | str) -> Streams:
        return Streams(seed=seed, purpose=purpose, device=device, distractors=self.overlays.distractors)

    def images(self, judging: bool, device: torch.device | str) -> dict[str, Images]:
        return self.overlays.images(num_dots=self.num_dots, judging=judging, device=device)

    def draw(
        self,
        streams: Streams,
        images: Mapping[str, Images],
        batch_size: int | None = None,
        *,
        drawn: Collection[str] | None = None,
    ) -> DotDraws:
        extent = Extent(self.num_steps, self.batch_size if batch_size is None else batch_size, self.num_dots)
        return DotDraws(
            motion=self.draw_motion(streams.generators[MOTION], extent.batch_size, self.num_dots),
            overlays=self.overlays.draw(streams, images, extent, drawn),
        )

    def draw_motion(self, generator: torch.Generator, batch_size: int, num_dots: int) -> Tensor:
        """All uniform numbers that :meth:`trajectories` needs, in one draw: [START_ROWS + num_uniforms, B, K], float32.

        Rows: start x, start y, then those for ``sample_actions``, which a stationary dot does not use.
        """
        rows = START_ROWS + self.num_uniforms
        return torch.rand(rows, batch_size, num_dots, generator=generator, device=generator.device)

    def trajectories(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Locations [T, B, K, 2] and actions [T-1, B, K, 2], px, from the ``uniforms`` of :meth:`draw_motion`.

        A stationary dot's actions are zero. Source: docs/science.md.
        """
        start = self.area.locate(uniforms[:START_ROWS].movedim(0, -1))
        moving = uniforms[START_ROWS:, :, : self.num_moving_dots]
        actions = self.sample_actions(moving)
        locations = self.walk(start[:, : self.num_moving_dots], actions)
        num_stationary = uniforms.shape[-1] - moving.shape[-1]
        if num_stationary:
            resting = start[:, self.num_moving_dots :]
            locations = torch.cat((locations, resting.expand(len(locations), *resting.shape)), dim=-2)
            actions = torch.cat((actions, torch.zeros_like(actions[:, :, :num_stationary])), dim=-2)
        return locations, actions

    def walk(self, start: Tensor, actions: Tensor, layouts: Tensor | None = None) -> Tensor:
        """Locations [T, ..., 2] of dots that start at ``start`` [..., 2] and follow ``actions`` [T-1, ..., 2]; px.

        layouts: [..., L], of :meth:`layouts`; None where there are none.
        """
        states = [self.start(start, layouts)]
        for action in actions.unbind(0):
            states.append(self.step(states[-1], action))
        return torch.stack([self.location_of(state) for state in states])

    def assemble(self, draws: DotDraws, coefficients: Coefficients, normalizer: Normalizer | None) -> Batch:
        locations, actions = self.trajectories(draws.motion)
        if normalizer is None:
            normalizer = identity_normalizer(draws.motion)
        layouts = self.layouts(draws)
        states = self.frames(locations, layouts, draws.overlays, coefficients, normalizer)
        targets = self.overlays.targets(draws.overlays, self.num_steps) | self.measured(layouts)
        if self.overlay_modes:
            overlay = states - self.frames(locations, layouts, {}, coefficients, normalizer)
            modes = cosine_modes(self.image_size, self.overlay_modes, states.device)
            targets["overlay"] = (overlay.flatten(-2) @ modes.flatten(-2).T).flatten(-2)
        actions = actions[:, :, 0]  # the model sees the actions of the first dot only
        if not self.normalize:
            return Batch(states, actions, locations, targets)
        return Batch(states, actions / self.action_std, self.area.normalize(locations), targets)

    has_overlays = True
    overlay_modes: int = 0  # number of the overlay's patterns in ``targets["overlay"]``; 0: no such target

    def with_overlay(self, num_modes: int) -> DotWorld:
        shown = copy.copy(self)
        shown.overlay_modes = num_modes
        return shown

    has_counterfactuals = True

    def counterfactuals(
        self, draws: DotDraws, others: DotDraws, coefficients: Coefficients, normalizer: Normalizer | None
    ) -> Counterfactuals:
        def assembled(part: DotDraws) -> Batch:
            return self.assemble(part, coefficients, normalizer)

        batch = assembled(draws)
        return Counterfactuals(
            batch=batch,
            overlay=batch.states - assembled(draws._replace(overlays={})).states,
            other_overlay=assembled(draws._replace(overlays=others.overlays)).states,
            other_dots=assembled(others._replace(overlays=draws.overlays)).states,
        )

    def frames(
        self,
        locations: Tensor,
        layouts: Tensor | None,
        overlays: Mapping[str, Any],
        coefficients: Coefficients,
        normalizer: Normalizer,
        *,
        alone: bool = False,
    ) -> Tensor:
        """Noisy normalised frames [T, B, C, H, W] of dots at ``locations`` [T, B, K, 2], px, in ``layouts`` [B, L].

        Frames are ``(clean + m · Σ coefficient · overlay - mean) / std``, where m is the brightest pixel of all clean
        dots. The factors of the images are divided by std, because they are smaller than the images.

        overlays: as in :class:`DotDraws`.
        alone: m is the brightest pixel that a dot can have, so that a frame does not depend on the other frames. In a
          training batch, m is lower by less than one per cent.
        """
        columns, rows = gaussian_profiles(locations, self.image_size, self.dot_std)
        gain = 1 / normalizer.state_std + self.overlays.nothing(coefficients)
        peak = columns.new_tensor(1 / (2 * math.pi * self.dot_std**2)) if alone else brightest(columns, rows)
        unit = peak * gain  # m / std
        num_summed = self.num_dots // self.channels  # images summed in a channel; each gets its share of the mean
        frames = (rows * gain).unsqueeze(-1) * columns.unsqueeze(-2)
        frames.sub_(normalizer.state_mean * gain / num_summed)
        if layouts is not None:
            frames.add_(self.surroundings(layouts) * gain)
        self.overlays.add_to(frames, overlays, coefficients, unit)
        return frames if num_summed == 1 else frames.sum(2, keepdim=True)

    def surroundings(self, layouts: Tensor) -> Tensor:
        """Clean images [B, 1, H, W] of ``layouts`` [B, L], to which the dots' images are added."""
        raise NotImplementedError(f"{type(self).__name__} has layouts and no image of them")

    def measured(self, layouts: Tensor | None) -> dict[str, Tensor]:
        """The ``quantities`` of ``layouts`` [B, L] by name, float32 [T, B] each."""
        return {}

    # --- units, and what probes are compared with --------------------------------------------------------------------

    def unnormalize_locations(self, locations: Tensor) -> Tensor:
        return self.area.unnormalize(locations) if self.normalize else locations

    def unnormalize_actions(self, actions: Tensor) -> Tensor:
        return actions * self.action_std if self.normalize else actions

    def normalize_actions(self, actions: Tensor) -> Tensor:
        """Convert actions [..., A] in px to a batch's ``actions``."""
        return actions / self.action_std if self.normalize else actions

    def shorten(self, actions: Tensor) -> Tensor:
        """``actions`` [..., A], px; those longer than :attr:`action_limit` keep their direction and get this length."""
        return shortened(actions, self.action_limit)

    def lasting(self, num_steps: int) -> DotWorld:
        """The same world with ``num_steps`` frames in a sequence."""
        world = copy.copy(self)
        world.num_steps = num_steps
        return world

    def reference_lines(self) -> dict[str, Any]:
        def simulate(generator: torch.Generator, num_sequences: int) -> tuple[Tensor, Tensor]:
            locations, actions = self.trajectories(self.draw_motion(generator, num_sequences, num_dots=1))
            return locations[:, :, 0], actions[:, :, 0]

        lines = reference_lines(
            simulate,
            num_steps=self.num_steps,
            centre=self.area.centre,
            dots=self.dot_names[: self.num_dots],
            num_moving=self.num_moving_dots,
            guesses=self.guesses,
            alike=self.coordinates_alike,
        )
        if not self.normalize:
            lines["no_verdict"] = "dataset.normalize=false: the probes have no bias and cannot answer the centre"
        return lines


def _check_channels(channels: int, num_dots: int) -> int:
    check_count("dataset.channels", channels)
    if channels not in (1, num_dots):
        allowed = "1" if num_dots == 1 else f"1 (images summed) or {num_dots} (one image a dot)"
        raise ConfigError(f"dataset.channels={channels}: must be {allowed} with dataset.num_dots={num_dots}")
    return channels


def _check_memory(num_steps: int, batch_size: int, frame_numbers: int) -> None:
    numbers = num_steps * batch_size * frame_numbers
    if numbers > MAX_BATCH_NUMBERS:
        raise ConfigError(
            f"dataset.batch_size={batch_size}: a batch of {num_steps} frames a sequence (dataset.num_steps) takes "
            f"{4 * numbers / 2**30:.0f} GiB; at most {4 * MAX_BATCH_NUMBERS / 2**30:.0f} GiB are allowed"
        )
