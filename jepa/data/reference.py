"""What simple guesses of the dots' locations score, by simulation: the lines that a probe's error is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jepa.seeding import generator

NUM_SEQUENCES = 20_000  # the sampling error of a line is below 0.5 %
SEED = 0  # of the stream "reference/motion", which nothing else draws from
_CHUNK = 2000  # sequences simulated at once

Array = npt.NDArray[np.float64]
# (generator, N) -> locations [T, N, 2] and actions [T-1, N, 2] of N sequences of one moving dot, px
Simulate = Callable[[torch.Generator, int], tuple[Tensor, Tensor]]
# (start [N], actions [T-1, N]) of a coordinate about the centre, px -> further guesses [T, N] by name
Guesses = Callable[[Tensor, Tensor], Mapping[str, Tensor]]


def reference_lines(
    simulate: Simulate, *, num_steps: int, centre: float, dots: Sequence[str], num_moving: int, guesses: Guesses
) -> dict[str, Any]:
    """The reference lines of dots, as plain data for ``result.json``.

    Args:
        simulate: the law of a moving dot; x and y must follow one law, symmetric about the centre, and neither may tell
            of the other.
        num_steps: T, frames in a sequence.
        centre: of the image, px.
        dots: their names; the actions of the first are known.
        num_moving: dots from this index on rest.
        guesses: further guesses, beside the best linear ones.

    Returns:
        "num_sequences", "seed", "dots" (their names), and for the probes "prediction" and "encoder" their "lines":
        a "name", "rmse_px" as the probe's own error is averaged (prediction: over all frames; encoder: frame 0; both
        over all dots), "per_step_px" [T] over all dots, "per_dot_px" [K].

    A line says what is known, and its guess is the best linear one from that. The known actions are the action dot's:
    for any other dot they are worth nothing, and its guess is the one without them.
    """
    moving = _moving_dot(simulate, num_steps, centre, guesses)
    resting = {**dict.fromkeys(moving, np.zeros(num_steps))}
    resting["always the centre"] = resting["actions alone"] = np.full(num_steps, moving["always the centre"][0])
    uninformed = {**dict.fromkeys(moving, moving["start alone"])}
    uninformed["always the centre"] = uninformed["actions alone"] = moving["always the centre"]
    laws = [moving, *[uninformed] * (num_moving - 1), *[resting] * len(dots)][: len(dots)]
    squares = {name: np.stack([law[name] for law in laws]) for name in moving}  # [K, T], px²
    return {
        "num_sequences": NUM_SEQUENCES,
        "seed": SEED,
        "dots": list(dots),
        "prediction": {"lines": [_line(name, values, frames=num_steps) for name, values in squares.items()]},
        "encoder": {"lines": [_line("always the centre", squares["always the centre"], frames=1)]},
    }


def _line(name: str, squares: Array, *, frames: int) -> dict[str, Any]:
    """squares: mean squared errors [K, T], px²; frames: how many leading frames the probe's one error covers."""
    covered = squares[:, :frames]
    return {
        "name": name,
        "rmse_px": _root(covered.mean()),
        "per_step_px": [_root(value) for value in squares.mean(0)],
        "per_dot_px": [_root(value) for value in covered.mean(1)],
    }


def _root(mean_square: float) -> float:
    return round(float(np.sqrt(mean_square)), 4)


def _moving_dot(simulate: Simulate, num_steps: int, centre: float, guesses: Guesses) -> dict[str, Array]:
    """Mean squared errors [T], px², of guesses of the action dot's location, worst first in the published setting.

    By the symmetries that ``simulate`` has, the best linear guess of a coordinate uses the start and the actions along
    this coordinate alone, and has no constant term; both coordinates of a sequence count as samples of one regression.
    """
    stream = generator(SEED, "reference/motion")
    gram, moment = torch.zeros(2, num_steps, num_steps, dtype=torch.float64).unbind()
    energy = torch.zeros(num_steps, dtype=torch.float64)
    others: dict[str, Tensor] = {}
    for _ in range(NUM_SEQUENCES // _CHUNK):
        locations, actions = (values.double().flatten(1) for values in simulate(stream, _CHUNK))
        locations -= centre  # [T, 2N]
        known = torch.cat((locations[:1], actions))  # [T, 2N]: the start, then the actions
        gram += known @ known.T
        moment += known @ locations.T
        energy += locations.square().sum(1)
        for name, guess in guesses(known[0], known[1:]).items():
            others[name] = others.get(name, 0) + (guess - locations).square().sum(1)

    def linear(first: int, last: int) -> Tensor:
        """What is left of the energy after the best linear guess from the known quantities ``first`` to ``last``."""
        some = slice(first, last)
        weights = torch.linalg.solve(gram[some, some], moment[some])
        rest: Tensor = energy - (moment[some] * weights).sum(0)
        return rest.clamp(min=0)

    errors = {
        "always the centre": energy,
        "actions alone": linear(1, num_steps),
        "start alone": linear(0, 1),
        "start and actions, linear": linear(0, num_steps),
        **others,
    }
    return {name: (total / NUM_SEQUENCES).numpy() for name, total in errors.items()}
