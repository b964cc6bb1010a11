"""Reference lines for the errors of probes: errors of simple guesses of the dots' locations, by simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jepa.seeding import generator

NUM_SEQUENCES = 20_000  # the sampling error of a line is then below 0.5 %
SEED = 0  # of the generator "reference/motion", which nothing else uses
_CHUNK = 2000  # sequences simulated at once

Array = npt.NDArray[np.float64]
# (generator, N) -> locations [T, N, 2] and actions [T-1, N, 2] of N sequences of one moving dot, px
Simulate = Callable[[torch.Generator, int], tuple[Tensor, Tensor]]
# (start [N], actions [T-1, N]) of a coordinate relative to the centre, px -> further guesses [T, N] by name
Guesses = Callable[[Tensor, Tensor], Mapping[str, Tensor]]


def reference_lines(
    simulate: Simulate,
    *,
    num_steps: int,
    centre: float,
    dots: Sequence[str],
    num_moving: int,
    guesses: Guesses,
    alike: bool = True,
) -> dict[str, Any]:
    """The reference lines of dots, as plain data for ``result.json``.

    The name of a line says which quantities are known. Its guess is the best linear one from these quantities. The
    known actions are those of the first dot. They say nothing about other dots, whose guess does not use them.

    Args:
        simulate: simulates a moving dot. x and y must be uncorrelated, and symmetric about the centre.
        num_steps: T, frames in a sequence.
        centre: coordinate of the image's centre, px.
        dots: the names of the dots; the actions of the first dot are known.
        num_moving: dots from this index on rest.
        guesses: further guesses, beside the best linear ones.
        alike: x and y follow the same law, so that both are samples of one regression; false: a regression for each.

    Returns:
        "num_sequences", "seed", "dots" (the names), and for the probes "prediction" and "encoder" their "lines". A line
        has a "name"; "rmse_px", averaged as the probe's error is (prediction: all frames; encoder: frame 0; both: all
        dots); "per_step_px" [T], over all dots; and "per_dot_px" [K].
    """
    moving = _moving_dot(simulate, num_steps, centre, guesses, alike)
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
    """squares: mean squared errors [K, T], px²; frames: number of leading frames over which the probe's error runs."""
    covered = squares[:, :frames]
    return {
        "name": name,
        "rmse_px": _root(covered.mean()),
        "per_step_px": [_root(value) for value in squares.mean(0)],
        "per_dot_px": [_root(value) for value in covered.mean(1)],
    }


def _root(mean_square: float) -> float:
    return round(float(np.sqrt(mean_square)), 4)


def _moving_dot(
    simulate: Simulate, num_steps: int, centre: float, guesses: Guesses, alike: bool
) -> dict[str, Array]:
    """Mean squared errors [T], px², of guesses of the action dot's location; in the published setting the worst first.

    The coordinates are uncorrelated and symmetric. Therefore the best linear guess of a coordinate uses the start and
    the actions of that coordinate only, and has no constant. If both follow the same law (``alike``), they are samples
    of one regression (G = 1 below), else each has a regression of its own (G = 2).
    """
    stream = generator(SEED, "reference/motion")
    groups = 1 if alike else 2
    gram, moment = torch.zeros(2, groups, num_steps, num_steps, dtype=torch.float64).unbind()
    energy = torch.zeros(num_steps, dtype=torch.float64)
    others: dict[str, Tensor] = {}
    for _ in range(NUM_SEQUENCES // _CHUNK):
        locations, actions = (values.double() for values in simulate(stream, _CHUNK))
        locations -= centre  # [T, N, 2]
        known = torch.cat((locations[:1], actions))  # [T, N, 2]: the start, then the actions
        for group, share in enumerate((slice(None),) if alike else (slice(0, 1), slice(1, 2))):
            features, wanted = known[..., share].flatten(1), locations[..., share].flatten(1)
            gram[group] += features @ features.T
            moment[group] += features @ wanted.T
        known, locations = known.flatten(1), locations.flatten(1)
        energy += locations.square().sum(1)
        for name, guess in guesses(known[0], known[1:]).items():
            others[name] = others.get(name, 0) + (guess - locations).square().sum(1)

    def linear(first: int, last: int) -> Tensor:
        """The squared error that remains with the best linear guess from the known quantities ``first`` to ``last``."""
        some = slice(first, last)
        weights = torch.linalg.solve(gram[:, some, some], moment[:, some])
        rest: Tensor = energy - (moment[:, some] * weights).sum((0, 1))
        return rest.clamp(min=0)

    errors = {
        "always the centre": energy,
        "actions alone": linear(1, num_steps),
        "start alone": linear(0, 1),
        "start and actions, linear": linear(0, num_steps),
        **others,
    }
    return {name: (total / NUM_SEQUENCES).numpy() for name, total in errors.items()}
