"""Weights of a model with small patches in one with larger patches."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config import ModelConfig, RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.models.nn.tokens import INPUT_CHANNELS, patchify, unpatchify
from tttlrm_jax.training.curriculum import train_curriculum
from tttlrm_jax.training.initial import initial_parameters
from tttlrm_jax.training.patches import READS, WRITES, patch_factor, with_larger_patches

SMALL, FACTOR = 2, 3
PLAIN = ModelConfig(
    d_model=8, num_layers=1, patch_size=4, attention_head_dim=8, ttt_inner_factor=1.0,
    mlp_factor=1.0, sh_degree=0,
)  # fmt: skip


def fresh(patch_size: int, seed: int = 0):
    model = dataclasses.replace(PLAIN, patch_size=patch_size)
    return split_model(build_model(model, seed))[1]


def test_a_larger_picture_has_the_tokens_of_its_mean_and_gives_its_pixels_again():
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.random((12, 18, INPUT_CHANNELS)), jnp.float32)
    mean = image.reshape(4, FACTOR, 6, FACTOR, -1).mean(axis=(1, 3))
    reads = jnp.asarray(rng.normal(size=(SMALL**2 * INPUT_CHANNELS, 5)), jnp.float32)
    wide = with_larger_patches(READS, reads, SMALL, FACTOR)
    assert patch_factor(READS, reads.shape, wide.shape) == FACTOR
    tokens = patchify(mean, SMALL) @ reads
    np.testing.assert_allclose(patchify(image, SMALL * FACTOR) @ wide, tokens, atol=1e-5)
    writes = jnp.asarray(rng.normal(size=(5, SMALL**2 * 7)), jnp.float32)
    for name in WRITES:
        wide = with_larger_patches(name, writes, SMALL, FACTOR)
        assert patch_factor(name, writes.shape, wide.shape) == FACTOR
        small = np.asarray(unpatchify(tokens @ writes, 4, 6, SMALL))
        large = unpatchify(tokens @ wide, 12, 18, SMALL * FACTOR)
        np.testing.assert_allclose(large, small.repeat(3, 0).repeat(3, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "small", "large"),
    [
        (READS, (48, 5), (96, 5)),  # no square
        (READS, (48, 5), (192, 6)),  # another width
        (READS, (192, 5), (48, 5)),  # smaller patches
        (READS, (48, 5), (48, 5)),  # the same
        (("blocks", "mlp", "kernel"), (48, 5), (192, 5)),
    ],
)
def test_no_other_layer_is_widened(name, small, large):
    assert patch_factor(name, small, large) is None


def test_a_run_takes_weights_of_smaller_patches_and_says_so(tmp_path, caplog):
    given = fresh(4, 1)
    directory = export_model(RunConfig(name="small", model=PLAIN), given, tmp_path / "small")
    params = initial_parameters(directory, fresh(8), 8)
    wide = with_larger_patches(READS, given["tokenizer"]["kernel"], 4, 2)
    np.testing.assert_array_equal(params["tokenizer"]["kernel"], wide)
    same = given["input_norm"]["weight"]
    np.testing.assert_array_equal(params["input_norm"]["weight"], same)
    assert "smaller patches; its layers of patches are widened: decoder/lin" in caplog.text
    with pytest.raises(InputError, match="another model"):
        initial_parameters(directory, fresh(6), 6)


def test_a_stage_of_other_patches_is_a_multiple_of_the_one_before(tmp_path):
    first = RunConfig(name="first", model=PLAIN)
    train = dataclasses.replace(first.train, directory=str(tmp_path))
    first = dataclasses.replace(first, train=train)
    second = dataclasses.replace(
        first, name="second", model=dataclasses.replace(PLAIN, patch_size=2)
    )
    with pytest.raises(ConfigError, match="patch_size=2 is no multiple of the 4 of stage 1_first"):
        train_curriculum(CurriculumConfig(name="patches", stages=(first, second)))
