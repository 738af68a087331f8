"""The two CNNs of the paper (section 4 and appendix); the head is ten-way also for MNIST3."""

from torch import nn


def cnn2(task_name: str) -> nn.Sequential:
    """Two convolutions and two linear layers: 225,034 (MNIST) or 259,914 (CIFAR-10) parameters."""
    channels, kernel = (3, 5) if task_name.startswith("cifar10") else (1, 3)
    return nn.Sequential(
        *_block(channels, 32, kernel),
        *_block(32, 64, kernel),
        nn.Flatten(),
        nn.Linear(1600, 128),
        nn.GELU(),
        nn.Linear(128, 10),
    )


def cnn3(task_name: str) -> nn.Sequential:
    """Three convolutions and two linear layers: 619,786 (MNIST) or 620,362 parameters.

    The last two convolutions have padding 2 on MNIST, only the last one on CIFAR-10: with these
    both tasks reach the 2048 features that the published head expects.
    """
    channels, middle_padding = (3, 0) if task_name.startswith("cifar10") else (1, 2)
    return nn.Sequential(
        *_block(channels, 32, 3),
        *_block(32, 64, 3, middle_padding),
        *_block(64, 128, 3, 2),
        nn.Flatten(),
        nn.Linear(2048, 256),
        nn.GELU(),
        nn.Linear(256, 10),
    )


def _block(channels: int, filters: int, kernel: int, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(channels, filters, kernel, padding=padding), nn.GELU(), nn.MaxPool2d(2)]
