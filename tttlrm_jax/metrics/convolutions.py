"""Networks of image classification that losses and metrics look through: AlexNet, VGG-16, VGG-19.

A network is a sequence of layers: pooling (of some), convolution, ReLU. Features are compared
after the tapped ones. Images are [image, height, width, channel], in the dtype of the images.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Convolution(NamedTuple):
    """Weights of one layer, with zero padding."""

    kernel: Float[Array, "row column in_channel out_channel"]
    bias: Float[Array, " out_channel"]


class Layer(NamedTuple):
    """Form of one layer; `pool` comes before the convolution."""

    stride: int = 1
    padding: int = 1
    pool: Callable[[Array], Array] | None = None
    tap: bool = True  # features are compared after it


def max_pool(x: Array, window: int, stride: int) -> Array:
    """Largest values of windows that lie inside the image."""
    size, strides = (1, window, window, 1), (1, stride, stride, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, strides, "VALID")


def halve(x: Array) -> Array:
    """Average over 2x2 pixels; an odd last row or column is dropped."""
    batch, height, width, channel = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channel)
    return jnp.mean(x, axis=(2, 4))


def vgg(
    depths: Sequence[int], pool: Callable[[Array], Array], tap: int | None = None
) -> tuple[Layer, ...]:
    """Blocks of so many 3x3 convolutions, `pool` between them, up to the last tap.

    A block is tapped after its convolution number `tap` from 0, by default after its last.
    """
    layers = [
        Layer(
            pool=pool if block > 0 and index == 0 else None,
            tap=index == (depth - 1 if tap is None else tap),
        )
        for block, depth in enumerate(depths)
        for index in range(depth)
    ]
    while not layers[-1].tap:
        layers.pop()
    return tuple(layers)


_OVERLAPPING = functools.partial(max_pool, window=3, stride=2)
ALEXNET = (
    Layer(stride=4, padding=2),
    Layer(padding=2, pool=_OVERLAPPING),
    Layer(pool=_OVERLAPPING),
    Layer(),
    Layer(),
)
VGG16_DEPTHS, VGG19_DEPTHS = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


def tapped_features(
    convolutions: Sequence[Convolution], layers: Sequence[Layer], x: Float[Array, "image h w c"]
) -> list[Array]:
    """Activations after every tapped layer; convolutions beyond the last layer are not run."""
    taps = []
    for (kernel, bias), layer in zip(convolutions, layers, strict=False):
        if layer.pool is not None:
            x = layer.pool(x)
        around = (layer.padding, layer.padding)
        x = jax.lax.conv_general_dilated(
            x, kernel.astype(x.dtype), (layer.stride, layer.stride), [around, around],
            dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=jax.lax.Precision.HIGHEST,
        )  # fmt: skip
        x = jax.nn.relu(x + bias.astype(x.dtype)[None, None, None])
        if layer.tap:
            taps.append(x)
    return taps
