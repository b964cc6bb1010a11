"""Small networks on top of embeddings: MLPs, projectors, the action predictor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

from jepa.errors import ConfigError, check_choice, check_widths


class Projector(nn.Module, ABC):
    """Abstract: maps embeddings to the space in which a loss is computed."""

    output_size: int

    @abstractmethod
    def forward(self, embeddings: Tensor) -> Tensor:
        """embeddings: [..., D]; returns [..., output_size]. Batch statistics are taken over all embeddings together."""

    @abstractmethod
    def steps(self, embeddings: Tensor) -> Tensor:
        """embeddings: [T, B, D]; returns [T, B, output_size]. Batch statistics are taken over each time step."""


class IdentityProjector(Projector):
    """Returns embeddings unchanged, so that losses are computed on the embeddings."""

    def __init__(self, *, embedding_size: int) -> None:
        super().__init__()
        self.output_size = embedding_size

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings

    def steps(self, embeddings: Tensor) -> Tensor:
        return embeddings


class MLP(nn.Module):
    """Linear, BatchNorm and ReLU between layers; the last Linear has no bias (docs/science.md).

    Args:
        sizes: number of features of the input and of each layer's output; at least two numbers.
    """

    def __init__(self, *, sizes: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes[:-1]):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """features: [N, F]; returns [N, sizes[-1]]."""
        return self.model(features)  # type: ignore[no-any-return]


class MLPProjector(Projector):
    """An MLP, for example of ``layers="512-512-512"``.

    Args:
        embedding_size: D.
        layers: widths of the layers; the last is the size of projections.
    """

    def __init__(self, *, embedding_size: int, layers: str | int) -> None:
        super().__init__()
        widths = check_widths("model.projector.layers", layers)
        if not widths:
            raise ConfigError(
                f"model.projector.layers={layers!r}: must name one width or more; for none: model/projector=identity"
            )
        self.model = MLP(sizes=[embedding_size, *widths]).model
        self.output_size = widths[-1]

    def forward(self, embeddings: Tensor) -> Tensor:
        projections: Tensor = self.model(embeddings.flatten(0, -2))  # [N, output_size]
        return projections.reshape(*embeddings.shape[:-1], self.output_size)

    def steps(self, embeddings: Tensor) -> Tensor:
        return torch.stack([self.model(step) for step in embeddings])


HEADS = ("linear", "mlp")


def check_head(head: str, hidden: str | int) -> tuple[int, ...]:
    """The widths of a head's hidden layers: none for ``linear``, those of ``hidden`` for ``mlp``.

    Args:
        head: one of HEADS.
        hidden: widths joined by -, such as "512" or "512-512"; not used by ``linear``.

    Raises:
        ConfigError: names ``head`` or ``hidden``.
    """
    widths = tuple(check_widths("hidden", hidden))
    if check_choice("head", head, HEADS) == "linear":
        return ()
    if not widths:
        raise ConfigError(f"hidden={hidden!r}: must name one width or more for head=mlp; for none: head=linear")
    return widths


class ActionPredictor(nn.Module):
    """Infers an action from embeddings: a Linear, or an MLP with ReLU and without BatchNorm (docs/science.md).

    Args:
        input_size: number of features of all inputs together.
        action_size: A.
        hidden: widths of the hidden layers; none: a single Linear.
    """

    def __init__(self, *, input_size: int, action_size: int, hidden: tuple[int, ...] = ()) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([input_size, *hidden]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        last = nn.Linear(hidden[-1] if hidden else input_size, action_size)
        self.model = nn.Sequential(*layers, last) if hidden else last

    def forward(self, *features: Tensor) -> Tensor:
        """features: [..., F_i], which are concatenated; returns [..., A]."""
        return self.model(torch.cat(features, dim=-1))  # type: ignore[no-any-return]
