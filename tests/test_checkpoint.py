"""Loading: the public files' names strictly, and one clear error for whatever is wrong."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from fpqvar_lab.var import VAR, VQVAE, VARConfig, VQVAEConfig, load_var, load_vqvae, save_model

SMALL = VARConfig(2, 64, 1, vocabulary=32, code_channels=32, classes=7)


@pytest.fixture
def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return VAR(SMALL).state_dict()


@pytest.mark.parametrize("name", ["d16", "d20", "d24", "d30", "d36", "mini"])
def test_a_synthesized_checkpoint_of_each_preset_loads_strictly(name):
    """The tensors have no data (meta device), so that d30's 8 GB need not exist."""
    with torch.device("meta"):
        state = {
            key: value.clone() for key, value in VAR(VARConfig.preset(name)).state_dict().items()
        }
        model = VAR(VARConfig.preset(name))
    assert model.load_state_dict(state, strict=True, assign=True).missing_keys == []


def test_d16_loads_from_a_pth_file_of_full_size(tmp_path):
    """Half precision keeps the file at 0.6 GB; the shape is read off the tensors."""
    with torch.device("meta"):
        meta = VAR(VARConfig.preset("d16")).state_dict()
    state = {
        key: torch.zeros(v.shape, dtype=torch.float16 if v.is_floating_point() else v.dtype)
        for key, v in meta.items()
    }
    torch.save(state, tmp_path / "var_d16.pth")
    model = load_var(tmp_path / "var_d16.pth", dtype=torch.float16)
    assert model.config == VARConfig.preset("d16")
    assert next(model.parameters()).dtype == torch.float16


def test_public_vqvae_loads_from_a_pth_file(tmp_path):
    config = VQVAEConfig.preset("ch160v4096z32")
    with torch.device("meta"):
        meta = VQVAE(config).state_dict()
    torch.save(
        {k: torch.zeros(v.shape, dtype=torch.float16) for k, v in meta.items()}, tmp_path / "v.pth"
    )
    assert load_vqvae(tmp_path / "v.pth").config == config
    steps_512 = VARConfig.preset("d36").patch_sizes
    assert load_vqvae(tmp_path / "v.pth", patch_sizes=steps_512).config.image_size == 512


def test_a_vqvae_serves_only_the_steps_that_its_file_states():
    assert load_vqvae("mini", patch_sizes=(1, 2, 3, 5, 7)).config.image_size == 28
    with pytest.raises(ValueError, match=r"patch sizes are \(1, 2, 3, 5, 7\), not \(1, 2\)"):
        load_vqvae("mini", patch_sizes=(1, 2))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_foreign_file_gives_the_same_weights_and_shape(tmp_path, small_state, ending):
    file = tmp_path / f"var{ending}"
    torch.save(small_state, file) if ending == ".pth" else save_file(small_state, file)
    model = load_var(file)
    assert model.config == SMALL
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, small_state[key])


def test_own_files_keep_their_configuration(tmp_path):
    torch.manual_seed(0)
    model = VAR(VARConfig.preset("mini"))
    save_model(model, tmp_path / "m.safetensors", {"command": "test"}, dtype=torch.float32)
    loaded = load_var(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    assert torch.equal(loaded.head.weight, model.head.weight)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"var\.pth: no such file"):
        load_var(tmp_path / "var.pth")


def test_an_unknown_ending_is_refused(tmp_path):
    (tmp_path / "var.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"known are \.safetensors, \.pth, \.pt"):
        load_var(tmp_path / "var.bin")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path, small_state, ending):
    file = tmp_path / f"var{ending}"
    torch.save(small_state, file) if ending == ".pth" else save_file(small_state, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"var\{ending}.*damaged"):
        load_var(file)


class _Attack:
    """Unpickles to a call; a loader that executes pickles would write the file."""

    def __init__(self, target) -> None:
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_no_pickle_is_executed(tmp_path, small_state, legacy):
    file, witness = tmp_path / "var.pth", tmp_path / "witness"
    attack = small_state | {"extra": _Attack(witness)}
    if legacy:
        file.write_bytes(pickle.dumps(attack))
    else:
        torch.save(attack, file)
    with pytest.raises(ValueError, match=r"var\.pth"):
        load_var(file)
    assert not witness.exists()


def test_more_than_tensors_is_refused(tmp_path, small_state):
    torch.save({"model": small_state}, tmp_path / "var.pth")
    with pytest.raises(ValueError, match="not a plain state dict"):
        load_var(tmp_path / "var.pth")


def _saved(tmp_path, state):
    torch.save(state, tmp_path / "var.pth")
    return tmp_path / "var.pth"


def test_a_missing_key_is_named(tmp_path, small_state):
    del small_state["blocks.1.ffn.fc1.bias"]
    with pytest.raises(ValueError, match=r"var\.pth: key blocks\.1\.ffn\.fc1\.bias is missing"):
        load_var(_saved(tmp_path, small_state))


def test_a_surplus_key_is_named(tmp_path, small_state):
    small_state["extra.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"surplus key extra\.weight \(3,\)"):
        load_var(_saved(tmp_path, small_state))


def test_a_wrong_shape_is_named(tmp_path, small_state):
    small_state["head.bias"] = torch.zeros(33)
    with pytest.raises(ValueError, match=r"key head\.bias has shape \(33,\), expected \(32,\)"):
        load_var(_saved(tmp_path, small_state))


def test_a_wrong_depth_is_named(tmp_path, small_state):
    file = _saved(tmp_path, small_state)
    with pytest.raises(ValueError, match=r"key blocks\.2\.[a-z0-9_A-Z.]+ is missing"):
        load_var(file, VARConfig(3, 64, 1, vocabulary=32, classes=7))
    with pytest.raises(ValueError, match=r"surplus key blocks\.1\."):
        load_var(file, VARConfig(1, 64, 1, vocabulary=32, classes=7))


def test_a_vqvae_is_no_var(tmp_path):
    save_model(VQVAE(VQVAEConfig.preset("mini")), tmp_path / "v.safetensors", {})
    with pytest.raises(ValueError, match="is not a VARConfig"):
        load_var(tmp_path / "v.safetensors")
