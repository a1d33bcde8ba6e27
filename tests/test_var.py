"""The transformer: names, counts, and the two ways to run it."""

import obvious_sampling
import pytest
import torch
from torch import nn

from fpqvar_lab.var import VAR, VQVAE, KVCache, VARConfig, VQVAEConfig, filter_top_k_top_p, sample

PRESETS = ("d16", "d20", "d24", "d30", "d36", "mini")


def var_names_and_shapes(config: VARConfig) -> dict[str, tuple[int, ...]]:
    """The public checkpoints' keys, written out from the released state dicts."""
    C, H, L, V = config.width, config.heads, config.tokens, config.vocabulary
    shapes: dict[str, tuple[int, ...]] = {
        "pos_start": (1, 1, C),
        "pos_1LC": (1, L, C),
        "lvl_1L": (1, L),
        "attn_bias_for_masking": (1, 1, L, L),
        "word_embed.weight": (C, config.code_channels),
        "word_embed.bias": (C,),
        "class_emb.weight": (config.classes + 1, C),
        "lvl_embed.weight": (config.steps, C),
        "head_nm.ada_lin.1.weight": (2 * C, C),
        "head_nm.ada_lin.1.bias": (2 * C,),
        "head.weight": (V, C),
        "head.bias": (V,),
    }
    if config.shared_aln:
        shapes |= {"shared_ada_lin.1.weight": (6 * C, C), "shared_ada_lin.1.bias": (6 * C,)}
    for i in range(config.depth):
        block = {
            "attn.scale_mul_1H11": (1, H, 1, 1),
            "attn.q_bias": (C,),
            "attn.v_bias": (C,),
            "attn.zero_k_bias": (C,),
            "attn.mat_qkv.weight": (3 * C, C),
            "attn.proj.weight": (C, C),
            "attn.proj.bias": (C,),
            "ffn.fc1.weight": (4 * C, C),
            "ffn.fc1.bias": (4 * C,),
            "ffn.fc2.weight": (C, 4 * C),
            "ffn.fc2.bias": (C,),
        }
        if config.shared_aln:
            block |= {"ada_gss": (1, 1, 6, C)}
        else:
            block |= {"ada_lin.1.weight": (6 * C, C), "ada_lin.1.bias": (6 * C,)}
        shapes |= {f"blocks.{i}.{key}": shape for key, shape in block.items()}
    return shapes


@pytest.fixture(scope="module")
def mini() -> tuple[VAR, VQVAE]:
    """Random weights, large enough to make every part of the network matter."""
    torch.manual_seed(0)
    var, vqvae = VAR(VARConfig.preset("mini")), VQVAE(VQVAEConfig.preset("mini"))
    for module in var.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.04)
    for parameter in (var.pos_1LC, var.lvl_embed.weight, var.class_emb.weight):
        nn.init.normal_(parameter, std=0.3)
    return var.eval(), vqvae.eval()


@pytest.mark.parametrize("name", PRESETS)
def test_state_dict_has_the_public_names_and_shapes(name):
    config = VARConfig.preset(name)
    with torch.device("meta"):
        state = VAR(config).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == var_names_and_shapes(config)


@pytest.mark.parametrize(
    ("name", "millions"), [("d16", 310), ("d20", 600), ("d24", 1000), ("d30", 2000), ("d36", 2300)]
)
def test_parameter_count_is_the_papers(name, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in VAR(VARConfig.preset(name)).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.05)  # the paper rounds


@pytest.mark.parametrize("shared", [False, True])
def test_teacher_forced_logits_equal_the_cached_steps(shared):
    torch.manual_seed(1)
    config = VARConfig(2, 128, 2, (1, 2, 3), 64, 16, classes=5, shared_aln=shared)
    var = VAR(config).eval()
    for parameter in var.parameters():
        nn.init.normal_(parameter, std=0.1)
    labels, inputs = torch.tensor([0, 5, 3]), torch.randn(3, config.tokens - 1, 16)
    with torch.inference_mode():
        whole = var(labels, inputs)
        x = torch.cat((var.first_tokens(labels), var.word_embed(inputs)), 1) + var.positions()
        modulation, caches = var.modulation(labels), var.new_cache(3)
        parts = [
            var.logits(part, modulation, caches=caches)
            for part in x.split(config.tokens_per_step, dim=1)
        ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)


def test_no_step_sees_a_later_one(mini):
    var, _ = mini
    inputs = torch.randn(1, 87, 16)
    changed = inputs.clone()
    changed[:, 38:] += 1.0  # the last step's 49 tokens are the inputs 38 ... 86
    with torch.inference_mode():
        a, b = var(torch.tensor([1]), inputs), var(torch.tensor([1]), changed)
    assert torch.equal(a[:, :39], b[:, :39])
    assert not torch.allclose(a[:, 39:], b[:, 39:])


def test_samples_equal_the_obvious_versions(mini):
    """Oracle: concatenated cache, AdaLN at each step, attention written out."""
    labels = torch.tensor([3, 0, 9])
    ours = sample(*mini, labels, top_k=0, top_p=0, generator=torch.Generator().manual_seed(7))
    theirs = obvious_sampling.sample(*mini, labels, torch.Generator().manual_seed(7))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_seed_gives_the_same_pictures(mini):
    labels = torch.arange(4)
    a, b, c = (sample(*mini, labels, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (4, 1, 28, 28)
    assert a.min() >= 0
    assert a.max() <= 1


def test_without_chance_a_picture_does_not_depend_on_its_batch(mini):
    alone = sample(*mini, torch.tensor([4]), top_k=1)
    among = sample(*mini, torch.tensor([4, 7, 4]), top_k=1)
    torch.testing.assert_close(among[:1], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(among[2:], alone, rtol=1e-4, atol=1e-4)


def test_steps_end_in_the_picture(mini):
    images, steps = sample(*mini, torch.tensor([2]), top_k=1, return_steps=True)
    assert len(steps) == 5
    assert torch.equal(steps[-1], images)


def test_more_smooth_mixes_codes(mini):
    smooth = sample(
        *mini, torch.tensor([2]), more_smooth=True, generator=torch.Generator().manual_seed(0)
    )
    assert smooth.shape == (1, 1, 28, 28)
    assert smooth.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(mini, dtype):
    var, _ = mini
    labels, inputs = torch.tensor([1, 10]), torch.randn(2, 87, 16)
    half = VAR(var.config).eval()
    half.load_state_dict(var.state_dict())
    with torch.inference_mode():
        reference, result = var(labels, inputs), half.to(dtype)(labels, inputs)
    assert result.dtype == torch.float32
    assert (result - reference).abs().mean() < 0.05 * reference.abs().mean()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(mini):
    var, vqvae = mini
    images = sample(var, vqvae, torch.tensor([4, 1]), top_k=1)
    try:
        on_gpu = sample(var.cuda(), vqvae.cuda(), torch.tensor([4, 1]).cuda(), top_k=1)
    finally:
        var.cpu(), vqvae.cpu()
    assert (on_gpu.cpu() - images).abs().mean() < 1e-2


def test_cache_returns_all_that_was_appended():
    config = VARConfig.preset("mini")
    cache = KVCache(config, batch=2, like=torch.zeros(()))
    pieces = [torch.randn(2, 2, 4, n, 64) for n in (1, 4, 9)]
    for k, v in pieces:
        keys, values = cache.append(k, v)
    assert torch.equal(keys, torch.cat([k for k, _ in pieces], dim=2))
    assert torch.equal(values, torch.cat([v for _, v in pieces], dim=2))


def test_keep_likely_on_a_hand_made_row():
    """0.5, 0.3, 0.15, 0.05: 0.7 needs the two largest, 0.96 all four, 2 codes the two largest."""
    logits = torch.tensor([[[0.05, 0.5, 0.15, 0.3]]]).log()

    def kept(top_k: int, top_p: float) -> list[bool]:
        return filter_top_k_top_p(logits, top_k, top_p).isfinite().flatten().tolist()

    assert kept(0, 0.7) == [False, True, False, True]
    assert kept(0, 0.96) == [True, True, True, True]
    assert kept(2, 0) == [False, True, False, True]
    assert kept(900, 0) == [True] * 4
    assert kept(0, 1e-9) == [False, True, False, False]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([11]), "allowed are 0 ... 10"),
        (torch.tensor([-1]), "allowed are 0 ... 10"),
        (torch.tensor([1.0]), "int64"),
        (torch.zeros(0, dtype=torch.int64), "int64"),
    ],
)
def test_wrong_labels_are_refused(mini, labels, message):
    with pytest.raises(ValueError, match=message):
        sample(*mini, labels)


def test_a_vqvae_of_another_shape_is_refused(mini):
    other = VQVAEConfig.preset("mini")
    other = VQVAE(VQVAEConfig(**{**vars(other), "vocabulary": 256}))
    with pytest.raises(ValueError, match="differ in vocabulary: 512 and 256"):
        sample(mini[0], other, torch.tensor([0]))


def test_wrong_teacher_forcing_input_is_refused(mini):
    with pytest.raises(ValueError, match=r"expected \(1, 87, 16\)"):
        mini[0](torch.tensor([0]), torch.zeros(1, 88, 16))


def test_unknown_preset_lists_what_exists():
    with pytest.raises(ValueError, match="d16, d20, d24, d30, d36, mini"):
        VARConfig.preset("d17")
    with pytest.raises(ValueError, match="heads 5 does not divide width 64"):
        VARConfig(1, 64, 5)
    with pytest.raises(ValueError, match="rising"):
        VARConfig(1, 64, 1, (1, 3, 2))
