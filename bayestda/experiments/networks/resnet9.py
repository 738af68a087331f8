"""The ResNet-9 of CIFAR-10 speed training, with group norm instead of batch norm."""

from torch import Tensor, nn

CHANNELS_PER_GROUP = 8
SCALE = 0.2  # of the logits, as in speed training


class Residual(nn.Module):
    """Compute x + f(x)."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape as x."""
        return x + self.layers(x)


class Scaled(nn.Module):
    """Multiply x by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape as x."""
        return self.factor * x


def resnet9(num_outputs: int = 10, *, width: int = 64) -> nn.Sequential:
    """Build eight convolutions, two residual blocks and a linear layer: 2,274,880 parameters.

    From images [B 3 H W] with H and W at least 12 and multiples of 4. Convolutions and the linear
    layer have no bias. Batch norm became group norm, 8 channels a group: its running statistics are
    no parameters, and it would make an example's gradient depend on its batch.

    Args:
        num_outputs: Number of outputs K.
        width: Channels of the first convolution, a multiple of 8; the paper's is 64. With 16 there
            are 143,248 parameters.
    """
    narrow, middle, wide = width, 2 * width, 4 * width
    return nn.Sequential(
        *_block(3, narrow),
        *_block(narrow, middle, kernel=5, stride=2, padding=2),
        Residual(*_block(middle, middle), *_block(middle, middle)),
        *_block(middle, wide),
        nn.MaxPool2d(2),
        Residual(*_block(wide, wide), *_block(wide, wide)),
        *_block(wide, middle, padding=0),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(middle, num_outputs, bias=False),
        Scaled(SCALE),
    )


def _block(
    channels: int, filters: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, filters, kernel, stride, padding, bias=False),
        nn.GroupNorm(filters // CHANNELS_PER_GROUP, filters),
        nn.ReLU(),
    ]
