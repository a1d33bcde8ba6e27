"""A small classifier of Fashion-MNIST, whose penultimate features are the space of its FID.

InceptionV3 knows nothing of 28 x 28 grey images; scoring such generators in the features of a
classifier trained on the data set itself is common practice, e.g. Binkowski et al., "Demystifying
MMD GANs", arXiv 1801.01401, for MNIST.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 128


class Classifier(nn.Module):
    """Images (batch, 1, 28, 28) in [0, 1] -> logits (batch, classes)."""

    def __init__(self, classes: int = 10, dropout: float = 0.3) -> None:
        super().__init__()
        self.dropout = dropout
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            for inputs, outputs in ((1, 32), (32, 64), (64, 128))
        )
        self.hidden = nn.Linear(128 * 3 * 3, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer, after its ReLU: (batch, 128)."""
        x = images * 2 - 1
        for stage in self.stages:
            x = F.dropout(stage(x), self.dropout, self.training)
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(images), self.dropout, self.training))


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """The fraction of images whose largest logit is their label's.

    Args:
        model: a classifier, images -> logits (batch, classes).
        images: images as the model takes them.
        labels: class labels (images,), int64.
        batch: how many images are classified at a time.
    """
    hits = [
        (model(x).argmax(1) == y).sum()
        for x, y in zip(images.split(batch), labels.split(batch), strict=True)
    ]
    return float(torch.stack(hits).sum()) / len(labels)
