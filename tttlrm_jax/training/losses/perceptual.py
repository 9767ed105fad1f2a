"""Perceptual loss of tttLRM: VGG-19 with average pooling.

Images are RGB in [0, 1], channels last. The published loss has the original (Caffe) VGG-19, for
inputs of 0..255 with the mean colour subtracted. Networks for inputs of unit deviation, such as
torchvision's, are rescaled to these inputs (`of_normalised_inputs`), and VGG-16 has the same five
taps: losses of the same form, with other numbers. `vgg_weights` finds and reads them all.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.metrics.convolutions import (
    VGG16_DEPTHS,
    VGG19_DEPTHS,
    Convolution,
    halve,
    tapped_features,
    vgg,
)

# RGB of 0..255, rounded to float32 as the network's weights are.
MEAN_COLOUR = tuple(float(np.float32(channel)) for channel in (123.68, 116.779, 103.939))
MIN_SIDE = 16  # pixels, for four poolings
DISTANCE_WEIGHTS = (1.0, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)  # pixels, then taps
LAYERS = {  # by the number of convolutions; taps are conv1_2, conv2_2, conv3_2, conv4_2, conv5_2
    16: vgg(VGG19_DEPTHS, halve, tap=1),
    13: vgg(VGG16_DEPTHS, halve, tap=1),
}


def centred(image: Float[Array, "*batch height width 3"]) -> Float[Array, "..."]:
    """Images as the network takes them: 0..255 minus the mean colour, one leading axis."""
    image = 255 * image.reshape(-1, *image.shape[-3:])
    return image - jnp.asarray(MEAN_COLOUR, image.dtype)[None, None, None]


def vgg_taps(
    convolutions: tuple[Convolution, ...], image: Float[Array, "batch height width 3"]
) -> list[Float[Array, "batch tap_height tap_width channel"]]:
    """The five taps, after the ReLU, of `centred` images; 16 convolutions or the 13 of VGG-16."""
    return tapped_features(convolutions, LAYERS[len(convolutions)], image)


@typechecked
def perceptual_distances(
    convolutions: tuple[Convolution, ...],
    prediction: Float[Array, "*batch height width 3"],
    target: Float[Array, "*batch height width 3"],
) -> Float[Array, "6"]:
    """Mean absolute difference of the 255-scaled images, then of each tap."""
    prediction, target = centred(prediction), centred(target)
    ours, theirs = ([x, *vgg_taps(convolutions, x)] for x in (prediction, target))
    return jnp.stack([jnp.mean(_magnitude(a - b)) for a, b in zip(ours, theirs, strict=True)])


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
