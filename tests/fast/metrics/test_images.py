import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.metrics.images import psnr, ssim, ssim_map

psnr, ssim, ssim_map = jax.jit(psnr), jax.jit(ssim), jax.jit(ssim_map)


def images(shape, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    target = rng.uniform(size=shape)
    return target + noise * rng.normal(size=shape), target


def test_psnr_by_hand():
    target = jnp.zeros((2, 4, 5, 3), "float32")
    image = jnp.stack([jnp.full((4, 5, 3), 0.1, "float32"), jnp.full((4, 5, 3), 7.0, "float32")])
    np.testing.assert_allclose(psnr(image, target), [20.0, 0.0], atol=1e-5)  # 7 is clipped to 1


def test_psnr_of_equal_images_is_infinite():
    image = jnp.full((4, 5, 3), 0.3, "float32")
    assert psnr(image, image) == jnp.inf


def test_psnr_in_mask_ignores_the_rest():
    target = jnp.zeros((4, 5, 3), "float32")
    mask = jnp.zeros((4, 5), bool).at[1:3, 2].set(True)
    image = jnp.where(mask[..., None], 0.01, target + 1.0)
    np.testing.assert_allclose(psnr(image, target, mask), 40.0, atol=1e-4)
    assert jnp.isnan(psnr(image, target, jnp.zeros((4, 5), bool)))


@pytest.mark.parametrize("shape", [(7, 7, 3), (9, 31, 3), (40, 23, 1)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_equals_scikit_image(shape, noise):
    image, target = images(shape, noise=noise)
    expected, expected_map = structural_similarity(
        image.clip(0, 1), target, win_size=7, data_range=1.0, channel_axis=-1, full=True
    )
    with jax.enable_x64(True):
        value = ssim(jnp.asarray(image), jnp.asarray(target))
        inner = ssim_map(jnp.asarray(image), jnp.asarray(target))
        assert value.dtype == "float64"
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_allclose(inner, expected_map[3:-3, 3:-3], atol=1e-11)
    single = ssim(jnp.asarray(image, "float32"), jnp.asarray(target, "float32"))
    np.testing.assert_allclose(single, expected, atol=2e-6)


def test_ssim_in_mask_is_the_mean_of_its_map():
    image, target = (jnp.asarray(value, "float32") for value in images((12, 15, 3)))
    mask = jnp.zeros((12, 15), "float32").at[:, 6:9].set(1.0)
    expected = ssim_map(image, target)[:, 3:6].mean()
    np.testing.assert_allclose(ssim(image, target, mask), expected, rtol=1e-5)
    np.testing.assert_allclose(ssim(image, target, mask * 0 + 1), ssim(image, target), rtol=1e-5)


def test_leading_axes_do_not_mix():
    image, target = (jnp.asarray(value, "float32") for value in images((2, 3, 11, 8, 3)))
    for metric in (psnr, ssim):
        batched = metric(image, target)
        assert batched.shape == (2, 3)
        np.testing.assert_allclose(batched[1, 2], metric(image[1, 2], target[1, 2]), rtol=1e-5)


def test_images_below_the_window_are_refused():
    small = jnp.zeros((6, 20, 3), "float32")
    with pytest.raises(InputError, match=r"6x20.*7x7"):
        ssim(small, small)
