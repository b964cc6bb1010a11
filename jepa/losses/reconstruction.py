"""The reconstruction term: the error of frames that are decoded from embeddings."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from jepa.errors import ConfigError
from jepa.losses.base import Embeddings, Sizes, Term, full_precision


class DecoderFactory(Protocol):
    """Makes a decoder, [T, B, input_size] -> [T, B, C, H, W]; an option of conf/model/decoder without its sizes."""

    def __call__(self, *, input_size: int, channels: int, image_size: int) -> nn.Module: ...


class Reconstruction(Term):
    """Mean squared error over all frames of the image that a decoder makes of z_t.

    Args:
        coeff: as for :class:`Term`.
        decoder: makes the decoder; not called if ``coeff`` is 0.
    """

    def __init__(self, *, coeff: float | None, decoder: DecoderFactory | None) -> None:
        super().__init__(coeff=coeff)
        if self.is_on and decoder is None:
            raise ConfigError(f"coeff={coeff!r}: needs a decoder, for example model/decoder=menet5")
        self._factory = decoder

    @property
    def image_decoder(self) -> nn.Module:
        return self.decoder

    def build(self, sizes: Sizes) -> None:
        assert self._factory is not None
        shapes = sizes.shapes
        self.decoder = self._factory(
            input_size=sizes.embedding_size, channels=shapes.channels, image_size=shapes.image_size
        )

    def forward(self, embeddings: Embeddings) -> Tensor:
        images = self.decoder(embeddings.encodings)
        return F.mse_loss(full_precision(images), embeddings.batch.states)
