"""How long and how fast to train: the learning rate rises linearly, then decays to zero."""

from dataclasses import dataclass
from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train with AdamW.

    Args:
        epochs: number of passes over the data, which need not be whole.
        batch_size: number of images per step.
        learning_rate: the largest learning rate, at the end of the warm-up.
        weight_decay: decay of matrices and kernels; biases, norms and embeddings have none.
        warmup: number of steps in which the learning rate rises to its largest.
        seed: seed of initial weights, order and noise.
        bfloat16: whether matrix products run in bfloat16 (autocast); weights stay float32.
    """

    epochs: float
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 100
    seed: int = 0
    bfloat16: bool = True

    def steps(self, rows: int) -> int:
        """The number of steps for a data set of so many rows; at least one."""
        return max(1, round(self.epochs * (rows // self.batch_size)))


def warmup_cosine(
    optimizer: Optimizer, learning_rate: float, *, warmup: int, total: int, start: int = 0
) -> LambdaLR:
    """A scheduler that sets the rate of every step to come, each parameter group's alike.

    Call its `step` after the optimizer's.

    Args:
        optimizer: the optimizer, whose own rates are replaced.
        learning_rate: the largest learning rate.
        warmup: number of steps of the linear rise; the first step has 1 / `warmup` of it.
        total: number of steps of the cosine, which ends at zero.
        start: number of steps that were taken before.
    """

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / warmup)
        return learning_rate * warm * (0.5 + 0.5 * cos(pi * step / total))

    for group in optimizer.param_groups:
        group["initial_lr"] = 1.0  # the scheduler multiplies by it, and `rate` is absolute
    return LambdaLR(optimizer, rate, last_epoch=start - 1)
