"""Batches of noisy moving-dot sequences: drawn afresh, reproducible from a seed, packable.

Making a batch has two halves. ``MovingDots.draw`` takes everything random from named generators; ``assemble`` is a
pure function from those draws to a batch. The halves allow jobs to be packed: each job draws from its own streams,
then one ``torch.func.vmap`` of ``assemble`` over stacked draws makes all batches at once::

    stacked = tree_map(lambda *tensors: torch.stack(tensors), *draws)
    batches = torch.func.vmap(dataset.assemble)(stacked, coefficients, normalizer)
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from jepa.data.distractors.base import Distractor, Extent
from jepa.data.distractors.changing import Changing
from jepa.data.distractors.fixed import Fixed
from jepa.data.distractors.textures import Structured, Texture, Uniform
from jepa.data.draws import JUDGING_PURPOSES, MOTION, Coefficients, Draws, Streams
from jepa.data.motion import DOT_NAMES, IMAGE_SIZE, draw_motion, trajectories
from jepa.data.normalization import (
    Normalizer,
    identity_normalizer,
    location_scale,
    normalize_actions,
    normalize_locations,
    pooled_normalizer,
    unnormalize_locations,
)
from jepa.data.reference import reference_lines
from jepa.data.render import brightest, gaussian_profiles
from jepa.data.textures import load_bank
from jepa.errors import ConfigError, check_choice, check_count, check_number
from jepa.types import Batch, DataShapes

__all__ = ["Draws", "MovingDots", "Normalizer", "Stream", "Streams"]

SOURCES = ("cifar10", "photos")
MAX_BATCH_NUMBERS = 2**31  # 8 GiB of frames, before a model has seen them


class MovingDots:
    """The environment and its noise; ``conf/dataset/*.yaml`` holds the values and explains each."""

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
        batch_size: int,
        size: int,
        normalize: bool,
    ) -> None:
        """All arguments as in ``conf/dataset/single.yaml``. Raises ConfigError for a value that cannot be used."""
        self.num_dots = check_count("dataset.num_dots", num_dots, maximum=len(DOT_NAMES))
        self.channels = _check_channels(channels, num_dots)
        self.num_steps = check_count("dataset.num_steps", num_steps, minimum=2, maximum=10_000)
        self.dot_std = check_number("dataset.dot_std", dot_std, minimum=0.1, maximum=(IMAGE_SIZE - 2) / 4)
        self.noise = check_number("dataset.noise", noise, minimum=0, maximum=1000)
        self.static_noise = check_number("dataset.static_noise", static_noise, minimum=0, maximum=1000)
        check_number("dataset.static_noise_speed", static_noise_speed, minimum=0, maximum=1000)
        self.static_noise_speed = static_noise_speed
        self.distractors = _distractors(noise, static_noise, static_noise_speed, distractors or {})
        self.structured_noise = _check_bool("dataset.structured_noise", structured_noise)
        self.structured_source = _check_source(structured_source, needed=structured_noise)
        self.cifar10_folder = _check_folder(cifar10_folder)
        self.batch_size = check_count("dataset.batch_size", batch_size, maximum=2**20)
        self.size = check_count("dataset.size", size, minimum=batch_size, maximum=10**9)
        self.normalize = _check_bool("dataset.normalize", normalize)
        _check_memory(num_steps, batch_size, channels)
        self.padding = 2 * self.dot_std  # px; no dot's centre comes closer to the border

    @property
    def shapes(self) -> DataShapes:
        """What a model needs to know of the batches."""
        return DataShapes(
            num_steps=self.num_steps,
            channels=self.channels,
            image_size=IMAGE_SIZE,
            num_dots=self.num_dots,
            action_size=2,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in ``size`` sequences."""
        return self.size // self.batch_size

    @property
    def location_scale_px(self) -> float:
        """Pixels per unit of a batch's locations; 1 where data are not normalised."""
        return location_scale(self.padding) if self.normalize else 1.0

    def reference_lines(self) -> dict[str, Any]:
        """What simple guesses of the locations score here, in px: see ``jepa.data.reference.reference_lines``.

        "no_verdict", where it is there, says why no verdict may be given. Draws from no stream of a run.
        """
        lines = reference_lines(num_dots=self.num_dots, num_steps=self.num_steps, padding=self.padding)
        if not self.normalize:
            lines["no_verdict"] = "dataset.normalize=false: the probes have no bias and cannot answer the centre"
        return lines

    def unnormalize_locations(self, locations: Tensor) -> Tensor:
        """Locations [..., 2] in px of a batch's ``locations``."""
        return unnormalize_locations(locations, self.padding) if self.normalize else locations

    @property
    def drawn(self) -> frozenset[str]:
        """The names of the distractors whose coefficient is above zero."""
        return frozenset(name for name, distractor in self.distractors.items() if distractor.coeff > 0)

    def coefficients(self, device: torch.device | str) -> Coefficients:
        """The distractors' coefficients by name, as tensors [] on ``device``."""
        return {
            name: torch.tensor(distractor.coeff, device=device) for name, distractor in self.distractors.items()
        }

    def streams(self, seed: int, purpose: str, device: torch.device | str) -> Streams:
        """The generators of one purpose of a run of ``seed``, at their beginning."""
        return Streams(seed=seed, purpose=purpose, device=device, distractors=self.distractors)

    def textures(self, judging: bool, device: torch.device | str) -> Tensor | None:
        """The bank of natural images [N, H, W], uint8 on ``device``; None where noise is not structured.

        ``judging``: the images that probes are judged on, else those to train on. Raises ConfigError where they are
        missing.
        """
        if not self.structured_noise:
            return None
        assert self.structured_source is not None  # checked by the constructor
        return load_bank(
            self.structured_source, cifar10_folder=self.cifar10_folder, judging=judging, device=torch.device(device)
        )

    def draw(
        self,
        streams: Streams,
        device: torch.device | str,
        batch_size: int | None = None,
        *,
        bank: Tensor | None = None,
        drawn: Collection[str] | None = None,
    ) -> Draws:
        """Draw what is random in a batch from ``streams``, on ``device``, which is the streams'.

        ``batch_size`` replaces the data set's. ``bank`` is ``textures``' result. ``drawn``: the distractors to draw;
        None: those whose coefficient is above zero. A pack of jobs with and without a distractor draws it for all; a
        coefficient of zero then adds exactly nothing.
        """
        extent = Extent(self.num_steps, self.batch_size if batch_size is None else batch_size, self.num_dots)
        texture = self._texture(bank)
        wanted = self.drawn if drawn is None else drawn
        return Draws(
            motion=draw_motion(
                streams.generators[MOTION],
                num_steps=self.num_steps,
                batch_size=extent.batch_size,
                num_dots=self.num_dots,
                device=device,
            ),
            overlays={
                name: distractor.draw(texture, extent, streams.generators[name])
                for name, distractor in self.distractors.items()
                if name in wanted
            },
        )

    def _texture(self, bank: Tensor | None) -> Texture:
        if not self.structured_noise:
            return Uniform(image_size=IMAGE_SIZE)
        if bank is None:
            raise ValueError("structured noise needs a bank of images: pass bank=dataset.textures(judging, device)")
        return Structured(bank=bank)

    def assemble(self, draws: Draws, coefficients: Coefficients, normalizer: Normalizer | None) -> Batch:
        """The batch that ``draws`` and ``coefficients`` make; a pure function, fit for ``torch.func.vmap``.

        ``normalizer`` None leaves frames as they are; locations and actions are normalised as ``normalize`` says.
        Source: docs/science.md.
        """
        locations, actions = trajectories(draws.motion, padding=self.padding)
        if normalizer is None:
            normalizer = identity_normalizer(draws.motion)
        states = self._frames(locations, draws, coefficients, normalizer)
        actions = actions[:, :, 0]  # the model is told the action dot's actions alone
        if not self.normalize:
            return Batch(states, actions, locations)
        return Batch(states, normalize_actions(actions), normalize_locations(locations, self.padding))

    def _frames(
        self, locations: Tensor, draws: Draws, coefficients: Coefficients, normalizer: Normalizer
    ) -> Tensor:
        """Noisy normalised frames [T, B, C, H, W] of ``locations`` [T, B, K, 2] px.

        ``(clean + m · Σ coefficient · overlay - mean) / std``, the division done on the small factors of the images.
        Only operations for which vmap has rules are used (``addcmul_`` has none), and the same in a run by itself, so
        that packed jobs see the same bits.
        """
        columns, rows = gaussian_profiles(locations, IMAGE_SIZE, self.dot_std)
        # Add zero so that the frames carry vmap's job axis, which adding to them in place needs.
        gain = 1 / normalizer.state_std + 0 * functools.reduce(operator.add, coefficients.values())
        unit = brightest(columns, rows) * gain  # m, over all images of the batch
        num_summed = self.num_dots // self.channels  # images that add up to one channel share the mean between them
        frames = (rows * gain).unsqueeze(-1) * columns.unsqueeze(-2)
        frames.sub_(normalizer.state_mean * gain / num_summed)
        for name, drawn in draws.overlays.items():
            frames.add_(self.distractors[name].frames(drawn, self.num_steps) * (unit * coefficients[name]))
        return frames if num_summed == 1 else frames.sum(2, keepdim=True)

    def estimate_normalizer(self, seed: int, device: torch.device | str, num_batches: int = 100) -> Normalizer:
        """Mean and standard deviation of noisy frames over ``num_batches`` training batches of ``seed``.

        The one normalizer of a run: for training, probe fitting and judging. Changes nothing where data are not
        normalised. Raises ConfigError where images are missing. Source: docs/science.md.
        """
        coefficients = self.coefficients(device)
        if not self.normalize:
            return identity_normalizer(torch.zeros((), device=device))
        streams = self.streams(seed, "normalization", device)
        bank = self.textures(judging=False, device=device)
        moments = []
        for _ in range(num_batches):
            states = self.assemble(self.draw(streams, device, bank=bank), coefficients, None).states
            mean = states.mean()
            moments.append(torch.stack((mean, (states - mean).square_().mean())))
        means, variances = torch.stack(moments).unbind(-1)
        return pooled_normalizer(means, variances)


class Stream:
    """An endless stream of batches for one purpose of one run."""

    def __init__(
        self, dataset: MovingDots, seed: int, purpose: str, normalizer: Normalizer | None, device: torch.device | str
    ) -> None:
        """``purpose``: one of PURPOSES; judging ones see test images. Raises ConfigError where images are missing."""
        self.dataset = dataset
        self.device = torch.device(device)
        self.normalizer = normalizer
        self.streams = dataset.streams(seed, purpose, device)
        self.bank = dataset.textures(judging=purpose in JUDGING_PURPOSES, device=device)
        self.coefficients = dataset.coefficients(device)

    def draw(self, batch_size: int | None = None, *, drawn: Collection[str] | None = None) -> Draws:
        """The next draws; see ``MovingDots.draw``."""
        return self.dataset.draw(self.streams, self.device, batch_size, bank=self.bank, drawn=drawn)

    def next(self, batch_size: int | None = None) -> Batch:
        """The next batch, of ``batch_size`` sequences where given."""
        return self.dataset.assemble(self.draw(batch_size), self.coefficients, self.normalizer)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the stream stands: tensors only, so that a checkpoint loads without executing code."""
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where ``state_dict`` was taken. Raises ValueError for a state that does not fit."""
        self.streams.load_state_dict(state)


def _distractors(
    noise: float, static_noise: float, speed: float, others: Mapping[str, Distractor]
) -> dict[str, Distractor]:
    """The fixed and the changing process, which have short names in the configuration, and any others."""
    own: dict[str, Distractor] = {"static": Fixed(coeff=static_noise, speed=speed), "changing": Changing(coeff=noise)}
    for name in others:
        if name in own or name == MOTION:
            raise ConfigError(f"dataset.distractors.{name}: this name is taken; choose another")
    return {**own, **others}


def _check_bool(key: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value!r}: must be true or false")
    return value


def _check_channels(channels: int, num_dots: int) -> int:
    check_count("dataset.channels", channels)
    if channels not in (1, num_dots):
        allowed = "1" if num_dots == 1 else f"1 (images summed) or {num_dots} (one image a dot)"
        raise ConfigError(f"dataset.channels={channels}: must be {allowed} with dataset.num_dots={num_dots}")
    return channels


def _check_memory(num_steps: int, batch_size: int, channels: int) -> None:
    numbers = num_steps * batch_size * channels * IMAGE_SIZE**2
    if numbers > MAX_BATCH_NUMBERS:
        raise ConfigError(
            f"dataset.batch_size={batch_size}: a batch of {num_steps} frames a sequence (dataset.num_steps) takes "
            f"{4 * numbers / 2**30:.0f} GiB; at most {4 * MAX_BATCH_NUMBERS / 2**30:.0f} GiB are allowed"
        )


def _check_folder(folder: str | None) -> str | None:
    if folder is not None and not isinstance(folder, str):
        raise ConfigError(f"dataset.cifar10_folder={folder!r}: must be a path or null")
    return folder


def _check_source(source: str | None, *, needed: bool) -> str | None:
    if source is not None:
        return check_choice("dataset.structured_source", source, SOURCES)
    if needed:
        raise ConfigError(
            "dataset.structured_source=null: structured noise needs images, choose dataset.structured_source=cifar10 "
            "(a download of 170 MB, or read from dataset.cifar10_folder) or dataset.structured_source=photos (crops of "
            "photographs that scikit-image and scikit-learn ship)"
        )
    return None
