"""The layout of all parameters of a model in one flat tensor. Optimizers update this tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class FlatLayout:
    """The position of each parameter in a flat tensor ``[P]``: one after another, without gaps. Immutable.

    ``names`` and ``shapes`` are those of a model's parameters, in order. Parameter ``i`` starts at ``offsets[i]`` and
    has ``sizes[i]`` elements. ``num_elements`` is ``P``. ``matrices`` lists the indices of parameters of more than one
    dimension. Raises ValueError if names repeat or if the numbers of names and shapes differ.
    """

    def __init__(self, names: Sequence[str], shapes: Sequence[Sequence[int]]) -> None:
        if len(names) != len(shapes) or len(set(names)) != len(names):
            raise ValueError(f"{len(names)} names ({len(set(names))} different) for {len(shapes)} shapes")
        self.names = tuple(names)
        self.shapes = tuple(tuple(shape) for shape in shapes)
        self.sizes = tuple(math.prod(shape) for shape in self.shapes)
        self.offsets = tuple(sum(self.sizes[:index]) for index in range(len(self.sizes)))
        self.num_elements = sum(self.sizes)
        self.matrices = tuple(index for index, shape in enumerate(self.shapes) if len(shape) > 1)

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> FlatLayout:
        """The layout of a model's named parameters, for example ``dict(module.named_parameters())``."""
        return cls(list(parameters), [tensor.shape for tensor in parameters.values()])

    def __len__(self) -> int:
        return len(self.names)

    def slice(self, flat: Tensor, index: int) -> Tensor:
        """Parameter ``index`` of ``flat`` ``[..., P]`` as a view ``[..., sizes[index]]``."""
        return flat.narrow(-1, self.offsets[index], self.sizes[index])

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters of ``flat`` ``[..., P]`` as views ``[..., *shape]``."""
        # Use one split: its gradient is one concatenation. The gradient of each slice would have P elements.
        chunks = torch.split(flat, list(self.sizes), dim=-1)
        return {
            name: chunk.view(*flat.shape[:-1], *shape)
            for name, shape, chunk in zip(self.names, self.shapes, chunks, strict=True)
        }

    def flatten(self, tensors: Sequence[Tensor], leading: int = 0) -> Tensor:
        """Gather ``tensors`` ``[..., *shape]``, in the layout's order, into ``[..., P]``.

        leading: number of axes in ``...``.
        """
        if not tensors and not self.sizes:
            return torch.zeros(0)  # a model without parameters
        rows = [tensor.flatten(leading) if tensor.ndim > leading else tensor.unsqueeze(-1) for tensor in tensors]
        sizes = tuple(row.shape[-1] for row in rows)
        if sizes != self.sizes:
            raise ValueError(f"tensors of {sizes} elements do not fill a layout of {self.sizes}")
        return torch.cat(rows, dim=-1)
