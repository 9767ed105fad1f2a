"""Recordings of whole renderings: images, counts and every gradient, for every backend."""

import dataclasses
import functools
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
from tttlrm_jax.parity.recording import long_jit, quick_jit
from tttlrm_jax.parity.report import Row, compare, row
from tttlrm_jax.rasterize import BACKENDS, default_capacity, expected_depth, project
from tttlrm_jax.rasterize.backends import pallas
from tttlrm_jax.rasterize.backends.reference import row_alphas
from tttlrm_jax.rasterize.compositing import depth_order_key
from tttlrm_jax.rasterize.render import composite, project_and_colour
from tttlrm_jax.rasterize.tile_lists import tile_grid

RENDERED64 = 1e-9  # the recorded compensations of thin Gaussians are good to 1e-10
COLOUR = {"fp32": 5e-5, "fp64": RENDERED64}
DEPTH = {"fp32": 1e-4, "fp64": RENDERED64}
GRADIENT = {"fp32": 2e-4, "fp64": RENDERED64}
LOSS = {"fp32": 2e-5, "fp64": RENDERED64}  # of the sum of absolute terms
QUICK_WORK = 3e7  # pixels x Gaussians up to which compiling costs more than running
INTERPRETED_WORK = 5e4  # pixels x Gaussians that the interpreted kernel draws in minutes
ROOMY_CAPACITY = 2**16  # slots that cost little: small recordings compile once per backend
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
    screens = {name: _Screens(recording, DTYPES[name]) for name in dict(combinations)}
    for name, backend in combinations:
        renderers = {}
        for case in _cases(recording):
            if case.max_alpha not in renderers:
                config = raster_config(recording, case.max_alpha, backend)
                renderers[case.max_alpha] = _Renderer(screens[name], config)
            label = f"{name}/{backend}/"
            renderer = renderers[case.max_alpha]
            yield from _case_rows(path, label, name, recording, case, renderer, stored)
        if backend == "reference":
            yield from _stage_rows(path, name, screens[name])


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


class _Screens:
    """A recorded cloud on the screens of its cameras, which is the same for every backend, and the
    way back from gradients there to gradients of the cloud and of the cameras."""

    def __init__(self, recording, dtype):
        self.recording, self.dtype = recording, dtype
        self.shape = (int(recording["height"]), int(recording["width"]))
        self.splats = recorded_splats(recording, dtype)
        self.cameras = list(zip(*camera_arrays(recording, dtype), strict=True))
        config = raster_config(recording, float(recording["max_alpha"]), "reference")
        self._program = quick_jit(functools.partial(_project, shape=self.shape, config=config))
        count, channels = len(self.splats.mean), self.splats.features.shape[-1]
        bars = [jnp.zeros((count, *n), dtype) for n in ((2,), (3,), (), (channels + 1,))]
        outcomes = [self._program(self.splats, *camera, bars) for camera in self.cameras]
        self.screens, self.projected, _ = zip(*outcomes, strict=True)

    def pull_back(self, bars) -> list:
        """[camera] of (cloud, viewmat, intrinsics), from [camera] of gradients on its screen."""
        pairs = zip(self.cameras, bars, strict=True)
        return [self._program(self.splats, *camera, bar)[2] for camera, bar in pairs]


def _project(splats, viewmat, intrinsics, bars, *, shape: tuple[int, int], config):
    """(screen splats, projection, gradients of the arguments) of one camera."""

    def drawn(splats, viewmat, intrinsics):
        screen = project_and_colour(splats, viewmat, intrinsics, *shape, config)
        return [screen.mean, screen.conic, screen.opacity, screen.feature], screen

    _, pullback, screen = jax.vjp(drawn, splats, viewmat, intrinsics, has_aux=True)
    return screen, project(splats, viewmat, intrinsics, *shape, config), pullback(bars)


class _Renderer:
    """Composites the screens of a recording with one backend, and adds up cameras."""

    def __init__(self, screens: _Screens, config: RasterConfig):
        self.screens, self.config = screens, config
        count = len(screens.splats.mean)
        rows, columns = tile_grid(*screens.shape)
        everything = max(count * rows * columns, 1)  # every Gaussian in every tile
        default = default_capacity(count, *screens.shape)
        self.capacity = min(everything, max(default, ROOMY_CAPACITY))
        self.jit = _jit_for(screens.recording, config.backend)
        self.compiled = self._compile()

    def _compile(self):
        settings = {"shape": self.screens.shape, "config": self.config, "capacity": self.capacity}
        return self.jit(functools.partial(_composite, **settings))

    def __call__(self, case: _Case):
        """(loss, images by recorded name, gradients by recorded name)."""
        recording, dtype = self.screens.recording, self.screens.dtype
        upstream = jnp.asarray(recording["v_render"], dtype)
        alpha_bar = jnp.asarray(recording["v_alpha"], dtype)[..., 0]
        count, channels = len(upstream), upstream.shape[-1] - 1
        background = jnp.asarray(np.broadcast_to(case.background, (count, channels)), dtype)
        results = []
        for i, screen in enumerate(self.screens.screens):
            depth_bar = upstream[i, ..., -1]
            bars = [depth_bar, jnp.zeros_like(depth_bar)]
            if case.normalised_depth:
                bars.reverse()
            bars = (upstream[i, ..., :-1], *bars, alpha_bar[i])
            results.append(self._grow(screen, background[i], bars))
        return self._collect(results, case)

    def _grow(self, *arguments):
        """Runs with a capacity that drops nothing, as `Renderer` does."""
        result = self.compiled(*arguments)
        dropped = int(result[0][1][0].num_dropped)
        if dropped == 0:
            return result
        self.capacity = 1 << (self.capacity + dropped - 1).bit_length()
        self.compiled = self._compile()
        return self.compiled(*arguments)

    def _collect(self, results, case: _Case):
        values, on_screen = zip(*results, strict=True)
        images = [image for _, (image, _) in values]
        depths = [n if case.normalised_depth else image.depth for _, (image, n) in values]
        rendered = {
            "rgb": np.stack([image.rgb for image in images]),
            "depth": np.stack(depths),
            "alpha": np.stack([image.alpha for image in images]),
        }
        grads = self.screens.pull_back([bars for bars, _ in on_screen])
        splats = jax.tree.map(lambda *x: np.sum(x, axis=0), *(g[0] for g in grads))
        gradients = {
            "means": splats.mean, "quats": splats.quaternion, "scales": splats.scale,
            "opacities": splats.opacity, _feature_key(self.screens.recording): splats.features,
        }  # fmt: skip
        for i, key in enumerate(("viewmats", "intrinsics"), start=1):
            gradients[key] = np.stack([g[i] for g in grads])
        gradients["backgrounds"] = np.stack([background for _, background in on_screen])
        return sum(float(value) for value, _ in values), rendered, gradients


def _composite(screen, background, bars, *, shape, config, capacity):
    """((loss, (image, normalised depth)), (gradients on the screen, of the background))."""

    def loss(parts, background):
        mean, conic, opacity, feature = parts
        drawn = dataclasses.replace(
            screen, mean=mean, conic=conic, opacity=opacity, feature=feature
        )
        image = composite(drawn, *shape, background=background, config=config, capacity=capacity)
        normalised = expected_depth(image)
        terms = zip((image.rgb, image.depth, normalised, image.alpha), bars, strict=True)
        return sum(jnp.sum(value * bar) for value, bar in terms), (image, normalised)

    parts = [screen.mean, screen.conic, screen.opacity, screen.feature]
    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(parts, background)


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


def _stage_rows(path, name, screens: _Screens) -> Iterator[Row]:
    """Visibility, stage values and per-pixel counts (of the reference, which decides alike)."""
    recording = screens.recording
    config = raster_config(recording, float(recording["max_alpha"]), "reference")
    count = _jit_for(recording, config.backend)(
        functools.partial(_counts, shape=screens.shape, config=config)
    )
    pairs = zip(screens.screens, screens.projected, strict=True)
    stacked = [(screen, projected, count(screen)) for screen, projected in pairs]
    screen, projected, counted = jax.tree.map(lambda *x: np.stack(x), *stacked)
    clear = ~recording["ambiguous"]
    yield compare(path, f"{name}/visible", projected.visible, recording["visible"], 0.0, "exact")
    for key, value in counted.items():
        if key in recording:
            expected = recording[key][clear]
            yield compare(path, f"{name}/{key}", value[clear], expected, 0.0, "exact")
    if "mid_means2d" in recording:
        yield from screen_rows(path, name, "mid_", projected, recording)
    if "mid_colors" in recording:
        expected = recording["mid_colors"]
        tolerance = SH[name] + FLOAT32_STORED * np.abs(expected).max(initial=0)
        colour = screen.feature[..., :-1]
        yield compare(path, f"{name}/mid_colors", colour, expected, tolerance, "abs")


def _counts(screen, *, shape, config):
    """How many Gaussians each pixel sums, and whether it stops early, by recorded name."""
    height, width = shape
    order = jnp.argsort(depth_order_key(screen), stable=True)
    ordered = jax.tree.map(lambda x: x[order], screen)

    def one_row(y):
        alpha, _, stopped = row_alphas(ordered, y, width, config)
        return jnp.sum(alpha > 0, axis=0), jnp.any(stopped, axis=0)

    centres = jnp.arange(height, dtype=screen.mean.dtype) + 0.5
    contributors, terminated = lax.map(one_row, centres)
    return {"n_contrib": contributors, "terminated": terminated}


def _jit_for(recording, backend: str) -> Callable:
    """Compiles quickly, and well where the dense reference has much to do."""
    much = backend == "reference" and _work(recording) > QUICK_WORK
    return long_jit if much else quick_jit


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
