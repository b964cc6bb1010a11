"""Batches of noisy moving-dot sequences: drawn afresh, reproducible from a seed, packable (SPEC §1-§3).

Making a batch has two halves. ``MovingDots.draw`` takes everything random from named generators; ``assemble`` is a
pure function from those draws to a batch. The halves allow jobs to be packed: each job draws from its own streams,
then one ``torch.func.vmap`` of ``assemble`` over stacked draws makes all batches at once::

    stacked = Draws(*(None if field[0] is None else torch.stack(field) for field in zip(*draws)))
    batches = torch.func.vmap(dataset.assemble, in_dims=(stacked.batch_dims(), 0, 0))(stacked, coefficients, normalizer)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jepa.data.distractors import Overlay, Structured, Uniform, roll_static
from jepa.data.draws import JUDGING_PURPOSES, Draws, NoiseCoefficients, Streams
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

__all__ = ["Draws", "MovingDots", "NoiseCoefficients", "Normalizer", "Stream", "Streams"]

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

    def coefficients(self, device: torch.device | str) -> NoiseCoefficients:
        """This data set's noise coefficients as tensors on ``device``."""
        return NoiseCoefficients(
            torch.tensor(float(self.noise), device=device), torch.tensor(float(self.static_noise), device=device)
        )

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
        with_changing: bool | None = None,
        with_static: bool | None = None,
    ) -> Draws:
        """Draw what is random in a batch from ``streams``, on ``device``, which is the streams'.

        ``batch_size`` replaces the data set's. ``bank`` is ``textures``' result. ``with_changing`` and ``with_static``
        force an overlay to be drawn or not; None: drawn where its coefficient is above zero. A pack that mixes jobs
        with and without an overlay forces it for all; a coefficient of zero then adds exactly nothing.
        """
        batch = self.batch_size if batch_size is None else batch_size
        overlay = self._overlay(bank)
        frames = (self.num_steps, batch, self.num_dots)
        changing = self.noise > 0 if with_changing is None else with_changing
        static = self.static_noise > 0 if with_static is None else with_static
        return Draws(
            motion=draw_motion(
                streams.motion, num_steps=self.num_steps, batch_size=batch, num_dots=self.num_dots, device=device
            ),
            changing=overlay.draw(frames, streams.changing) if changing else None,
            static=overlay.draw(frames[1:], streams.static) if static else None,
        )

    def _overlay(self, bank: Tensor | None) -> Overlay:
        if not self.structured_noise:
            return Uniform(image_size=IMAGE_SIZE)
        if bank is None:
            raise ValueError("structured noise needs a bank of images: pass bank=dataset.textures(judging, device)")
        return Structured(bank=bank)

    def assemble(self, draws: Draws, coefficients: NoiseCoefficients, normalizer: Normalizer | None) -> Batch:
        """The batch that ``draws`` and ``coefficients`` make; a pure function, fit for ``torch.func.vmap``.

        ``normalizer`` None leaves frames as they are; locations and actions are normalised as ``normalize`` says.
        Sources: SPEC §1-§3.
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
        self, locations: Tensor, draws: Draws, coefficients: NoiseCoefficients, normalizer: Normalizer
    ) -> Tensor:
        """Noisy normalised frames [T, B, C, H, W] of ``locations`` [T, B, K, 2] px.

        ``(clean + m (static_noise F + noise C) - mean) / std``, the division done on the small factors of the images.
        Only operations for which vmap has rules are used (``addcmul_`` has none), and the same in a run by itself, so
        that packed jobs see the same bits.
        """
        columns, rows = gaussian_profiles(locations, IMAGE_SIZE, self.dot_std)
        # Adding nothing, the coefficients make the frames one per job under vmap, as adding to them in place needs.
        gain = 1 / normalizer.state_std + 0 * (coefficients.noise + coefficients.static_noise)
        unit = brightest(columns, rows) * gain  # m of SPEC §2, over all images of the batch
        num_summed = self.num_dots // self.channels  # images that add up to one channel share the mean between them
        frames = (rows * gain).unsqueeze(-1) * columns.unsqueeze(-2)
        frames.sub_(normalizer.state_mean * gain / num_summed)
        if draws.static is not None:
            overlay = draws.static * (unit * coefficients.static_noise)
            frames.add_(roll_static(overlay, num_steps=self.num_steps, speed=self.static_noise_speed))
        if draws.changing is not None:
            frames.add_(draws.changing * (unit * coefficients.noise))
        return frames if num_summed == 1 else frames.sum(2, keepdim=True)

    def estimate_normalizer(self, seed: int, device: torch.device | str, num_batches: int = 100) -> Normalizer:
        """Mean and standard deviation of noisy frames over ``num_batches`` training batches of ``seed``.

        The one normalizer of a run: for training, probe fitting and judging. Changes nothing where data are not
        normalised. Raises ConfigError where images are missing. Source: SPEC §3.
        """
        coefficients = self.coefficients(device)
        if not self.normalize:
            return identity_normalizer(coefficients.noise)
        streams = Streams(seed=seed, purpose="normalization", device=device)
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
        self.streams = Streams(seed=seed, purpose=purpose, device=device)
        self.bank = dataset.textures(judging=purpose in JUDGING_PURPOSES, device=device)
        self.coefficients = dataset.coefficients(device)

    def draw(
        self, batch_size: int | None = None, *, with_changing: bool | None = None, with_static: bool | None = None
    ) -> Draws:
        """The next draws; see ``MovingDots.draw``."""
        return self.dataset.draw(
            self.streams, self.device, batch_size, bank=self.bank, with_changing=with_changing, with_static=with_static
        )

    def next(self, batch_size: int | None = None) -> Batch:
        """The next batch, of ``batch_size`` sequences where given."""
        return self.dataset.assemble(self.draw(batch_size), self.coefficients, self.normalizer)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the stream stands: tensors only, so that a checkpoint loads without executing code."""
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where ``state_dict`` was taken. Raises ValueError for a state that does not fit."""
        self.streams.load_state_dict(state)


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
