"""Recordings of whole renderings: images, counts and every gradient, for every backend."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Splats
from tttlrm_jax.parity.gsplat.stages import (
    DTYPES,
    FLOAT32_STORED,
    SH,
    camera_arrays,
    raster_config,
    screen_rows,
)
from tttlrm_jax.parity.recording import quick_jit
from tttlrm_jax.parity.report import Row, compare, row
from tttlrm_jax.rasterize import (
    BACKENDS,
    default_capacity,
    expected_depth,
    project,
    render_from_matrix,
)
from tttlrm_jax.rasterize.backends import pallas
from tttlrm_jax.rasterize.backends.reference import row_alphas
from tttlrm_jax.rasterize.compositing import depth_order_key
from tttlrm_jax.rasterize.render import project_and_colour

RENDERED64 = 1e-9  # the recorded compensations of thin Gaussians are good to 1e-10
COLOUR = {"fp32": 5e-5, "fp64": RENDERED64}
DEPTH = {"fp32": 1e-4, "fp64": RENDERED64}
GRADIENT = {"fp32": 2e-4, "fp64": RENDERED64}
LOSS = {"fp32": 2e-5, "fp64": RENDERED64}  # of the sum of absolute terms
QUICK_WORK = 3e7  # pixels x Gaussians up to which compiling costs more than running
INTERPRETED_WORK = 5e4  # pixels x Gaussians that the interpreted kernel draws in minutes
LEGACY_MAX_ALPHA = 0.999  # gsplat up to 1.5.3


@dataclasses.dataclass(frozen=True)
class _Case:
    """One set of recorded results: keys are prefix + quantity + suffix."""

    prefix: str
    suffix: str
    max_alpha: float
    background: Any  # number, or [camera, channel]
    normalised_depth: bool = False


Combination = tuple[str, str]  # precision, backend


def check_raster(path: Path, combinations: Sequence[Combination] | None = None) -> Iterator[Row]:
    """Every quantity of a `raster_*.npz` or of `garden.npz`, by default in each combination."""
    recording = dict(np.load(path))
    combinations = _all_combinations(recording) if combinations is None else combinations
    single = "render" in recording  # one background, results stored in float32
    stored = FLOAT32_STORED if single else 0.0
    for name, backend in combinations:
        renderers = {}
        for case in _cases(recording):
            if case.max_alpha not in renderers:
                config = raster_config(recording, case.max_alpha, backend)
                renderers[case.max_alpha] = _Renderer(recording, DTYPES[name], config)
            label = f"{name}/{backend}/"
            renderer = renderers[case.max_alpha]
            yield from _case_rows(path, label, name, recording, case, renderer, stored)
        if backend == "reference":
            yield from _stage_rows(path, name, recording, DTYPES[name])


def _all_combinations(recording) -> list[Combination]:
    """Backends in both precisions; the kernel in float32, compiled where it can run, and
    interpreted, which is slow, where there is little to draw."""
    kernels = ["pallas"] if pallas.why_not_here() is None else []
    if _work(recording) < INTERPRETED_WORK:
        kernels.append("pallas_interpret")
    others = [name for name in BACKENDS if not name.startswith("pallas")]
    return [*itertools.product(DTYPES, others), *(("fp32", name) for name in kernels)]


def _work(recording) -> int:
    """Pixels x Gaussians."""
    return int(recording["height"]) * int(recording["width"]) * len(recording["means"])


def _cases(recording) -> Iterator[_Case]:
    max_alpha = float(recording["max_alpha"])
    if "render" in recording:
        yield _Case("", "", max_alpha, recording["backgrounds"])
    for suffix, background in (("_black", 0.0), ("_white", 1.0)):
        if f"render{suffix}" in recording:
            yield _Case("", suffix, max_alpha, background)
    if "render_ed" in recording:
        yield _Case("", "_ed", max_alpha, 1.0, normalised_depth=True)
    if "legacy0999_render_black" in recording:
        yield _Case("legacy0999_", "_black", LEGACY_MAX_ALPHA, 0.0)


class _Renderer:
    """Compiles one camera's rendering and gradients of a recording, and adds up cameras."""

    def __init__(self, recording, dtype, config: RasterConfig):
        self.recording, self.dtype, self.config = recording, dtype, config
        self.splats = recorded_splats(recording, dtype)
        self.shape = (int(recording["height"]), int(recording["width"]))
        self.capacity = default_capacity(len(self.splats.mean), *self.shape)
        self.compiled = self._compile()

    def _compile(self):
        height, width = self.shape
        capacity, config = self.capacity, self.config

        def loss(splats, viewmat, intrinsics, background, bars):
            image = render_from_matrix(
                splats, viewmat, intrinsics, height, width,
                background=background, config=config, capacity=capacity,
            )  # fmt: skip
            normalised = expected_depth(image)
            terms = zip((image.rgb, image.depth, normalised, image.alpha), bars, strict=True)
            return sum(jnp.sum(value * bar) for value, bar in terms), (image, normalised)

        jit = _jit_for(self.recording)
        return jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))

    def __call__(self, case: _Case):
        """(loss, images by recorded name, gradients by recorded name)."""
        viewmats, intrinsics = camera_arrays(self.recording, self.dtype)
        upstream = jnp.asarray(self.recording["v_render"], self.dtype)
        alpha_bar = jnp.asarray(self.recording["v_alpha"], self.dtype)[..., 0]
        channels = upstream.shape[-1] - 1
        background = np.broadcast_to(case.background, (len(viewmats), channels))
        background = jnp.asarray(background, self.dtype)
        results = []
        for i in range(len(viewmats)):
            depth_bar = upstream[i, ..., -1]
            bars = [depth_bar, jnp.zeros_like(depth_bar)]
            if case.normalised_depth:
                bars.reverse()
            bars = (upstream[i, ..., :-1], *bars, alpha_bar[i])
            results.append(self._grow(viewmats[i], intrinsics[i], background[i], bars))
        return self._collect(results, case)

    def _grow(self, *arguments):
        """Runs with a capacity that drops nothing, as `Renderer` does."""
        result = self.compiled(self.splats, *arguments)
        dropped = int(result[0][1][0].num_dropped)
        if dropped == 0:
            return result
        self.capacity = 1 << (self.capacity + dropped - 1).bit_length()
        self.compiled = self._compile()
        return self.compiled(self.splats, *arguments)

    def _collect(self, results, case: _Case):
        values, grads = zip(*results, strict=True)
        images = [image for _, (image, _) in values]
        depths = [n if case.normalised_depth else image.depth for _, (image, n) in values]
        rendered = {
            "rgb": np.stack([image.rgb for image in images]),
            "depth": np.stack(depths),
            "alpha": np.stack([image.alpha for image in images]),
        }
        splats = jax.tree.map(lambda *x: np.sum(x, axis=0), *(g[0] for g in grads))
        gradients = {
            "means": splats.mean, "quats": splats.quaternion, "scales": splats.scale,
            "opacities": splats.opacity, _feature_key(self.recording): splats.features,
        }  # fmt: skip
        for i, key in enumerate(("viewmats", "intrinsics", "backgrounds"), start=1):
            gradients[key] = np.stack([g[i] for g in grads])
        return sum(float(value) for value, _ in values), rendered, gradients


def _case_rows(path, label, name, recording, case, renderer, stored) -> Iterator[Row]:
    loss, images, grads = renderer(case)
    prefix, suffix = case.prefix, case.suffix
    clear = ~recording[f"{prefix}ambiguous"]
    expected = recording[f"{prefix}render{suffix}"].astype(np.float64)
    parts = {
        "rgb": (expected[..., :-1], COLOUR[name]),
        "depth": (expected[..., -1], DEPTH[name]),
        "alpha": (recording[f"{prefix}alpha"][..., 0], COLOUR[name]),
    }
    for part, (value, tolerance) in parts.items():
        tolerance += stored * np.abs(value).max(initial=0)
        quantity = f"{label}{prefix}render{suffix}.{part}"
        yield compare(path, quantity, images[part][clear], value[clear], tolerance, "abs")
    terms = (
        np.abs(expected * recording["v_render"]).sum()
        + np.abs(recording[f"{prefix}alpha"] * recording["v_alpha"].astype(np.float64)).sum()
    )
    error = abs(loss - float(recording[f"{prefix}loss{suffix}"])) / (terms if terms > 0 else 1.0)
    yield row(path, f"{label}{prefix}loss{suffix}", error, LOSS[name] + stored, "terms")
    for key, value in grads.items():
        expected = recording[f"{prefix}grad_{key}{suffix}"]
        quantity = f"{label}{prefix}grad_{key}{suffix}"
        value = _pad_coefficients(value, expected)
        for measure in ("rel", "l2"):
            yield compare(path, quantity, value, expected, GRADIENT[name] + stored, measure)


def _stage_rows(path, name, recording, dtype) -> Iterator[Row]:
    """Visibility, stage values and per-pixel counts (of the reference, which decides alike)."""
    config = raster_config(recording, float(recording["max_alpha"]), "reference")
    height, width = int(recording["height"]), int(recording["width"])
    splats = recorded_splats(recording, dtype)

    @_jit_for(recording)
    def one_camera(splats, viewmat, intrinsics):
        projected = project(splats, viewmat, intrinsics, height, width, config)
        screen = project_and_colour(splats, viewmat, intrinsics, height, width, config)
        order = jnp.argsort(depth_order_key(screen), stable=True)
        ordered = jax.tree.map(lambda x: x[order], screen)

        def counts(y):
            alpha, _, stopped = row_alphas(ordered, y, width, config)
            return jnp.sum(alpha > 0, axis=0), jnp.any(stopped, axis=0)

        contributors, terminated = lax.map(counts, jnp.arange(height, dtype=dtype) + 0.5)
        return projected, screen.feature[:, :-1], contributors, terminated

    cameras = zip(*camera_arrays(recording, dtype), strict=True)
    results = [one_camera(splats, *camera) for camera in cameras]
    projected, colour, contributors, terminated = jax.tree.map(lambda *x: np.stack(x), *results)
    clear = ~recording["ambiguous"]
    counted = {"n_contrib": contributors, "terminated": terminated}
    yield compare(path, f"{name}/visible", projected.visible, recording["visible"], 0.0, "exact")
    for key, value in counted.items():
        if key in recording:
            expected = recording[key][clear]
            yield compare(path, f"{name}/{key}", value[clear], expected, 0.0, "exact")
    if "mid_means2d" in recording:
        yield from screen_rows(path, name, "mid_", projected, recording)
    if "mid_colors" in recording:
        tolerance = SH[name] + FLOAT32_STORED * np.abs(recording["mid_colors"]).max(initial=0)
        yield compare(path, f"{name}/mid_colors", colour, recording["mid_colors"], tolerance, "abs")


def _jit_for(recording) -> Callable:
    """Compiles quickly where the dense reference has little to do, and well where it has much."""
    return quick_jit if _work(recording) < QUICK_WORK else jax.jit


def recorded_splats(recording, dtype) -> Splats:
    """The cloud of a recording, spherical harmonics cut to the degree in use."""
    degree = int(recording["sh_degree"])
    features = recording[_feature_key(recording)]
    if degree >= 0:
        features = features[:, : (degree + 1) ** 2]
    keys = ("means", "quats", "scales", "opacities")
    arrays = (jnp.asarray(recording[key], dtype) for key in keys)
    return Splats(*arrays, features=jnp.asarray(features, dtype))


def _feature_key(recording) -> str:
    return "sh" if int(recording["sh_degree"]) >= 0 else "colors"


def _pad_coefficients(value, expected):
    """Coefficients above the degree in use have gradient zero."""
    if value.ndim != 3 or value.shape[1] >= expected.shape[1]:
        return value
    return np.pad(value, ((0, 0), (0, expected.shape[1] - value.shape[1]), (0, 0)))
