"""LPIPS: the formula on weights made here, the file reader, and the way without weights."""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.metrics.lpips import LAYERS, LPIPS, SCALE, SHIFT, load_lpips

CHANNELS = {
    "alex": [(11, 3, 4), (5, 4, 5), (3, 5, 6), (3, 6, 4), (3, 4, 3)],
    "vgg": [(3, a, b) for a, b in zip([3, *[4] * 12], [4] * 13, strict=True)],
}
FILES = {"alex": ("alexnet.ckpt", "AlexNet_0"), "vgg": ("vgg16.ckpt", "VGG16_0")}


def weights(net, seed=0):
    rng = np.random.default_rng(seed)
    convolutions = {
        f"Conv_{i}": {
            "kernel": rng.normal(size=(size, size, fan_in, out)).astype("f") / size,
            "bias": rng.normal(size=out).astype("f"),
        }
        for i, (size, fan_in, out) in enumerate(CHANNELS[net])
    }
    taps = [c[2] for c, layer in zip(CHANNELS[net], LAYERS[net], strict=True) if layer.tap]
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.uniform(size=(1, 1, n, 1)).astype("f")}}
        for i, n in enumerate(taps)
    }
    return {FILES[net][1]: convolutions, **heads}


@pytest.fixture(params=["alex", "vgg"])
def metric(request, tmp_path):
    name = FILES[request.param][0]
    (tmp_path / name).write_bytes(pickle.dumps(weights(request.param)))
    loaded, note = load_lpips(request.param, tmp_path)
    assert request.param in note
    return loaded


def pictures(seed, size=(40, 48)):
    return on_device(np.random.default_rng(seed).uniform(size=(2, *size, 3)), np.float32)


def test_equal_pictures_are_at_distance_zero_others_are_not(metric):
    image, other = pictures(0), pictures(1)
    np.testing.assert_allclose(metric(image, image), 0, atol=1e-9)
    distance = metric(image, other)
    assert distance.shape == (2,)
    assert (distance > 1e-3).all()
    np.testing.assert_allclose(distance, metric(other, image), rtol=1e-5)
    half = image.at[1].set(other[1])
    np.testing.assert_allclose(metric(half, other), [distance[0], 0], atol=1e-7)


def test_one_layer_by_hand():
    """A 1x1 identity convolution: distance of the unit colours, weighted by the heads."""
    identity = (jnp.eye(3, dtype="float32")[None, None], jnp.zeros(3, "float32"))
    head = jnp.asarray([1.0, 2.0, 3.0], jnp.float32)
    zero = (jnp.zeros((1, 1, 3, 3), "float32"), jnp.zeros(3, "float32"))
    metric = LPIPS("alex", [identity, zero, zero, zero, zero], [head] * 5)
    colours = np.array([[0.9, 0.6, 0.7], [0.8, 0.9, 0.95]])
    features = (2 * colours - 1 - np.array(SHIFT)) / np.array(SCALE)
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    expected = ((unit[0] - unit[1]) ** 2) @ [1, 2, 3]
    images = [jnp.full((1, 32, 32, 3), 1.0) * c[None, None, None] for c in jnp.asarray(colours)]
    # padding of 2 around a 1x1 kernel adds a dark border: features there are equal
    inner = 8 * 8 / (9 * 9)
    np.testing.assert_allclose(metric(*images), expected * inner, rtol=1e-5)


def test_without_weights_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    metric, reason = load_lpips()
    assert metric is None
    assert "tttlrm-jax[metrics]" in reason
    metric, reason = load_lpips("vgg", tmp_path)
    assert metric is None
    assert "vgg16.ckpt" in reason


def test_files_that_hold_more_than_arrays_are_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code from a weight file ran')",))

    for content in (pickle.dumps({"AlexNet_0": Harm()}), b"no pickle"):
        (tmp_path / "alexnet.ckpt").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            load_lpips("alex", tmp_path)
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"other": np.zeros(3)}))
    with pytest.raises(InputError, match="AlexNet_0"):
        load_lpips("alex", tmp_path)


def test_small_pictures_are_refused(metric):
    small = pictures(0, size=(12, 40))
    with pytest.raises(InputError, match="image side=12"):
        metric(small, small)
