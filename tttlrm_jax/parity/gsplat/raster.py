"""Recordings of whole renderings: images, counts and every gradient, for every backend."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Splats
from tttlrm_jax.parity.gsplat.stages import (
    FLOAT32_STORED,
    SH,
    arrays,
    cameras,
    gradients_by_name,
    image_shape,
    raster_config,
    screen_rows,
    stacked,
)
from tttlrm_jax.parity.recording import VARIANTS, Recording, Variant, long_jit, quick_jit
from tttlrm_jax.parity.report import Row, over
from tttlrm_jax.rasterize import BACKENDS, expected_depth, project
from tttlrm_jax.rasterize.backends import pallas
from tttlrm_jax.rasterize.backends.reference import trace
from tttlrm_jax.rasterize.render import composite
from tttlrm_jax.rasterize.screen import colour_projected
from tttlrm_jax.rasterize.tile_lists import Static, count_intersections

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


def check_raster(
    recording: Recording, combinations: Sequence[Combination] | None = None
) -> Iterator[Row]:
    """Every quantity of a `raster_*.npz` or of `garden.npz`, by default in each combination."""
    combinations = _all_combinations(recording) if combinations is None else combinations
    screens = {name: _Screens(recording, VARIANTS[name]) for name in dict(combinations)}
    for name, backend in combinations:
        program = functools.cache(functools.partial(_program, screens[name], backend))
        for case in _cases(recording):
            for verdict in _case_rows(screens[name], case, program(case.max_alpha)):
                yield verdict.named(f"{name}/{backend}/{{}}")
        if backend == "reference":
            for verdict in _stage_rows(screens[name]):
                yield verdict.named(f"{name}/{{}}")


def _all_combinations(recording: Recording) -> list[Combination]:
    """Backends in both precisions; the kernel in float32, compiled where it can run, and
    interpreted, which is slow, where there is little to draw."""
    kernels = ["pallas"] if pallas.why_not_here() is None else []
    if _work(recording) < INTERPRETED_WORK:
        kernels.append("pallas_interpret")
    others = [name for name in BACKENDS if not name.startswith("pallas")]
    return [
        *itertools.product(("fp32", "fp64"), others),
        *(("fp32", name) for name in kernels),
    ]


def _work(recording: Recording) -> int:
    """Pixels x Gaussians."""
    height, width = image_shape(recording)
    return height * width * len(recording["means"])


def _cases(recording: Recording) -> Iterator[_Case]:
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

    def __init__(self, recording: Recording, variant: Variant):
        self.recording, self.variant = recording, variant
        self.shape = image_shape(recording)
        self.splats = recorded_splats(recording, variant)
        self.cameras = cameras(recording, variant)
        self.config = raster_config(recording, float(recording["max_alpha"]), "reference")
        self._program = quick_jit(functools.partial(_project, shape=self.shape, config=self.config))
        sizes = ((2,), (3,), (), (self.splats.features.shape[-1] + 1,))
        bars = [np.zeros((len(self.splats.mean), *size), variant.dtype) for size in sizes]
        outcomes = [self._program(self.splats, *camera, bars) for camera in self.cameras]
        self.screens, self.projected, counts, _ = zip(*outcomes, strict=True)
        self.capacity = max(1, *map(int, counts))

    def pull_back(self, bars) -> list:
        """[camera] of (cloud, viewmat, intrinsics), from [camera] of gradients on its screen."""
        pairs = zip(self.cameras, bars, strict=True)
        return [self._program(self.splats, *camera, bar)[-1] for camera, bar in pairs]


def _project(splats, viewmat, intrinsics, bars, *, shape: tuple[int, int], config: RasterConfig):
    """(screen splats, projection, intersections, gradients of the arguments) of one camera."""

    def drawn(splats, viewmat, intrinsics):
        projected = project(splats, viewmat, intrinsics, *shape, config)
        screen = colour_projected(splats, viewmat, projected, config)
        return [screen.mean, screen.conic, screen.opacity, screen.feature], (screen, projected)

    _, pullback, (screen, projected) = jax.vjp(drawn, splats, viewmat, intrinsics, has_aux=True)
    return screen, projected, count_intersections(screen, *shape), pullback(bars)


def _program(screens: _Screens, backend: str, max_alpha: float) -> Callable:
    """`_composite` with one backend, with room for every intersection."""
    config = raster_config(screens.recording, max_alpha, backend)
    settings = {"shape": screens.shape, "config": config, "capacity": screens.capacity}
    return _jit_for(screens.recording, backend)(functools.partial(_composite, **settings))


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


def _rendered(screens: _Screens, case: _Case, program: Callable):
    """(loss, images by recorded name, gradients by recorded name), cameras added up or stacked."""
    recording = screens.recording
    upstream, alpha_bar = arrays(recording, screens.variant, "v_render", "v_alpha")
    shape = (len(upstream), upstream.shape[-1] - 1)
    background = np.broadcast_to(np.asarray(case.background, upstream.dtype), shape)
    results = []
    for i, screen in enumerate(screens.screens):
        depth_bar = upstream[i, ..., -1]
        bars = [depth_bar, np.zeros_like(depth_bar)]
        if case.normalised_depth:
            bars.reverse()
        bars = (upstream[i, ..., :-1], *bars, alpha_bar[i, ..., 0])
        results.append(program(screen, background[i], bars))
    values, on_screen = zip(*results, strict=True)
    images = [image for _, (image, _) in values]
    depths = [n if case.normalised_depth else image.depth for _, (image, n) in values]
    rendered = {
        "rgb": np.stack([image.rgb for image in images]),
        "depth": np.stack(depths),
        "alpha": np.stack([image.alpha for image in images]),
    }
    pulled = screens.pull_back([bars for bars, _ in on_screen])
    clouds = [cloud for cloud, _, _ in pulled]
    gradients = gradients_by_name(pulled) | {
        "opacities": np.sum([cloud.opacity for cloud in clouds], axis=0),
        _feature_key(recording): np.sum([cloud.features for cloud in clouds], axis=0),
        "backgrounds": np.stack([background for _, background in on_screen]),
    }
    return sum(float(value) for value, _ in values), rendered, gradients


def _case_rows(screens: _Screens, case: _Case, program: Callable) -> Iterator[Row]:
    recording, name = screens.recording, screens.variant.name
    loss, images, grads = _rendered(screens, case, program)
    stored = FLOAT32_STORED if "render" in recording else 0.0  # results in float32
    prefix, suffix = case.prefix, case.suffix
    clear = ~recording[f"{prefix}ambiguous"]
    expected = recording[f"{prefix}render{suffix}"].astype(np.float64)
    alpha = recording[f"{prefix}alpha"]
    parts = {
        "rgb": (expected[..., :-1], COLOUR[name]),
        "depth": (expected[..., -1], DEPTH[name]),
        "alpha": (alpha[..., 0], COLOUR[name]),
    }
    for part, (value, tolerance) in parts.items():
        tolerance += stored * np.abs(value).max(initial=0)
        quantity = f"{prefix}render{suffix}.{part}"
        yield recording.compare(quantity, images[part][clear], tolerance, "abs", value[clear])
    terms = np.abs(expected * recording["v_render"]).sum()
    terms += np.abs(alpha * recording["v_alpha"].astype(np.float64)).sum()
    quantity = f"{prefix}loss{suffix}"
    error = over(abs(loss - float(recording[quantity])), terms)
    yield recording.row(quantity, error, LOSS[name] + stored, "terms")
    for key, value in grads.items():
        quantity = f"{prefix}grad_{key}{suffix}"
        value = _pad_coefficients(value, recording[quantity])
        for measure in ("rel", "l2"):
            yield recording.compare(quantity, value, GRADIENT[name] + stored, measure)


def _stage_rows(screens: _Screens) -> Iterator[Row]:
    """Visibility, stage values and per-pixel counts (of the reference, which decides alike)."""
    recording, variant = screens.recording, screens.variant
    count = _jit_for(recording, "reference")(
        functools.partial(_counts, static=Static(*screens.shape, 0, screens.config))
    )
    counted = stacked([count(screen) for screen in screens.screens])
    projected = stacked(screens.projected)
    clear = ~recording["ambiguous"]
    yield recording.compare("visible", projected.visible, measure="exact")
    for key, value in counted.items():
        if key in recording:
            expected = recording[key][clear]
            yield recording.compare(key, value[clear], measure="exact", expected=expected)
    if "mid_means2d" in recording:
        yield from screen_rows(recording, variant, "mid_", projected)
    if "mid_colors" in recording:
        colour = np.stack([screen.feature[..., :-1] for screen in screens.screens])
        largest = np.abs(recording["mid_colors"]).max(initial=0)
        tolerance = SH[variant.name] + FLOAT32_STORED * largest
        yield recording.compare("mid_colors", colour, tolerance, "abs")


def _counts(screen, static: Static):
    """How many Gaussians each pixel sums, and whether it stops early, by recorded name."""
    _, light = trace(screen, static)
    shape = (static.height, static.width)
    return {"n_contrib": light.count.reshape(shape), "terminated": light.stopped.reshape(shape)}


def _jit_for(recording: Recording, backend: str) -> Callable:
    """Compiles quickly, and well where the dense reference has much to do."""
    much = backend == "reference" and _work(recording) > QUICK_WORK
    return long_jit if much else quick_jit


def recorded_splats(recording: Recording, variant: Variant) -> Splats:
    """The cloud of a recording, spherical harmonics cut to the degree in use."""
    keys = ("means", "quats", "scales", "opacities", _feature_key(recording))
    *cloud, features = arrays(recording, variant, *keys)
    if (degree := int(recording["sh_degree"])) >= 0:
        features = features[:, : (degree + 1) ** 2]
    return Splats(*cloud, features=features)


def _feature_key(recording: Recording) -> str:
    return "sh" if int(recording["sh_degree"]) >= 0 else "colors"


def _pad_coefficients(value, expected):
    """Coefficients above the degree in use have gradient zero."""
    if value.ndim != 3 or value.shape[1] >= expected.shape[1]:
        return value
    return np.pad(value, ((0, 0), (0, expected.shape[1] - value.shape[1]), (0, 0)))
