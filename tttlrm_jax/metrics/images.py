"""Image metrics: PSNR and SSIM, per image, optionally inside a foreground mask.

Images are channels last, any leading axes, nominally in [0, 1]; both are clipped to [0, 1] before
they are compared (this is the published `psnr_real`; averaging over views is the caller's). The
data range is 1. Values keep the dtype of the images. All functions can be jitted.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import typechecked

SSIM_WINDOW = 7  # pixels, uniform weights
SSIM_C1 = 0.01**2  # stabilises the luminance term; (0.01 * data range)^2
SSIM_C2 = 0.03**2  # stabilises the contrast term; (0.03 * data range)^2


@typechecked
def psnr(
    image: Float[Array, "*leading height width channel"],
    target: Float[Array, "*leading height width channel"],
    mask: Shaped[Array, "*leading height width"] | None = None,
) -> Float[Array, "*leading"]:
    """Peak signal-to-noise ratio in dB per image: -10 log10 of the mean squared error.

    With `mask` (weights per pixel, 0 outside the foreground) the mean runs over the mask only; an
    empty mask gives NaN. Identical images give +inf.
    """
    squared_error = jnp.square(_clip(image) - _clip(target))
    if mask is None:
        mse = squared_error.mean(axis=(-3, -2, -1))
    else:
        mse = _masked_mean(squared_error.mean(axis=-1), mask)
    return -10.0 * jnp.log10(mse)


@typechecked
def ssim(
    image: Float[Array, "*leading height width channel"],
    target: Float[Array, "*leading height width channel"],
    mask: Shaped[Array, "*leading height width"] | None = None,
) -> Float[Array, "*leading"]:
    """Structural similarity per image: 7x7 uniform window, sample covariance (factor 49/48).

    The map is averaged over window centres at least 3 pixels from the border, then over
    channels; with `mask` over those centres that lie in the mask. Equals scikit-image's
    `structural_similarity(win_size=7, data_range=1, channel_axis=-1)` of the clipped images.

    Raises InputError if an image is smaller than the window.
    """
    similarity = ssim_map(image, target)
    if mask is None:
        return similarity.mean(axis=(-3, -2, -1))
    margin = SSIM_WINDOW // 2
    return _masked_mean(similarity.mean(axis=-1), mask[..., margin:-margin, margin:-margin])


@typechecked
def ssim_map(
    image: Float[Array, "*leading height width channel"],
    target: Float[Array, "*leading height width channel"],
) -> Float[Array, "*leading inner_height inner_width channel"]:
    """SSIM of every full window: `inner = size - 6` each way (Wang et al. 2004, eq. 13)."""
    height, width = image.shape[-3:-1]
    if min(height, width) < SSIM_WINDOW:
        raise InputError.of(
            "image size", f"{height}x{width}", f"is below the {SSIM_WINDOW}x{SSIM_WINDOW} window "
            "of SSIM", f"use images of at least {SSIM_WINDOW} pixels on each side",
        )  # fmt: skip
    x, y = _clip(image), _clip(target)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    # Covariances do not change under a shift; centring keeps float32 from cancelling.
    x, y = (value - value.mean(axis=(-3, -2), keepdims=True) for value in (x, y))
    shifted_x, shifted_y = _window_mean(x), _window_mean(y)
    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    var_x = sample * (_window_mean(x * x) - shifted_x * shifted_x)
    var_y = sample * (_window_mean(y * y) - shifted_y * shifted_y)
    cov_xy = sample * (_window_mean(x * y) - shifted_x * shifted_y)
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return luminance * (2 * cov_xy + SSIM_C2) / (var_x + var_y + SSIM_C2)


def _clip(image):
    return jnp.clip(image, 0.0, 1.0)


def _masked_mean(per_pixel, mask):
    weight = mask.astype(per_pixel.dtype)
    return (per_pixel * weight).sum(axis=(-2, -1)) / weight.sum(axis=(-2, -1))


def _window_mean(image):
    """Mean over all full 7x7 windows, by shifted sums along rows, then columns."""
    for axis in (-3, -2):
        size = image.shape[axis] - SSIM_WINDOW + 1
        parts = [
            jax.lax.slice_in_dim(image, shift, shift + size, axis=axis)
            for shift in range(SSIM_WINDOW)
        ]
        image = functools.reduce(jnp.add, parts)
    return image / SSIM_WINDOW**2
