"""Weights in files of other makes: names under prefixes, safetensors, numbers that are spoilt."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tttlrm_jax.apps.convert import main
from tttlrm_jax.checkpoints.models import load_model
from tttlrm_jax.config import ModelConfig
from tttlrm_jax.convert import published_from_params
from tttlrm_jax.convert.recognition import check_numbers, detect, read_tensors
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import build_model, split_model

SIZES = ModelConfig(d_model=16, num_layers=1, patch_size=8, attention_head_dim=8, sh_degree=0)


@pytest.fixture(scope="module")
def made():
    model = build_model(SIZES, seed=3)
    tensors = published_from_params(nnx.state(model, nnx.Param), model)
    return model, {name: np.ascontiguousarray(x) for name, x in tensors.items()}


def read(path, **options):
    said = []
    return read_tensors(path, said.append, **options), said


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "_orig_mod.", "model._orig_mod.", "net.module.", "a.b."]
)
def test_prefixes_of_wrappers_are_stripped(tmp_path, write_checkpoint, made, prefix):
    """Lightning's, those of parallel and of compiled modules, and any that all names have."""
    state = {prefix + name: x for name, x in made[1].items()}
    path = write_checkpoint(tmp_path / "x.ckpt", {"state_dict": state, "global_step": 3})
    tensors, said = read(path)
    assert tensors.keys() == made[1].keys()
    assert said == ["left out beside the weights: global_step"]
    assert detect(tensors) == "tttlrm"


def test_what_lies_beside_the_model_is_left_out_aloud(tmp_path, write_checkpoint, made):
    state = {"model." + name: x for name, x in made[1].items()}
    state |= {"lpips.net.weight": np.ones(3), "model.perceptual_loss_module.x": np.ones(2)}
    tensors, said = read(write_checkpoint(tmp_path / "x.ckpt", {"state_dict": state}))
    assert tensors.keys() == made[1].keys()
    assert "left out 1 tensors that are not of model.*: lpips.net.weight" in said
    assert said[1].startswith("left out 1 tensors of perceptual_loss_module.*")


def test_of_two_models_in_a_file_one_is_named(tmp_path, write_checkpoint, made):
    state = {which + name: x for which in ("model.", "ema.") for name, x in made[1].items()}
    path = write_checkpoint(tmp_path / "x.ckpt", state)
    with pytest.raises(InputError, match=r"several models, ema\., model\.; say which with --pref"):
        read(path)
    tensors, said = read(path, prefix="ema.")
    assert tensors.keys() == made[1].keys()
    assert len(said) == 1
    assert read(path, prefix="ema")[0].keys() == tensors.keys()
    with pytest.raises(InputError, match=r"prefix=net\. begins no name"):
        read(path, prefix="net.")


def test_a_safetensors_file_converts(tmp_path, made, capsys):
    save_file(made[1], tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert main([str(tmp_path / "x.safetensors"), str(tmp_path / "model"), "--plan", "full"]) == 0
    loaded, original = (split_model(m)[1] for m in (load_model(tmp_path / "model")[1], made[0]))
    np.testing.assert_array_equal(
        loaded["tokenizer"]["kernel"], original["tokenizer"]["kernel"]
    )  # fmt: skip
    assert main([str(tmp_path / "x.safetensors"), str(tmp_path / "m"), "--key", "model"]) == 2
    assert "key=model is not in" in capsys.readouterr().err


def sharded(folder, tensors):
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    places = {name: file for file, held in parts.items() for name in held}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index, places


def test_the_index_of_several_safetensors_files(tmp_path, made):
    index, places = sharded(tmp_path, made[1])
    tensors, said = read(index)
    assert not said
    assert tensors.keys() == made[1].keys()
    for name, tensor in tensors.items():
        assert (tensor.shape, tensor.dtype) == (made[1][name].shape, np.float32)
        np.testing.assert_array_equal(np.asarray(tensor), made[1][name])
    for change, words in (
        ({"extra.weight": "a.safetensors"}, "lists extra.weight in a.safetensors, which does not"),
        ({"extra.weight": "c.safetensors"}, "c.safetensors is not a file"),
        ({"extra.weight": "../a.safetensors"}, r"names \.\./a.safetensors, which is no file besi"),
        ({"extra.weight": 3}, "is no index of safetensors files"),
    ):
        index.write_text(json.dumps({"weight_map": places | change}))
        with pytest.raises(InputError, match=words):
            read(index)
    index.write_text("{")
    with pytest.raises(InputError, match="is no index of safetensors files"):
        read(index)


def test_types_and_damage_of_safetensors_files(tmp_path, made):
    narrow = {name: x.astype(jnp.bfloat16) for name, x in made[1].items()}
    path = tmp_path / "x.safetensors"
    save_file(narrow, path)
    tensors, _ = read(path)
    assert all(tensor.dtype == jnp.bfloat16 for tensor in tensors.values())
    np.testing.assert_array_equal(tensors["blocks.0.module_list.1.f.w0"], narrow[
        "blocks.0.module_list.1.f.w0"])  # fmt: skip
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"x.safetensors is damaged \("):
        read(path)
    save_file({"tokenizer.1.weight": np.ones(2, np.complex64)}, path)
    with pytest.raises(InputError, match="as C64, which is no type of weights"):
        read(path)


def test_numbers_that_are_no_weights_are_named(tmp_path, write_checkpoint, made, capsys):
    spoilt = {name: x.copy() for name, x in made[1].items()}
    spoilt["tokenizer.1.weight"][0, 0] = np.nan
    spoilt["decoder.0.weight"][0] = -np.inf
    path = write_checkpoint(tmp_path / "x.pt", {"model": spoilt, "step": np.asarray(3)})
    assert main([str(path), str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert "tensors decoder.0.weight, tokenizer.1.weight hold NaN or infinite numbers" in error
    assert not (tmp_path / "model").exists()
    counted = {f"module.{name}": x for name, x in made[1].items()} | {"n_averaged": np.asarray(3)}
    assert main([str(write_checkpoint(tmp_path / "x.pt", counted)), str(tmp_path / "model")]) == 2
    assert "unexpected: n_averaged; --skip-unexpected" in capsys.readouterr().err
    with pytest.raises(InputError, match="tensors a hold whole or complex numbers"):
        check_numbers({"a": np.ones(3, np.int64), "b": np.ones(2)})
