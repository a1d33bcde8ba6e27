"""Training: it lowers the loss, and a run that was stopped ends like one that was not."""

from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from fpqvar_lab import data
from fpqvar_lab.var import (
    Classifier,
    PlantedOutliers,
    Schedule,
    VARConfig,
    VQVAEConfig,
    accuracy,
    fit,
    train_var,
    train_vqvae,
    warmup_cosine,
)
from fpqvar_lab.var.train import _generator

SHORT = Schedule(epochs=10, batch_size=32, learning_rate=2e-3, warmup=5, bfloat16=False)
CONFIG = replace(VARConfig.preset("mini"), depth=1, width=64, heads=1, vocabulary=32)
VQVAE_CONFIG = replace(VQVAEConfig.preset("mini"), channel_multipliers=(1, 1, 1), vocabulary=32)


@pytest.fixture(scope="module")
def pictures():
    images, labels = data.fashion_mnist("test")
    return images[:64], labels[:64]


@pytest.fixture(scope="module")
def vqvae(pictures, tmp_path_factory):
    model, losses = train_vqvae(
        pictures[0], VQVAE_CONFIG, SHORT, tmp_path_factory.mktemp("v") / "v.progress"
    )
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    return model


def test_twenty_steps_lower_the_transformers_loss(pictures, vqvae, tmp_path):
    _, losses = train_var(*pictures, vqvae, CONFIG, SHORT, tmp_path / "p")
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def _toy(tmp_path, name, stop_after=None):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))

    def loss(batch, generator):
        noise = torch.randn(len(batch), 4, generator=generator)
        return (model(x[batch] + noise) - 1).square().mean()

    losses = fit(model, loss, 64, replace(SHORT, epochs=20), tmp_path / name, stop_after=stop_after)
    return model.state_dict(), losses


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    straight, losses = _toy(tmp_path, "straight")
    _toy(tmp_path, "stopped", stop_after=17)
    resumed, again = _toy(tmp_path, "stopped")
    assert again == losses
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)


def test_progress_of_other_settings_is_refused(tmp_path):
    _toy(tmp_path, "p", stop_after=3)
    model = torch.nn.Linear(4, 1)
    with pytest.raises(ValueError, match="other settings"):
        fit(model, lambda b, g: model.weight.sum(), 64, SHORT, tmp_path / "p")


def test_a_loss_that_is_no_number_is_named(tmp_path):
    model = torch.nn.Linear(4, 1)
    with pytest.raises(ValueError, match="nan at step 0"):
        fit(model, lambda b, g: model.weight.sum() * torch.nan, 64, SHORT, tmp_path / "p")


def test_planted_outliers_stay_and_differ_by_step(pictures, vqvae, tmp_path):
    planted = PlantedOutliers(amplitude=50)
    model, _ = train_var(*pictures, vqvae, CONFIG, SHORT, tmp_path / "p", outliers=planted)
    mask, signs = planted.mask_and_signs(CONFIG)
    assert mask.sum(1).tolist() == [3] * 5
    assert mask.sum(0).max() == 1
    values = model.lvl_embed.weight[mask]
    assert torch.equal(values.sign(), signs[mask])
    assert values.abs().max() == values.abs().min()  # frozen: twenty steps did not move them
    rest = model.lvl_embed.weight[~mask]
    assert values.abs().min() > 10 * rest.abs().max()


def _rates(scheduler, optimizer, steps):
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_the_rate_rises_for_the_warmup_and_then_is_torchs_cosine():
    ours, theirs = (torch.optim.SGD([torch.zeros(1)], lr=0.3) for _ in range(2))
    found = _rates(warmup_cosine(ours, 0.3, warmup=10, total=100), ours, 100)
    cosine = _rates(CosineAnnealingLR(theirs, T_max=100), theirs, 100)
    assert found[9:] == pytest.approx(cosine[9:])
    assert found[:10] == pytest.approx([rate * (i + 1) / 10 for i, rate in enumerate(cosine[:10])])


def test_a_schedule_goes_on_where_a_run_had_stopped():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    whole = _rates(warmup_cosine(optimizer, 0.3, warmup=5, total=50), optimizer, 50)
    rest = _rates(warmup_cosine(optimizer, 0.3, warmup=5, total=50, start=20), optimizer, 30)
    assert rest == whole[20:]


def test_random_streams_are_the_same_in_every_process():
    """Known values: they must not change, or committed weights could not be made again."""
    assert torch.randint(1000, (3,), generator=_generator(0, 1, 0)).tolist() == [811, 410, 629]


def test_accuracy_counts_hits():
    model = Classifier().eval()
    images, labels = torch.rand(7, 1, 28, 28), torch.arange(7)
    with torch.inference_mode():
        expected = (model(images).argmax(1) == labels).float().mean().item()
        assert model.features(images).shape == (7, 128)
    assert accuracy(model, images, labels, batch=3) == pytest.approx(expected)
