"""Perceptual loss: mean absolute differences of VGG-19 features, with average pooling.

The form is that of Chen and Koltun, "Photographic Image Synthesis with Cascaded Refinement
Networks" (2017), as tttLRM uses it. The weights are the user's: none are shipped.
"""

import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tttlrm_jax.errors import InputError
from tttlrm_jax.precision import matmul_precision

# (kernel [3, 3, in, out], bias [out]) of the convolutions in order; the first 14 are read
VGG19 = tuple[tuple[Array, Array], ...]

CHANNELS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)
POOL_AFTER = (2, 4, 8, 12)
TAPS = (2, 4, 6, 10, 14)
MEAN_RGB = (123.68, 116.779, 103.939)
# weights of the input difference and of the five taps
TERM_WEIGHTS = (1.0, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)


def vgg19_features(
    weights: VGG19, image: Float[Array, "image height width 3"]
) -> list[Float[Array, "image h w channel"]]:
    """Activations after the ReLU of convolutions 2, 4, 6, 10 and 14 for mean-free 0..255 RGB."""
    x, taps = image, []
    for index, (kernel, bias) in enumerate(weights[: TAPS[-1]], start=1):
        x = jax.lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=matmul_precision(x.dtype),
        )
        x = jax.nn.relu(x + bias.astype(x.dtype).reshape(1, 1, 1, -1))
        if index in TAPS:
            taps.append(x)
        if index in POOL_AFTER:
            x = _average_pool(x)
    return taps


def perceptual_terms(
    weights: VGG19,
    rendering: Float[Array, "*batch height width 3"],
    target: Float[Array, "*batch height width 3"],
) -> Float[Array, "6"]:
    """Mean absolute differences of the 0..255 images and of the five taps."""
    image_shape = rendering.shape[-3:]

    def shifted(image):
        mean = jnp.asarray(MEAN_RGB, image.dtype).reshape(1, 1, 1, 3)
        return 255 * image.reshape(-1, *image_shape) - mean

    rendering, target = shifted(rendering), shifted(target)
    pairs = zip(
        [rendering, *vgg19_features(weights, rendering)],
        [target, *vgg19_features(weights, target)],
        strict=True,
    )
    return jnp.stack([jnp.mean(jnp.abs(ours - theirs)) for ours, theirs in pairs])


def perceptual_loss(
    weights: VGG19,
    rendering: Float[Array, "*batch height width 3"],
    target: Float[Array, "*batch height width 3"],
) -> Float[Array, ""]:
    """Weighted sum of `perceptual_terms`, over 255. Images are RGB in [0, 1]."""
    terms = perceptual_terms(weights, rendering, target)
    return jnp.sum(jnp.asarray(TERM_WEIGHTS, terms.dtype) * terms) / 255


def load_vgg19(path: Path | str) -> VGG19:
    """Reads `conv{i}/kernel` [3, 3, in, out] and `conv{i}/bias` for i = 1..16 from an .npz.

    Raises InputError if the file is missing, is no .npz, or an array is absent or misshapen.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError.of(
            "loss.vgg19_weights", path, f"cannot be read as .npz ({error})",
            "convert the weights of VGG-19 to an .npz with conv1/kernel, conv1/bias, ...",
        ) from error  # fmt: skip
    weights, previous = [], 3
    for index, width in enumerate(CHANNELS, start=1):
        shapes = {f"conv{index}/kernel": (3, 3, previous, width), f"conv{index}/bias": (width,)}
        for name, shape in shapes.items():
            found = arrays[name].shape if name in arrays else "absent"
            if found != shape:
                raise InputError.of(
                    f"loss.vgg19_weights {name}", found, f"should have shape {shape}",
                    "use the weights of VGG-19 without batch norm",
                )  # fmt: skip
        weights.append(tuple(jnp.asarray(arrays[name]) for name in shapes))
        previous = width
    return tuple(weights)


def _average_pool(x):
    batch, height, width, channel = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channel).mean(axis=(2, 4))
