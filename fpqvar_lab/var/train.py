"""Training of the mini models: VQVAE, transformer and classifier, on one machine.

A run is a pure function of its settings and the data: the order of the images and every random
number come from the seed and the step, so a run that was killed and resumed ends with the weights
of one that was not. Progress is saved every minute beside the result, as `<name>.progress`.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fpqvar_lab.files import replacing
from fpqvar_lab.var.classifier import Classifier
from fpqvar_lab.var.config import VARConfig, VQVAEConfig
from fpqvar_lab.var.schedule import Schedule, warmup_cosine
from fpqvar_lab.var.transformer import VAR
from fpqvar_lab.var.vqvae import VQVAE

SAVE_EVERY_SECONDS = 60.0
CLASS_DROPOUT = 0.1  # fraction of labels replaced by "no class", for classifier-free guidance

Loss = Callable[[Tensor, torch.Generator], Tensor]
"""Rows of the data set (batch,) and this step's randomness -> the loss to minimise."""


def _generator(*seed: int) -> torch.Generator:
    mixed = hash(seed) & (2**63 - 1)  # hash of a tuple of ints is the same in every process
    return torch.Generator().manual_seed(mixed)


def _batches(rows: int, schedule: Schedule, start: int) -> Iterator[tuple[int, Tensor]]:
    """(step, row numbers) from step `start` on, each epoch in an order of its own."""
    size, per_epoch = schedule.batch_size, rows // schedule.batch_size
    epoch, order = -1, torch.empty(0)
    for step in range(start, schedule.steps(rows)):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(rows, generator=_generator(schedule.seed, 1, epoch))
        at = step % per_epoch * size
        yield step, order[at : at + size]


def _optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    matrices = {
        m.weight
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p in matrices], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.95))


class Progress:
    """The state of a run on disk, so that a kill costs at most a minute."""

    def __init__(self, file: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.file, self.model, self.optimizer = file, model, optimizer
        self.losses: list[float] = []
        self._saved = time.monotonic()

    def load(self, settings: dict) -> int:
        """The step to go on from: 0 without a file; ValueError where its settings differ."""
        if not self.file.exists():
            return 0
        state = torch.load(self.file, weights_only=True)
        if state["settings"] != settings:
            raise ValueError(
                f"{self.file} belongs to a run with other settings ({state['settings']}, not "
                f"{settings}); delete it to begin anew"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses = state["losses"]
        return state["step"]

    def save(self, step: int, settings: dict, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._saved < SAVE_EVERY_SECONDS:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
            "step": step,
            "settings": settings,
        }
        with replacing(self.file) as partial:
            torch.save(state, partial)
        self._saved = time.monotonic()


def fit(
    model: nn.Module,
    loss: Loss,
    rows: int,
    schedule: Schedule,
    progress_file: Path,
    *,
    settings: dict | None = None,
    after_backward: Callable[[], None] | None = None,
    after_step: Callable[[int, torch.Generator], None] | None = None,
    stop_after: int | None = None,
) -> list[float]:
    """Train `model` in place.

    Args:
        model: the model, whose `requires_grad` parameters are trained; it is left in evaluation
            mode.
        loss: the loss of the data set's rows with given numbers.
        rows: size of the data set.
        schedule: how long and how fast to train.
        progress_file: where the run's state is kept; a run found there is continued.
        settings: what else a continued run must have in common (the models' configurations, ...).
        after_backward: a function that is called between gradient and step, e.g. to freeze entries.
        after_step: a function that is called with the step's number and randomness.
        stop_after: number of steps in all after which the run leaves, its state saved; for trying
            the resumption.

    Returns:
        The loss at every step.

    Raises:
        ValueError: the run found at `progress_file` has other settings; a loss that is no number.
    """
    settings = asdict(schedule) | (settings or {})
    optimizer = _optimizer(model, schedule)
    progress = Progress(progress_file, model, optimizer)
    start, total = progress.load(settings), schedule.steps(rows)
    rates = warmup_cosine(
        optimizer, schedule.learning_rate, warmup=schedule.warmup, total=total, start=start
    )
    device = next(model.parameters()).device.type
    model.train()
    with tqdm(total=total, initial=start, desc=progress_file.stem, mininterval=2) as bar:
        for step, batch in _batches(rows, schedule, start):
            if stop_after is not None and step >= stop_after:
                progress.save(step, settings, now=True)
                return progress.losses
            generator = _generator(schedule.seed, 2, step)
            torch.manual_seed(step)  # dropout
            with torch.autocast(device, torch.bfloat16, enabled=schedule.bfloat16):
                value = loss(batch, generator)
            if not torch.isfinite(value):
                raise ValueError(f"the loss is {value.item()} at step {step}; lower the rate")
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            if after_backward:
                after_backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            rates.step()
            if after_step:
                after_step(step, generator)
            progress.losses.append(value.item())
            progress.save(step + 1, settings)
            bar.update()
            bar.set_postfix(loss=f"{sum(progress.losses[-50:]) / len(progress.losses[-50:]):.4f}")
    progress.save(total, settings, now=True)
    model.eval()
    return progress.losses


def train_vqvae(
    images: Tensor, config: VQVAEConfig, schedule: Schedule, progress_file: Path
) -> tuple[VQVAE, list[float]]:
    """A VQVAE by squared error and the quantizer's own losses; dead codes restart half the way."""
    torch.manual_seed(schedule.seed)
    model = VQVAE(config)
    total = schedule.steps(len(images))
    rare = images[: 4 * schedule.batch_size]

    def loss(batch: Tensor, _: torch.Generator) -> Tensor:
        output, quantizer_loss = model(images[batch])
        return F.mse_loss(output.float(), images[batch]) * 4 + quantizer_loss

    def restart_codes(step: int, generator: torch.Generator) -> None:
        if step % 50 == 49 and step < total // 2:
            pick = torch.randint(len(images), (len(rare),), generator=generator)
            with torch.no_grad():
                model.quantize.reseed_dead_codes(model.latents(images[pick]), generator)

    settings = {"config": json.dumps(asdict(config))}
    losses = fit(
        model,
        loss,
        len(images),
        schedule,
        progress_file,
        settings=settings,
        after_step=restart_codes,
    )
    return model, losses


@torch.inference_mode()
def encode_all(vqvae: VQVAE, images: Tensor, batch: int = 500) -> Tensor:
    """Codes of all images, all steps side by side: (n, tokens) int16."""
    parts = [torch.cat(vqvae.encode(x), dim=1).to(torch.int16) for x in tqdm(images.split(batch))]
    return torch.cat(parts)


@dataclass(frozen=True)
class PlantedOutliers:
    """Step-specific outlier channels: for each step, some entries of the level embedding.

    They are set and frozen. A model trained for minutes has no outlier channels; large VARs grow
    them. These make a small model live with channels that stand out and move with the step.

    Args:
        amplitude: magnitude of the entries, in standard deviations of the residual stream at the
            first block's input.
        channels: number of entries per step.
        seed: seed of the choice of channels and signs.
    """

    amplitude: float
    channels: int = 3
    seed: int = 0

    def mask_and_signs(self, config: VARConfig) -> tuple[Tensor, Tensor]:
        """Mask (steps, width) of the planted entries, no channel twice, and their signs."""
        generator = _generator(self.seed, 3)
        order = torch.randperm(config.width, generator=generator)[: config.steps * self.channels]
        signs = torch.randint(2, order.shape, generator=generator) * 2.0 - 1
        mask = torch.zeros(config.steps, config.width, dtype=torch.bool)
        values = torch.zeros(config.steps, config.width)
        step = torch.arange(config.steps).repeat_interleave(self.channels)
        mask[step, order], values[step, order] = True, signs
        return mask, values


def _plant(model: VAR, outliers: PlantedOutliers, spread: float) -> Callable[[], None]:
    """Plant the outliers; returns the hook that keeps them, and the position embedding under them,
    frozen.
    """
    mask, signs = outliers.mask_and_signs(model.config)
    with torch.no_grad():
        model.lvl_embed.weight[mask] = (signs * outliers.amplitude * spread)[mask]
    token_mask = mask[model.lvl_1L[0]][None]  # the position embedding must not undo them

    def freeze() -> None:
        for parameter, frozen in ((model.lvl_embed.weight, mask), (model.pos_1LC, token_mask)):
            if parameter.grad is not None:
                parameter.grad.masked_fill_(frozen, 0.0)

    return freeze


@torch.no_grad()
def residual_spread(model: VAR, inputs: Tensor, labels: Tensor) -> float:
    """Standard deviation of the residual stream at the first block's input."""
    x = torch.cat((model.first_tokens(labels), model.word_embed(inputs)), dim=1)
    return (x + model.positions()).std().item()


def train_var(
    images: Tensor,
    labels: Tensor,
    vqvae: VQVAE,
    config: VARConfig,
    schedule: Schedule,
    progress_file: Path,
    *,
    start_from: VAR | None = None,
    outliers: PlantedOutliers | None = None,
) -> tuple[VAR, list[float]]:
    """A VAR by cross-entropy over all tokens, teacher-forced; optionally amid planted outliers."""
    torch.manual_seed(schedule.seed)
    model = VAR(config)
    if start_from is not None:
        model.load_state_dict(start_from.state_dict())
    codes = encode_all(vqvae, images)
    sizes = config.tokens_per_step

    def inputs(batch: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return vqvae.teacher_forcing_input(codes[batch].long().split(sizes, dim=1))

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        drop = torch.rand(len(batch), generator=generator) < CLASS_DROPOUT
        logits = model(labels[batch].masked_fill(drop, config.classes), inputs(batch))
        return F.cross_entropy(logits.flatten(0, 1), codes[batch].long().flatten())

    settings = {"config": json.dumps(asdict(config))}
    freeze = None
    if outliers is not None:
        some = torch.arange(min(512, len(images)))
        freeze = _plant(model, outliers, residual_spread(model, inputs(some), labels[some]))
        settings["outliers"] = json.dumps(asdict(outliers))
    losses = fit(
        model,
        loss,
        len(images),
        schedule,
        progress_file,
        settings=settings,
        after_backward=freeze,
    )
    return model, losses


def train_classifier(
    images: Tensor, labels: Tensor, schedule: Schedule, progress_file: Path
) -> tuple[Classifier, list[float]]:
    """The classifier, by cross-entropy, on images shifted by up to two pixels."""
    torch.manual_seed(schedule.seed)
    model = Classifier()

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        dy, dx = torch.randint(-2, 3, (2,), generator=generator).tolist()
        x = F.pad(images[batch], (2, 2, 2, 2))[:, :, 2 + dy : 30 + dy, 2 + dx : 30 + dx]
        return F.cross_entropy(model(x).float(), labels[batch], label_smoothing=0.05)

    return model, fit(model, loss, len(images), schedule, progress_file)
