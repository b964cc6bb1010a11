"""Encoders: frames [N, C, H, W] to embeddings [N, D]. BatchNorm takes its statistics over all N frames."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from jepa.errors import ConfigError, check_count, check_widths
from jepa.models.heads import MLP


class Encoder(nn.Module, ABC):
    """Abstract: features of a frame, and optionally an MLP on top.

    Args:
        features_size: number of features of a frame.
        mlp: widths of the MLP's layers (``"512"``: one Linear without bias); the last is the embedding's size. None or
            ``""``: no MLP.
    """

    embedding_size: int  # D of what forward returns

    def __init__(self, *, features_size: int, mlp: str | int | None) -> None:
        super().__init__()
        widths = check_widths("model.encoder.mlp", mlp)
        self.embedding_size = [features_size, *widths][-1]
        self.mlp = MLP(sizes=[features_size, *widths]) if widths else None

    @abstractmethod
    def features(self, frames: Tensor) -> Tensor:
        """frames: [N, C, H, W]; returns [N, features_size]."""

    def forward(self, frames: Tensor) -> Tensor:
        """frames: [N, C, H, W], normalised; returns [N, D]."""
        features = self.features(frames)
        return features if self.mlp is None else self.mlp(features)


class MeNet5(Encoder):
    """The study's encoder: three convolutions, ReLU *before* BatchNorm, a Linear (docs/science.md).

    Args:
        in_channels: C.
        image_size: H = W, pixels.
        width_factor: multiplies the 16, 32 and 32 channels of the convolutions.
        embedding_size: output features of the Linear.
        mlp: as for ``Encoder``.
    """

    def __init__(
        self, *, in_channels: int, image_size: int, width_factor: int, embedding_size: int, mlp: str | int | None
    ) -> None:
        check_count("model.encoder.embedding_size", embedding_size, maximum=2**16)
        super().__init__(features_size=embedding_size, mlp=mlp)
        check_count("model.encoder.width_factor", width_factor, maximum=512)
        narrow, wide = (size * width_factor for size in (16, 32))
        self.layer1 = nn.Sequential(
            nn.Conv2d(in_channels, narrow, kernel_size=5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(narrow),
            nn.Conv2d(narrow, wide, kernel_size=5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(wide),
            nn.Conv2d(wide, wide, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(wide),
            nn.AvgPool2d(2),
        )
        side = _checked_side("menet5", image_size, (image_size + 3) // 4 // 2)
        self.fc = nn.Linear(wide * side * side, embedding_size)

    def features(self, frames: Tensor) -> Tensor:
        maps = self.layer1(frames)  # [N, 32w, 3, 3] for images of 28 pixels
        return self.fc(maps.flatten(1))  # type: ignore[no-any-return]


class ResNet18(Encoder):
    """ResNet-18 for small images: a 3x3 stem without stride or max-pool, four stages of two blocks, mean over pixels.

    It has 8 * base_width features. Source: He et al. 2016 (arXiv 1512.03385), with the stem of their CIFAR networks.

    Args:
        in_channels: C.
        image_size: H = W, pixels.
        base_width: channels of the first stage; each further stage has twice as many as the stage before.
        mlp: as for ``Encoder``.
    """

    def __init__(self, *, in_channels: int, image_size: int, base_width: int, mlp: str | int | None) -> None:
        check_count("model.encoder.base_width", base_width, maximum=2**13)
        super().__init__(features_size=8 * base_width, mlp=mlp)
        _checked_side("resnet18", image_size, (image_size + 7) // 8)
        widths = [base_width * factor for factor in (1, 2, 4, 8)]
        self.conv1 = nn.Conv2d(in_channels, base_width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        stages = []
        for before, width in zip([base_width, *widths], widths, strict=False):
            stride = 1 if before == width else 2
            stages.append(nn.Sequential(_Block(before, width, stride), _Block(width, width, 1)))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def features(self, frames: Tensor) -> Tensor:
        out = self.bn1(self.conv1(frames)).relu_()
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            out = stage(out)
        return out.mean(dim=(-2, -1))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Two 3x3 convolutions plus a shortcut, which is a 1x1 convolution if channels or size change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.stride = stride
        shortcut = [] if same else [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.downsample = nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        """maps: [N, inputs, H, W]; returns [N, outputs, H / stride, W / stride]."""
        out = self.bn1(self.conv1(maps)).relu_()
        out = self.bn2(self.conv2(out))
        # Select the pixels first and convolve without stride. On CPUs with AVX2 alone, oneDNN's strided 1x1 convolution
        # of few channels writes past its memory (https://github.com/uxlfoundation/oneDNN/issues/6035).
        read = maps[..., :: self.stride, :: self.stride]
        return (out + self.downsample(read)).relu_()  # type: ignore[no-any-return]


class LeNet5(Encoder):
    """LeNet-5 with BatchNorm: two unpadded 5x5 convolutions with max-pooling, two Linear layers.

    Args:
        in_channels: C.
        image_size: H = W, pixels.
        embedding_size: output features of both Linear layers (in the original 128).
        mlp: as for ``Encoder``.
    """

    def __init__(self, *, in_channels: int, image_size: int, embedding_size: int, mlp: str | int | None) -> None:
        check_count("model.encoder.embedding_size", embedding_size, maximum=2**16)
        super().__init__(features_size=embedding_size, mlp=mlp)
        side = _checked_side("lenet5", image_size, ((image_size - 4) // 2 - 4) // 2)
        self.layer1 = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.layer2 = nn.Sequential(nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.fc = nn.Linear(16 * side * side, embedding_size)
        self.fc1 = nn.Linear(embedding_size, embedding_size)

    def features(self, frames: Tensor) -> Tensor:
        maps = self.layer2(self.layer1(frames))  # [N, 16, 4, 4] for images of 28 pixels
        return self.fc1(self.fc(maps.flatten(1)).relu_())  # type: ignore[no-any-return]


class MLPEncoder(Encoder):
    """Two Linear layers on the pixels, with a ReLU between them.

    Args:
        in_channels: C.
        image_size: H = W, pixels.
        embedding_size: output features of both layers.
        mlp: as for ``Encoder``.
    """

    def __init__(self, *, in_channels: int, image_size: int, embedding_size: int, mlp: str | int | None) -> None:
        check_count("model.encoder.embedding_size", embedding_size, maximum=2**16)
        super().__init__(features_size=embedding_size, mlp=mlp)
        self.fc1 = nn.Linear(in_channels * image_size**2, embedding_size)
        self.fc2 = nn.Linear(embedding_size, embedding_size)

    def features(self, frames: Tensor) -> Tensor:
        return self.fc2(self.fc1(frames.flatten(1)).relu_())  # type: ignore[no-any-return]


class Pixels(Encoder):
    """The C·H·W pixels themselves as features, with nothing to train but the optional ``mlp``."""

    def __init__(self, *, in_channels: int, image_size: int, mlp: str | int | None) -> None:
        super().__init__(features_size=in_channels * image_size**2, mlp=mlp)

    def features(self, frames: Tensor) -> Tensor:
        return frames.flatten(1)


def _checked_side(name: str, image_size: int, side: int) -> int:
    """Return ``side``, of an encoder's last feature map, px. Raises ConfigError if the image is too small for it."""
    if side < 1:
        raise ConfigError(
            f"model/encoder={name}: images of {image_size} pixels are too small for it; use model/encoder=mlp"
        )
    return side
