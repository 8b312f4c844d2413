"""One small network of fixed weights, under the names of large ones: images of three colours to 1000 classes."""

from typing import Any

import torch


def resnet50(pretrained: bool = False, **_: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 1000),
    )


vgg16 = resnet50
