"""The study's decoder: convolutions without upsampled maps, and the norms of all time steps in one call."""

from __future__ import annotations

from torch import nn

from jepa.kernels import step_norm, upsampled_conv
from jepa.kernels.setting import Setting
from jepa.models.decoders import Decoder, UpsampledConv


def install(module: nn.Module, setting: Setting) -> bool:
    """Replace the layers of a :class:`Decoder`; returns whether ``module`` is one.

    Convolutions and norms go together: the convolutions make channels-last maps, in which PyTorch's own norm loses
    digits on a CPU.
    """
    if type(module) is not Decoder:
        return False
    for layer in module.layers:
        if isinstance(layer, UpsampledConv):
            upsampled_conv.install(layer, setting)
    step_norm.install(module.layers, setting)
    return True
