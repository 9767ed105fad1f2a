"""`jax.jvp`, `jax.linearize`, `jax.jacfwd` of the rasterizer, and a Gauss-Newton step with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import render
from tttlrm_jax.rasterize.transforms.forward_mode import linear_with_transpose

HEIGHT, WIDTH = 12, 17  # no multiples of a tile


def scaled(scale, vector):
    """scale * vector for a dict, with a transpose that is too large by 1, to be told apart."""
    return linear_with_transpose(
        lambda s, v: {"out": s * v["in"]},
        lambda s, bar: {"in": (s + 1) * bar["out"]},
        scale,
        vector,
    )["out"]


def test_linear_function_uses_the_given_transpose():
    scale, x, bar = jnp.asarray([2.0, 3.0]), jnp.asarray([1.0, -1.0]), jnp.asarray([5.0, 7.0])

    def function(x):
        return scaled(scale, {"in": x})

    np.testing.assert_allclose(function(x), [2, -3])
    for transform in (lambda f: f, jax.jit, jax.checkpoint):
        value, tangent = jax.jvp(transform(function), (x,), (bar,))
        np.testing.assert_allclose(value, [2, -3])
        np.testing.assert_allclose(tangent, [10, 21])
        np.testing.assert_allclose(jax.vjp(transform(function), x)[1](bar)[0], [15, 28])
    (transposed,) = jax.linear_transpose(jax.linearize(function, x)[1], x)(bar)
    np.testing.assert_allclose(transposed, [15, 28])
    back = jax.linear_transpose(lambda b: jax.linear_transpose(function, x)(b)[0], bar)
    np.testing.assert_allclose(back(x)[0], [2, -3])


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_linear_function_under_vmap(axes):
    """Mapped over residuals, the vector, or both: as a loop; where not mapped, bars add up."""
    rng = np.random.default_rng(0)
    scale, x = (on_device(rng.normal(size=(3, 2) if a == 0 else 2)) for a in axes)
    bar = on_device(rng.normal(size=(3, 2)))

    def function(x):
        return jax.vmap(lambda s, v: scaled(s, {"in": v}), in_axes=axes)(scale, x)

    value, pullback = jax.vjp(function, x)
    rows = jnp.broadcast_to(scale, (3, 2))
    np.testing.assert_allclose(value, rows * jnp.broadcast_to(x, (3, 2)), rtol=1e-6)
    expected = (rows + 1) * bar
    expected = expected if axes[1] == 0 else expected.sum(axis=0)
    np.testing.assert_allclose(pullback(bar)[0], expected, rtol=1e-6)


def test_residuals_are_no_variables():
    with pytest.raises(NotImplementedError, match="no derivative in its residuals"):
        jax.grad(lambda s: scaled(s, {"in": jnp.ones(2)}).sum())(jnp.ones(2))


def scene(dtype, count: int = 20) -> tuple[Splats, jax.Array]:
    """(cloud at distance 2, intrinsics)."""
    rng = np.random.default_rng(0)
    splats = Splats(
        mean=rng.normal(size=(count, 3), loc=[0, 0, 2.0], scale=0.5),
        quaternion=rng.normal(size=(count, 4)),
        scale=rng.uniform(0.05, 0.3, (count, 3)),
        opacity=rng.uniform(0.3, 0.9, count),
        features=rng.normal(size=(count, 3)),
    )
    intrinsics = jnp.asarray([15.0, 16.0, 8.0, 6.5], dtype)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), splats), intrinsics


@pytest.mark.extended
@pytest.mark.parametrize("backend", ["tiled", "balanced"])
def test_linearised_rendering_and_its_transpose(backend):
    """<J v, u> = <v, J^T u> from one linearisation. (The reference is differentiated by JAX.)"""
    with jax.enable_x64(True):
        splats, intrinsics = scene(jnp.float64)
        rng = np.random.default_rng(1)
        config = RasterConfig(backend=backend)

        def image(x):
            splats, pose, intrinsics = x
            result = render(splats, Cameras(pose, intrinsics, HEIGHT, WIDTH), config=config)
            return result.rgb, result.depth, result.alpha

        @jax.jit
        def run(x, x_dot, bar):
            value, linear = jax.linearize(image, x)
            (transposed,) = jax.linear_transpose(linear, x)(bar)
            return value, linear(x_dot), transposed

        x = (splats, jnp.eye(4, dtype=jnp.float64), intrinsics)
        random = functools.partial(jax.tree.map, lambda y: on_device(rng.normal(size=y.shape)))
        shapes = jax.eval_shape(image, x)
        x_dot, bar = random(x), random(shapes)
        value, value_dot, transposed = run(x, x_dot, bar)
        assert value[0].dtype == value_dot[0].dtype == jnp.float64
        np.testing.assert_allclose(inner(value_dot, bar), inner(x_dot, transposed), rtol=1e-10)
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves((value_dot, transposed)))


def inner(a, b) -> float:
    return sum(
        float(jnp.vdot(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_second_derivatives_of_tiled_are_refused():
    splats, intrinsics = scene(jnp.float32)

    def loss(intrinsics):
        return render(splats, Cameras(jnp.eye(4), intrinsics, HEIGHT, WIDTH)).rgb.sum()

    with pytest.raises(NotImplementedError, match="use the reference backend for second"):
        jax.eval_shape(jax.hessian(loss), intrinsics)


@pytest.mark.extended
def test_gauss_newton_finds_the_camera():
    """Six pose parameters from one image; the residual vanishes, so the error is squared."""

    def pose_of(parameters):
        """Small rotation about the camera's axes, by its series, then a translation."""
        a, b, c = parameters[:3]
        zero = jnp.zeros_like(a)
        skew = jnp.stack([zero, -c, b, c, zero, -a, -b, a, zero]).reshape(3, 3)
        rotation = jnp.eye(3, dtype=a.dtype)
        term = rotation
        for i in range(1, 8):
            term = term @ skew / i
            rotation += term
        top = jnp.concatenate([rotation, parameters[3:, None]], axis=1)
        return jnp.concatenate([top, jnp.asarray([[0, 0, 0, 1]], a.dtype)])

    with jax.enable_x64(True):
        splats, intrinsics = scene(jnp.float64)
        config = RasterConfig(min_alpha=1e-9)  # the image jumps by as much at a Gaussian's edge

        def image(parameters):
            cameras = Cameras(pose_of(parameters), intrinsics, HEIGHT, WIDTH)
            return render(splats, cameras, config=config).rgb.reshape(-1)

        @jax.jit
        def step(parameters, target):
            jacobian = jax.jacfwd(image)(parameters)
            residual = image(parameters) - target
            change = jnp.linalg.solve(jacobian.T @ jacobian, jacobian.T @ residual)
            return parameters - change, jnp.linalg.norm(residual)

        truth = jnp.asarray([0.03, -0.02, 0.04, 0.03, 0.02, -0.05], jnp.float64)
        target = jax.jit(image)(truth)
        parameters, residuals = jnp.zeros_like(truth), []
        for _ in range(6):
            parameters, residual = step(parameters, target)
            residuals.append(float(residual))
        assert residuals[0] > 0.1
        assert np.abs(parameters - truth).max() < 1e-7, residuals
