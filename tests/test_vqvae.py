"""The VQVAE: names, shapes, and the residual quantizer against its definition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fpqvar_lab.var import VQVAE, VQVAEConfig

CHANNELS = 160
MULTIPLIERS = (1, 1, 2, 2, 4)


def _norm(name: str, n: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n,), f"{name}.bias": (n,)}


def _conv(name: str, inputs: int, outputs: int, side: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}


def _residual(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    shapes = _norm(f"{name}.norm1", inputs) | _conv(f"{name}.conv1", inputs, outputs)
    shapes |= _norm(f"{name}.norm2", outputs) | _conv(f"{name}.conv2", outputs, outputs)
    return shapes | (_conv(f"{name}.nin_shortcut", inputs, outputs, 1) if inputs != outputs else {})


def _attention(name: str, n: int) -> dict[str, tuple[int, ...]]:
    shapes = _norm(f"{name}.norm", n) | _conv(f"{name}.qkv", n, 3 * n, 1)
    return shapes | _conv(f"{name}.proj_out", n, n, 1)


def public_names_and_shapes() -> dict[str, tuple[int, ...]]:
    """The keys of vae_ch160v4096z32.pth, written out from the released state dict."""
    top = CHANNELS * 4
    shapes: dict[str, tuple[int, ...]] = {
        "quantize.ema_vocab_hit_SV": (10, 4096),
        "quantize.embedding.weight": (4096, 32),
    }
    for i in range(4):
        shapes |= _conv(f"quantize.quant_resi.qresi_ls.{i}", 32, 32)
    shapes |= _conv("quant_conv", 32, 32) | _conv("post_quant_conv", 32, 32)
    shapes |= _conv("encoder.conv_in", 3, CHANNELS) | _conv("encoder.conv_out", top, 32)
    shapes |= _conv("decoder.conv_in", 32, top) | _conv("decoder.conv_out", CHANNELS, 3)
    shapes |= _norm("encoder.norm_out", top) | _norm("decoder.norm_out", CHANNELS)
    for part in ("encoder", "decoder"):
        shapes |= _residual(f"{part}.mid.block_1", top, top)
        shapes |= _residual(f"{part}.mid.block_2", top, top)
        shapes |= _attention(f"{part}.mid.attn_1", top)
    size = CHANNELS
    for level, multiplier in enumerate(MULTIPLIERS):
        for block in range(2):
            name = f"encoder.down.{level}"
            shapes |= _residual(f"{name}.block.{block}", size, CHANNELS * multiplier)
            size = CHANNELS * multiplier
            shapes |= _attention(f"{name}.attn.{block}", size) if level == 4 else {}
        shapes |= _conv(f"encoder.down.{level}.downsample.conv", size, size) if level < 4 else {}
    for level in reversed(range(5)):
        for block in range(3):
            name, out = f"decoder.up.{level}", CHANNELS * MULTIPLIERS[level]
            shapes |= _residual(f"{name}.block.{block}", size, out)
            size = out
            shapes |= _attention(f"{name}.attn.{block}", size) if level == 4 else {}
        shapes |= _conv(f"decoder.up.{level}.upsample.conv", size, size) if level > 0 else {}
    return shapes


@pytest.fixture(scope="module")
def vqvae() -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig.preset("mini"))
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_state_dict_has_the_public_names_and_shapes():
    with torch.device("meta"):
        state = VQVAE(VQVAEConfig.preset("ch160v4096z32")).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == public_names_and_shapes()


def test_colour_pictures_of_256_pixels_come_back_with_680_codes():
    small = VQVAEConfig(channels=32, residual_blocks=1, vocabulary=64)
    model = VQVAE(small).eval()
    with torch.inference_mode():
        codes = model.encode(torch.rand(1, 3, 256, 256))
        assert sum(c.shape[1] for c in codes) == 680
        assert model.decode(codes).shape == (1, 3, 256, 256)


def test_four_phi_layers_over_ten_steps_sit_at_the_published_ticks():
    """Oracle: nearest of linspace(1/12, 11/12, 4) to step / 9."""
    with torch.device("meta"):
        phi = VQVAE(VQVAEConfig.preset("ch160v4096z32")).quantize.quant_resi
    ticks = np.linspace(1 / 12, 11 / 12, 4)
    assert phi.layer_of_step == [int(np.argmin(abs(ticks - s / 9))) for s in range(10)]


def test_codes_are_the_nearest_by_enumeration(vqvae):
    x = torch.randn(2, 16, 3, 3)
    codes = vqvae.quantize.embedding.weight
    rows = x.permute(0, 2, 3, 1).reshape(2, 9, 1, 16)
    expected = (rows.double() - codes.double()).square().sum(-1).argmin(-1)
    assert torch.equal(vqvae.quantize.nearest(x), expected)


def test_encode_is_the_residual_algorithm_written_out(vqvae, images):
    with torch.inference_mode():
        found = vqvae.encode(images)
        rest = vqvae.latents(images)
        for step, side in enumerate((1, 2, 3, 5, 7)):
            pooled = F.adaptive_avg_pool2d(rest, side)
            code = vqvae.quantize.nearest(pooled)
            assert torch.equal(code, found[step])
            h = vqvae.quantize.embedding(code).permute(0, 2, 1).reshape(3, 16, side, side)
            h = F.interpolate(h, size=(7, 7), mode="bicubic") if side < 7 else h
            phi = vqvae.quantize.quant_resi.qresi_ls[vqvae.quantize.quant_resi.layer_of_step[step]]
            rest = rest - 0.5 * h - 0.5 * F.conv2d(h, phi.weight, phi.bias, padding=1)


def test_encode_decode_round_trip_has_the_right_shapes_and_range(vqvae, images):
    with torch.inference_mode():
        codes = vqvae.encode(images)
        again = vqvae.decode(codes)
        assert torch.equal(again, vqvae.reconstruct(images))
    assert [tuple(c.shape) for c in codes] == [(3, p * p) for p in (1, 2, 3, 5, 7)]
    assert all(c.dtype == torch.int64 for c in codes)
    assert again.shape == images.shape
    assert again.min() >= 0
    assert again.max() <= 1


def test_the_first_steps_decode_to_a_coarser_picture(vqvae, images):
    with torch.inference_mode():
        codes = vqvae.encode(images)
        latents = vqvae.latents(images)
        errors = [(latents - f).square().mean() for f in vqvae.quantize.partial_sums(codes)]
    assert errors[-1] < errors[0]


def test_teacher_forcing_input_holds_every_next_map(vqvae, images):
    with torch.inference_mode():
        codes = vqvae.encode(images)
        inputs = vqvae.teacher_forcing_input(codes)
        f_hat = vqvae.quantize.partial_sums(codes[:4])[-1]
    assert inputs.shape == (3, 87, 16)
    assert torch.equal(inputs[:, -49:], f_hat.flatten(2).transpose(1, 2))


def test_training_pass_agrees_with_encode_and_decode(vqvae, images):
    with torch.inference_mode():
        output, loss = vqvae(images)
        assert loss > 0
        torch.testing.assert_close(output.clamp(0, 1), vqvae.reconstruct(images))


def test_gradient_passes_straight_through_the_quantizer(vqvae):
    f = torch.randn(1, 16, 7, 7, requires_grad=True)
    f_hat, _ = vqvae.quantize(f)
    f_hat.sum().backward()
    assert torch.allclose(f.grad, torch.ones_like(f))


def test_dead_codes_move_to_the_data():
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig.preset("mini")).train()
    with torch.no_grad():
        model.quantize.embedding.weight[256:] = 1e3  # far from everything
    f = torch.randn(16, 16, 7, 7)
    for _ in range(3):
        model.quantize(f)
    moved = model.quantize.reseed_dead_codes(f, torch.Generator().manual_seed(0))
    assert moved >= 256
    assert model.quantize.embedding.weight.abs().max() < 100


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 3, 28, 28), (1, 1, 32, 32)])
def test_images_of_another_shape_are_refused(vqvae, shape):
    with pytest.raises(ValueError, match="expected"):
        vqvae.encode(torch.zeros(shape))


def test_impossible_configurations_are_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        VQVAEConfig(channels=100)
    with pytest.raises(ValueError, match="image_size 250"):
        VQVAEConfig(image_size=250)
    with pytest.raises(ValueError, match="ch160v4096z32, mini"):
        VQVAEConfig.preset("large")


def test_codes_that_fill_no_square_are_refused(vqvae):
    with pytest.raises(ValueError, match="5 codes"):
        vqvae.quantize.lookup(torch.zeros(1, 5, dtype=torch.int64))
