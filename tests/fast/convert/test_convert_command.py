"""`python -m tttlrm_jax.convert`: published files to model directories, strict both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tttlrm_jax.apps.convert import main
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.checkpoints.models import load_model, load_ttt3r, trained_size
from tttlrm_jax.config import ModelConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import params_from_published, published_from_params, published_shapes
from tttlrm_jax.convert.files.pytorch import read_checkpoint
from tttlrm_jax.convert.published import checked_tensors
from tttlrm_jax.convert.ttt3r_names import ALIASES
from tttlrm_jax.convert.ttt3r_tensors import config_from_ttt3r_shapes, settle
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import abstract_model, build_model, split_model
from tttlrm_jax.models.ttt3r import Frame, init_state, step

SMALL = TTT3RConfig(
    encoder_width=64, encoder_heads=4, encoder_depth=2, ray_encoder_depth=1, decoder_width=24,
    decoder_depth=4, decoder_heads=2, state_heads=3, num_state_tokens=10, memory_slots=6,
    memory_heads=2, dpt_width=16, dpt_last_width=8, dpt_layer_widths=(8, 12, 16, 24),
)  # fmt: skip
HEADS = ["--encoder-heads", "4", "--decoder-heads", "2", "--state-heads", "3",
         "--memory-heads", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def small():
    rng, abstract = np.random.default_rng(1), abstract_model(SMALL)
    tensors = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in published_shapes(abstract).items()
    }
    model = params_from_published(tensors, abstract)
    return model, tensors | {alias: tensors[name] for alias, name in ALIASES.items()}


def test_ttt3r_comes_back_as_it_was(tmp_path, write_checkpoint, small, capsys):
    model, tensors = small
    extra = {"mask_token": np.zeros((1, 1, 64), np.float32)}
    content = {"model": {f"module.{name}": x for name, x in {**tensors, **extra}.items()}}
    source = write_checkpoint(tmp_path / "x.pth", {**content, "epoch": 3})
    assert main([str(source), str(tmp_path / "model"), *HEADS]) == 0
    printed = capsys.readouterr().out
    assert "left out beside the weights: epoch" in printed
    assert "left out mask_token" in printed
    config, loaded = load_ttt3r(tmp_path / "model")
    assert config == SMALL
    assert trained_size(tmp_path / "model") == (384, 512)  # of networks with DPT heads
    jax.tree.map(np.testing.assert_array_equal, split_model(loaded)[1], split_model(model)[1])
    with pytest.raises(InputError, match="TTT3R"):
        read_config(tmp_path / "model")


@pytest.mark.parametrize("kind", ["tttlrm", "lvsm"])
def test_other_models(tmp_path, write_checkpoint, kind):
    sizes = {"d_model": 24, "num_layers": 2, "patch_size": 8, "attention_head_dim": 8}
    model = build_model(ModelConfig(kind=kind, **sizes, sh_degree=1), seed=3)
    tensors = published_from_params(nnx.state(model, nnx.Param), model)
    source = write_checkpoint(tmp_path / "x.pt", tensors)
    assert main([str(source), str(tmp_path / "model")]) == 0
    loaded = load_model(tmp_path / "model")[1]
    jax.tree.map(np.testing.assert_array_equal, split_model(loaded)[1], split_model(model)[1])
    with pytest.raises(InputError, match="holds no TTT3R"):
        load_ttt3r(tmp_path / "model")


def test_places_and_kinds_that_cannot_be_are_one_sentence(tmp_path, write_checkpoint, capsys):
    sizes = {"d_model": 16, "num_layers": 1, "patch_size": 8, "attention_head_dim": 8}
    model = build_model(ModelConfig(**sizes, sh_degree=0), seed=3)
    tensors = published_from_params(nnx.state(model, nnx.Param), model)
    source = write_checkpoint(tmp_path / "x.pt", tensors)
    for dest in (source, source / "model"):
        assert main([str(source), str(dest)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: directory={dest} ")
        assert error.count("\n") == 1
    kept = tmp_path / "model.tmp" / "notes.txt"  # not ours, however it is called
    kept.parent.mkdir()
    kept.write_text("mine")
    assert main([str(source), str(tmp_path / "model"), "--prefix", ""]) == 0
    assert kept.read_text() == "mine"
    assert main([str(source), str(tmp_path / "other"), "--kind", "lvsm"]) == 2
    assert "kind=lvsm does not fit tensors that are of tttlrm" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match=r"become one by python -m tttlrm_jax\.convert FILE DIR"):
        read_config(source)


def test_everything_wrong_is_named_at_once(tmp_path, write_checkpoint, small, capsys):
    tensors = dict(small[1])
    del tensors["enc_norm.bias"]
    tensors["dec_norm.weight"] = np.zeros(25, np.float32)
    tensors["surplus.weight"] = np.zeros(2, np.float32)
    source = write_checkpoint(tmp_path / "x.pth", tensors)
    assert main([str(source), str(tmp_path / "model"), *HEADS]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in (
        "missing: enc_norm.bias", "unexpected: surplus.weight", "--skip-unexpected",
        "dec_norm.weight (25,) (expected (24,))",
    ):  # fmt: skip
        assert part in error
    assert not (tmp_path / "model").exists()


def test_unexpected_tensors_are_left_out_when_asked(tmp_path, write_checkpoint, small, capsys):
    tensors = {**small[1], "surplus.weight": np.zeros(2, np.float32)}
    source = write_checkpoint(tmp_path / "x.pth", tensors)
    assert main([str(source), str(tmp_path / "model"), *HEADS, "--skip-unexpected"]) == 0
    assert "surplus.weight" in capsys.readouterr().out


def test_wrong_numbers_of_heads_name_the_field(tmp_path, write_checkpoint, small, capsys):
    source = write_checkpoint(tmp_path / "x.pth", small[1])
    assert main([str(source), str(tmp_path / "model")]) == 2
    assert "model.decoder_heads=12" in capsys.readouterr().err


def test_state_branch_is_copied_aloud(small):
    tensors = {n: x for n, x in small[1].items() if not n.startswith("dec_blocks_state.")}
    said = []
    settled = settle(tensors, said.append)
    assert "copied from dec_blocks." in said[0]
    name = "{}.3.attn.qkv.weight"
    copied = settled[name.format("dec_blocks_state")]
    np.testing.assert_array_equal(copied, tensors[name.format("dec_blocks")])


def test_aliases_stand_in_but_must_agree(small):
    alias, name = next(iter(ALIASES.items()))
    tensors = dict(small[1])
    expected = tensors.pop(name)
    np.testing.assert_array_equal(settle(tensors)[name], expected)
    with pytest.raises(InputError, match="second name"):
        settle({**small[1], alias: expected + 1})


@pytest.mark.parametrize("head", ["dpt", "linear"])
def test_published_names_and_shapes_at_full_size(tmp_path, write_checkpoint, head):
    """A made checkpoint of the published names; zeros that repeat one number."""
    model = abstract_model(TTT3RConfig(head=head))
    shapes = published_shapes(model)
    assert sum(int(np.prod(s)) for s in shapes.values()) == {
        "dpt": 793_307_858, "linear": 748_443_655
    }[head]  # fmt: skip
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    if head == "dpt":
        zeros |= {alias: zeros[name] for alias, name in ALIASES.items()}
        assert len(zeros) == 1248
    stored, _ = read_checkpoint(write_checkpoint(tmp_path / "x.pth", {"model": zeros}))
    same_twice = {n: x for n, x in stored.items() if n not in ALIASES}
    assert config_from_ttt3r_shapes({n: t.shape for n, t in stored.items()}).head == head
    assert checked_tensors(same_twice, model).keys() == shapes.keys()


@pytest.mark.extended
def test_full_size_checkpoint_converts(tmp_path, write_checkpoint):
    shapes = published_shapes(abstract_model(TTT3RConfig()))
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    zeros |= {alias: zeros[name] for alias, name in ALIASES.items()}
    source = write_checkpoint(tmp_path / "x.pth", {"model": zeros})
    assert main([str(source), str(tmp_path / "model"), "--dtype", "bfloat16"]) == 0
    config, _ = load_ttt3r(tmp_path / "model", param_dtype="bfloat16")
    assert config == TTT3RConfig(param_dtype="bfloat16")


def test_converted_recording_gives_the_recorded_numbers(shared, tmp_path, write_checkpoint):
    """Weights of a recording through a file, the command and the loader, then one frame."""
    folder = shared / "goldens" / "ttt3r"
    with np.load(folder / "full_linear_params.npz") as stored:
        tensors = {k.removeprefix("param/"): stored[k] for k in stored.files if k != "meta"}
    source = write_checkpoint(tmp_path / "x.pth", {"model": tensors})
    assert main([str(source), str(tmp_path / "model"), *HEADS]) == 0
    _, model = load_ttt3r(tmp_path / "model")
    graph, params = split_model(model)
    with np.load(folder / "full_linear_streaming_ttt3r.npz") as run:
        image = np.moveaxis(run["in/img"][0], 1, -1)
        pose, world = run["out/camera_pose"][0], run["out/pts3d_in_other_view"][0]
    frame = Frame(jnp.asarray((image + 1) / 2))
    state = init_state(params, 1, graph=graph)
    _, out = jax.jit(lambda p, s, f: step(p, s, f, graph=graph))(params, state, frame)
    np.testing.assert_allclose(out.camera_pose, pose, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.points_world, world, rtol=1e-4, atol=1e-4)
