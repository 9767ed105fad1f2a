"""Perceptual loss on a network with two channels; reading of the real network's weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.metrics.convolutions import Convolution
from tttlrm_jax.training.losses import perceptual
from tttlrm_jax.training.losses.perceptual import MEAN_COLOUR, centred, of_normalised_inputs
from tttlrm_jax.training.losses.vgg_weights import CHANNELS, CHECKPOINT_PREFIX, published_vgg19

vgg_taps = jax.jit(perceptual.vgg_taps)
perceptual_distances = jax.jit(perceptual.perceptual_distances)
perceptual_loss = jax.jit(perceptual.perceptual_loss)


@pytest.fixture(scope="module")
def small():
    """The layers of VGG-19, two channels wide."""
    rng = np.random.default_rng(0)

    def convolution(inputs):
        kernel = rng.standard_normal((3, 3, inputs, 2)) / np.sqrt(9 * inputs)
        return Convolution(jnp.asarray(kernel, jnp.float32), jnp.full(2, 0.1, jnp.float32))

    return (convolution(3), *(convolution(2) for _ in range(15)))


def images(seed, height=18, width=22):
    rng = np.random.default_rng(seed)
    return on_device(rng.uniform(size=(2, height, width, 3)), np.float32)


def test_centred_by_hand():
    np.testing.assert_allclose(
        centred(jnp.ones((1, 1, 1, 3)))[0, 0, 0], 255 - np.array(MEAN_COLOUR), rtol=1e-6
    )


def test_taps_halve_four_times_and_drop_odd_edges(small):
    taps = vgg_taps(small, centred(images(0)))
    assert [tap.shape for tap in taps] == [
        (2, 18, 22, 2), (2, 9, 11, 2), (2, 4, 5, 2), (2, 2, 2, 2), (2, 1, 1, 2),
    ]  # fmt: skip
    assert all(np.asarray(tap).min() >= 0 for tap in taps)


def test_networks_for_normalised_inputs_see_the_same(small):
    """Features grow by 255 x the mean deviation and else stay: here against the network itself."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = images(0)
    ours = vgg_taps(of_normalised_inputs(small, mean, deviation), centred(image))
    normalised = on_device((np.asarray(image) - mean) / deviation, np.float32)
    theirs = vgg_taps(small, normalised)
    size = 255 * deviation.mean()
    for one, two in zip(ours, theirs, strict=True):
        expected = size * np.asarray(two)
        np.testing.assert_allclose(one, expected, atol=0.02 * expected.max())
    inner, expected = (np.asarray(taps[0])[:, 2:-2, 2:-2] for taps in (ours, theirs))
    np.testing.assert_allclose(inner, size * expected, rtol=2e-3)


def test_vgg16_has_the_same_taps(small):
    shallow = small[:13]
    taps = vgg_taps(shallow, centred(images(0)))
    assert [tap.shape[1] for tap in taps] == [18, 9, 4, 2, 1]

    @jax.jit
    def by_hand(x):
        expected = []
        for number, (kernel, bias) in enumerate(shallow[:12], start=1):
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + bias[None, None, None])
            expected += [x] if number in (2, 4, 6, 9, 12) else []
            if number in (2, 4, 7, 10):
                x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
                x = 0.25 * sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
        return expected

    for one, two in zip(taps, by_hand(centred(images(0))), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_first_distance_is_the_mean_difference_of_grey_levels(small):
    image = 0.5 * images(0)
    distances = perceptual_distances(small, image, image + 0.25)
    np.testing.assert_allclose(distances[0], 0.25 * 255, rtol=1e-5)
    assert np.all(np.asarray(distances)[1:] > 0)


def test_weights_of_the_distances(small):
    first, second = images(0), images(1)
    expected = np.dot(
        perceptual_distances(small, first, second),
        [1, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5],
    )
    np.testing.assert_allclose(perceptual_loss(small, first, second), expected / 255, rtol=1e-5)


def test_equal_images_cost_nothing_and_exert_no_force(small):
    image = images(0)
    value, grad = jax.jit(jax.value_and_grad(perceptual_loss, argnums=1))(small, image, image)
    assert value == 0
    assert not np.any(grad)


def test_leading_axes_are_free(small):
    first, second = images(0), images(1)
    nested = perceptual_loss(small, first[:, None], second[:, None])
    np.testing.assert_allclose(nested, perceptual_loss(small, first, second), rtol=1e-6)


def test_too_small_images_are_an_error(small):
    with pytest.raises(InputError, match="15x22"):
        perceptual_loss(small, images(0, height=15), images(1, height=15))


def zero_tensors():
    tensors = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(CHANNELS), start=1):
        tensors[f"conv{number}.weight"] = np.zeros((outputs, inputs, 3, 3), np.float32)
        tensors[f"conv{number}.bias"] = np.zeros(outputs, np.float32)
    return tensors


def test_weights_by_their_name_in_published_checkpoints():
    tensors = zero_tensors()
    tensors["conv2.weight"][5, 7, 0, 2] = 3.0
    convolutions = published_vgg19({CHECKPOINT_PREFIX + k: v for k, v in tensors.items()}, "x.pt")
    assert len(convolutions) == 16
    assert sum(c.kernel.size + c.bias.size for c in convolutions) == 20_024_384
    assert convolutions[1].kernel[0, 2, 7, 5] == 3.0


def test_one_error_names_all_wrong_weights():
    tensors = zero_tensors()
    del tensors["conv3.bias"]
    tensors["conv1.weight"] = tensors["conv1.weight"][:, :1]
    with pytest.raises(
        InputError, match=r"=x\.pt .*conv1\.weight \(64, 1, 3, 3\), .*conv3\.bias missing"
    ):
        published_vgg19(tensors, "x.pt")
