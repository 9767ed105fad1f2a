"""Perceptual loss of tttLRM: VGG-19 with average pooling.

Images are RGB in [0, 1], channels last. The published loss has the original (Caffe) VGG-19, for
inputs of 0..255 with the mean colour subtracted. Networks for inputs of unit deviation, such as
torchvision's, are rescaled to these inputs (`of_normalised_inputs`), and VGG-16 has the same five
taps: losses of the same form, with other numbers. `vgg_weights` finds and reads them all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import typechecked

# RGB of 0..255, rounded to float32 as the network's weights are.
MEAN_COLOUR = tuple(float(np.float32(channel)) for channel in (123.68, 116.779, 103.939))
CHANNELS = (3, 64, 64, 128, 128, *[256] * 4, *[512] * 8)
CHANNELS_VGG16 = (3, 64, 64, 128, 128, *[256] * 3, *[512] * 6)
MIN_SIDE = 16  # pixels, for four poolings
DISTANCE_WEIGHTS = (1.0, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)  # pixels, then taps
CHECKPOINT_PREFIX = "perceptual_loss_module.Net."


class Layers(NamedTuple):
    """Places in a VGG, after so many convolutions."""

    pool_after: tuple[int, ...]
    tap_after: tuple[int, ...]  # conv1_2, conv2_2, conv3_2, conv4_2, conv5_2


LAYERS = {  # by the number of convolutions
    16: Layers((2, 4, 8, 12), (2, 4, 6, 10, 14)),
    13: Layers((2, 4, 7, 10), (2, 4, 6, 9, 12)),
}


class Convolution(NamedTuple):
    """A 3x3 convolution of stride 1 with zero padding."""

    kernel: Float[Array, "3 3 in_channel out_channel"]
    bias: Float[Array, " out_channel"]


def centred(image: Float[Array, "*batch height width 3"]) -> Float[Array, "..."]:
    """Images as the network takes them: 0..255 minus the mean colour, one leading axis."""
    image = 255 * image.reshape(-1, *image.shape[-3:])
    return image - jnp.asarray(MEAN_COLOUR, image.dtype)[None, None, None]


def vgg19_features(
    convolutions: tuple[Convolution, ...], image: Float[Array, "batch height width 3"]
) -> list[Float[Array, "batch tap_height tap_width channel"]]:
    """The five taps, after the ReLU, of `centred` images; 16 convolutions or the 13 of VGG-16."""
    layers = LAYERS[len(convolutions)]
    taps, x = [], image
    for number, (kernel, bias) in enumerate(convolutions[: layers.tap_after[-1]], start=1):
        x = jax.lax.conv_general_dilated(
            x, kernel.astype(x.dtype), window_strides=(1, 1), padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=jax.lax.Precision.HIGHEST,
        )  # fmt: skip
        x = jax.nn.relu(x + bias.astype(x.dtype)[None, None, None])
        if number in layers.tap_after:
            taps.append(x)
        if number in layers.pool_after:
            x = _halve(x)
    return taps


def _halve(x):
    """Average over 2x2 pixels; an odd last row or column is dropped."""
    batch, height, width, channel = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channel)
    return jnp.mean(x, axis=(2, 4))


@typechecked
def perceptual_distances(
    convolutions: tuple[Convolution, ...],
    prediction: Float[Array, "*batch height width 3"],
    target: Float[Array, "*batch height width 3"],
) -> Float[Array, "6"]:
    """Mean absolute difference of the 255-scaled images, then of each tap."""
    prediction, target = centred(prediction), centred(target)
    pairs = zip(
        [prediction, *vgg19_features(convolutions, prediction)],
        [target, *vgg19_features(convolutions, target)],
        strict=True,
    )
    return jnp.stack([jnp.mean(_magnitude(ours - theirs)) for ours, theirs in pairs])


def _magnitude(x):
    """`|x|` with derivative 0 at 0, where `jnp.abs` has 1: equal pixels exert no force."""
    return jnp.sign(x) * x


def perceptual_loss(
    convolutions: tuple[Convolution, ...], prediction: Array, target: Array
) -> Float[Array, ""]:
    """`(E0 + E1/2.6 + E2/4.8 + E3/3.7 + E4/5.6 + 10 E5/1.5) / 255` of the distances `E`.

    Images `[..., height, width, 3]` of at least 16 pixels on each side.
    """
    if min(prediction.shape[-3:-1]) < MIN_SIDE:
        raise InputError.of(
            "image size", "x".join(map(str, prediction.shape[-3:-1])),
            "is too small for the four poolings of VGG-19",
            f"use images of at least {MIN_SIDE} pixels on each side",
        )  # fmt: skip
    distances = perceptual_distances(convolutions, prediction, target)
    return jnp.sum(distances * jnp.asarray(DISTANCE_WEIGHTS, distances.dtype)) / 255


def of_normalised_inputs(
    convolutions: Sequence[Convolution], mean: Sequence[float], deviation: Sequence[float]
) -> tuple[Convolution, ...]:
    """A network for inputs `(image - mean) / deviation`, as one for `centred` images.

    Its features are those of the given network times 255 x the mean deviation, the size of the
    inputs in grey levels: layers with ReLU pass a factor on where biases have it too. Exact but
    for the zeros around an image, which stand for the mean colour (1/500 apart).
    """
    spread = np.asarray(deviation)
    size = 255 * float(spread.mean())
    first = np.asarray(convolutions[0].kernel)
    offset = (np.asarray(MEAN_COLOUR) / 255 - np.asarray(mean)) / spread
    bias = np.asarray(convolutions[0].bias) + np.einsum("ijco,c->o", first, offset)
    scaled = first * (size / (255 * spread))[:, None]
    rest = [Convolution(c.kernel, c.bias * size) for c in convolutions[1:]]
    dtype = convolutions[0].kernel.dtype
    return (Convolution(jnp.asarray(scaled, dtype), jnp.asarray(size * bias, dtype)), *rest)


def vgg19_from_tensors(tensors: dict[str, np.ndarray]) -> tuple[Convolution, ...]:
    """Convolutions from `conv{1..16}.weight` `[out, in, 3, 3]` and `conv{1..16}.bias`.

    Names may carry the prefix they have in published checkpoints; others are not read. Raises
    one InputError that names everything missing or misshapen.
    """
    tensors = {name.removeprefix(CHECKPOINT_PREFIX): value for name, value in tensors.items()}
    wrong, convolutions = [], []
    for number in range(1, len(CHANNELS)):
        inputs, outputs = CHANNELS[number - 1 : number + 1]
        expected = {"weight": (outputs, inputs, 3, 3), "bias": (outputs,)}
        found = {part: tensors.get(f"conv{number}.{part}") for part in expected}
        bad = [
            f"conv{number}.{part} {'missing' if value is None else np.shape(value)}"
            for part, value in found.items()
            if value is None or np.shape(value) != expected[part]
        ]
        wrong += bad
        if not bad:
            kernel = np.transpose(tensors[f"conv{number}.weight"], (2, 3, 1, 0))
            bias = tensors[f"conv{number}.bias"]
            convolutions.append(Convolution(jnp.asarray(kernel), jnp.asarray(bias)))
    if wrong:
        raise InputError(f"VGG-19 weights missing or misshapen: {', '.join(wrong)}")
    return tuple(convolutions)
