"""A trained model as planners use it: encode frames, predict the effect of actions, read locations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from jepa.data.dots import DotWorld
from jepa.data.normalization import Normalizer
from jepa.methods.base import Method
from jepa.probes.maps import FittedMap, load_map
from jepa.probes.report import LOCATION

# Candidates in one call of the predictor. On a CPU, larger calls leave the caches: 1000 candidates of 128 features take
# 2.1 us a step and candidate, 6000 take 5.4 us.
_ROWS = {"cpu": 1024}
_ROWS_ELSEWHERE = 2**17


class FrozenModel:
    """A method in evaluation mode, with the run's environment, normalisation and probes.

    evaluations: number of predicted steps so far, one for each candidate and step.
    seconds: time spent in the predictor so far.
    """

    def __init__(
        self,
        method: Method,
        *,
        environment: DotWorld,
        normalizer: Normalizer | None,
        maps: Mapping[str, Mapping[str, Any]] | None,
        seed: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """Args:
        method: the trained method; its weights are not changed.
        environment, normalizer, seed: of the run.
        maps: the run's fitted probes by target, as ``probe.pt`` holds them; None: locations cannot be read.
        device: the device of ``method``.
        autocast: makes the context in which the networks are called.
        """
        self.method = method.eval()
        self.environment, self.normalizer, self.seed, self.device = environment, normalizer, seed, device
        self._autocast = autocast
        found = None if maps is None else maps.get(LOCATION)
        self._maps: dict[str, FittedMap] = {} if found is None else {k: load_map(v, device) for k, v in found.items()}
        self.evaluations, self.seconds = 0, 0.0

    @property
    def can_read(self) -> bool:
        """Whether the run's location probes are there."""
        return bool(self._maps)

    def episodes_at_once(self, num_samples: int) -> int:
        """The number of episodes with ``num_samples`` candidates each that :meth:`predict` is best called with."""
        return max(1, _ROWS.get(self.device.type, _ROWS_ELSEWHERE) // num_samples)

    @property
    def context_frames(self) -> int:
        """S, the number of frames that a prediction starts from."""
        return self.method.context_frames or 1

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Embeddings [S, N, D] of sequences of frames [S, N, C, H, W], S at least ``context_frames``; float32."""
        shapes = self.environment.shapes
        no_actions = frames.new_zeros(len(frames), frames.shape[1], shapes.action_size)
        noise = self.latent_noise(len(no_actions), frames.shape[1], torch.Generator(self.device))
        with self._autocast():
            encodings: Tensor = self.method.rollout(frames, no_actions, noise).encodings
        return encodings.float()

    def encode_still(self, frames: Tensor) -> Tensor:
        """Embeddings [N, D] of single frames [N, C, H, W]; a model that sees several frames is shown copies."""
        return self.encode(frames.expand(self.context_frames, *frames.shape))[-1]

    def predict(self, context: Tensor, past: Tensor, actions: Tensor, latent_noise: Tensor | None) -> Tensor:
        """Embeddings [H, B, N, D] that the model predicts for ``actions`` [H, B, N, A], px; float32.

        Gradients flow to ``actions``, if autograd is on.

        Args:
            context: embeddings of the last S frames [S, B, D].
            past: actions between these frames [S-1, B, A], px.
            actions: the candidates.
            latent_noise: of the episodes, from :meth:`latent_noise`; their candidates share it.
        """
        started = time.perf_counter()
        horizon, num_episodes, num_samples, _ = actions.shape
        extent = (num_episodes, num_samples)
        before = past.unsqueeze(2).expand(len(past), *extent, past.shape[-1])
        whole = self.environment.normalize_actions(torch.cat((before, actions))).flatten(1, 2)  # [S-1+H, B·N, A]
        encodings = context.unsqueeze(2).expand(len(context), *extent, context.shape[-1]).flatten(1, 2)
        noise = latent_noise
        if noise is not None:
            noise = noise.unsqueeze(2).expand(-1, -1, num_samples, *noise.shape[2:]).flatten(1, 2)
        with self._autocast():
            predicted: Tensor = self.method.predict(encodings, whole, noise)[-horizon:].float()
        self.evaluations += whole.shape[0] * whole.shape[1]
        self.seconds += time.perf_counter() - started
        return predicted.view(horizon, *extent, -1)

    def read(self, embeddings: Tensor, probe: str = "prediction") -> Tensor:
        """The locations [..., K, 2], px, that a probe of the run reads from ``embeddings`` [..., D]; float32.

        probe: "prediction" (fitted on frame 0 and predictions) or "encoder" (fitted on frame 0).
        """
        answers = self._maps[probe](embeddings.reshape(1, -1, embeddings.shape[-1]))
        located = answers.reshape(*embeddings.shape[:-1], self.environment.num_dots, 2)
        return self.environment.unnormalize_locations(located).float()

    def latent_noise(self, num_steps: int, num_rows: int, generator: torch.Generator) -> Tensor | None:
        """Latent noise for ``num_steps`` predictions or more, [N, num_rows, ...]; None if the method needs none."""
        parts: list[Tensor] = []
        while sum(map(len, parts)) < num_steps:
            part = self.method.draw_rollout_noise(generator, num_rows, self.device)
            if part is None:
                return None
            parts.append(part)
        return torch.cat(parts)
