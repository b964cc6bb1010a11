"""Kernels of the study's decoder: convolution without upsampled maps, and one norm call for all time steps."""

from __future__ import annotations

from torch import nn

from jepa.kernels import step_norm, upsampled_conv
from jepa.kernels.setting import Setting
from jepa.models.decoders import Decoder, UpsampledConv


def install(module: nn.Module, setting: Setting) -> bool:
    """Replace the layers of a :class:`Decoder`; returns whether ``module`` is one.

    Convolutions and norms are replaced together: the convolutions return channels-last maps, and PyTorch's own norm
    loses digits on such maps on a CPU.
    """
    if type(module) is not Decoder:
        return False
    for layer in module.layers:
        if isinstance(layer, UpsampledConv):
            upsampled_conv.install(layer, setting)
    step_norm.install(module.layers, setting)
    return True
