"""Splats and cameras in, images out: projection, colours, compositing, background."""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Splats, typechecked
from tttlrm_jax.rasterize.backends import balanced, pallas, reference, tiled
from tttlrm_jax.rasterize.compositing import Composite, ScreenSplats, in_rows, screen_splats
from tttlrm_jax.rasterize.platform import chosen_backend
from tttlrm_jax.rasterize.projection import project
from tttlrm_jax.rasterize.screen import project_and_judge
from tttlrm_jax.rasterize.tile_lists import Static, count_intersections, tile_grid

# name -> composite(splats, static)
BACKENDS: dict[str, Callable[[ScreenSplats, Static], Composite]] = {
    "reference": reference.composite,
    "tiled": tiled.composite,
    "balanced": balanced.composite,
    "pallas": pallas.composite,
    "pallas_interpret": pallas.composite_interpreted,
}

GSPLAT = RasterConfig()  # the constants of gsplat 1.6
DEFAULT_SLOTS_PER_GAUSSIAN = 8
MAX_CAPACITY = 2**30  # slots that int32 counts to, and its double
_MIN_CAPACITY = 1024


@flax.struct.dataclass
class Rendering:
    """An image and its by-products; `render_views` puts a view axis in front of each.

    `rgb` holds three colours or as many channels as the features have. `depth` is accumulated,
    sum of T alpha z, and gets no background: see `expected_depth`. `num_dropped` counts
    Gaussian-tile intersections beyond the capacity: above 0 the picture is incomplete (far
    Gaussians are missing first). `num_invalid` counts Gaussians left out because a value of theirs
    is NaN or infinite, in the input or once projected.
    """

    rgb: Float[Array, "*view height width channel"]
    depth: Float[Array, "*view height width"]
    alpha: Float[Array, "*view height width"]
    num_dropped: Int[Array, "*view"]
    num_invalid: Int[Array, "*view"]


def expected_depth(rendering: Rendering) -> Float[Array, "*view height width"]:
    """Mean depth of what a pixel sees: depth / max(alpha, 1e-10), 0 where nothing is."""
    return rendering.depth / jnp.maximum(rendering.alpha, 1e-10)


def default_capacity(num_gaussians: int, height: int, width: int) -> int:
    """Slots when none are given: 8 tiles of 8x8 px per Gaussian, as a power of two.

    Never more than every Gaussian in every tile. Enough for splats a few pixels wide; where
    `num_dropped` is above 0 pass what `fit_capacity` returns.
    """
    rows, columns = tile_grid(height, width)
    wanted = max(DEFAULT_SLOTS_PER_GAUSSIAN * num_gaussians, _MIN_CAPACITY)
    return min(_power_of_two(wanted), max(num_gaussians * rows * columns, 1))


@typechecked
def render(
    splats: Splats,
    cameras: Cameras,
    *,
    background: Float[Array, " channel"] | None = None,
    config: RasterConfig = GSPLAT,
    capacity: int | None = None,
    bands: int = 1,
) -> Rendering:
    """Renders one camera (`cameras` without leading axes).

    Features `[gaussian, coefficient, 3]` are spherical harmonics, seen as max(0, SH + 0.5) from
    the camera; `[gaussian, channel]` are used as they are. `background` defaults to zero.
    `capacity` is the static number of Gaussian-tile intersections (see `default_capacity`). Rows
    are composited in so many `bands`, one after another (see `composite_in_bands`).
    Differentiable in forward and reverse mode with respect to every float input; the pose counts
    as 12 free entries, inverted as a rotation with a translation.
    """
    if cameras.world_from_camera.shape != (4, 4):
        raise InputError.of(
            "cameras.world_from_camera.shape", cameras.world_from_camera.shape,
            "is not one camera (4, 4)", "use render_views for a view axis, vmap for scenes",
        )  # fmt: skip
    camera_from_world = rigid_inverse(cameras.world_from_camera)
    return render_from_matrix(
        splats, camera_from_world, cameras.intrinsics, cameras.height, cameras.width,
        background=background, config=config, capacity=capacity, bands=bands,
    )  # fmt: skip


def render_views(
    splats: Splats,
    cameras: Cameras,
    *,
    background: Float[Array, " channel"] | None = None,
    config: RasterConfig = GSPLAT,
    capacity: int | None = None,
    views_at_once: int = 1,
    remat: bool = False,
    bands: int = 1,
) -> Rendering:
    """Renders cameras with one leading axis; other arguments as in `render`.

    One view after another by default, so that one view's workspace is live. `views_at_once` maps
    over so many together: less overhead per view for as many times the memory. (The `tiled` and
    `pallas` backends composite mapped views one by one in any case, `balanced` all at once.)
    Reverse mode keeps lists and transmittances of every view until its turn comes; with `remat` it
    draws each view again instead, so that one view's workspace is live there, too.
    """
    if cameras.world_from_camera.ndim != 3:
        raise InputError.of(
            "cameras.world_from_camera.shape", cameras.world_from_camera.shape,
            "is not (view, 4, 4)", "use render for one camera, vmap for scenes",
        )  # fmt: skip
    if views_at_once < 1:
        raise InputError.of("views_at_once", views_at_once, "is below 1", "use 1 or more")

    def one_view(camera):
        pose, intrinsics = camera
        one = Cameras(pose, intrinsics, cameras.height, cameras.width)
        return render(
            splats, one, background=background, config=config, capacity=capacity, bands=bands
        )

    if remat:
        one_view = jax.checkpoint(one_view)
    views = (cameras.world_from_camera, cameras.intrinsics)
    together = min(views_at_once, cameras.world_from_camera.shape[0])
    return lax.map(one_view, views, batch_size=together if together > 1 else None)


@typechecked
def render_from_matrix(
    splats: Splats,
    camera_from_world: Float[Array, "4 4"],
    intrinsics: Float[Array, "4"],
    height: int,
    width: int,
    *,
    background: Float[Array, " channel"] | None = None,
    config: RasterConfig = GSPLAT,
    capacity: int | None = None,
    bands: int = 1,
) -> Rendering:
    """`render` with the world-to-camera matrix, whose 12 upper entries are free variables."""
    _check_splats(splats)
    _check_image(height, width, background, splats.features.shape[-1], capacity)
    screen, invalid = project_and_judge(
        splats, camera_from_world, intrinsics, height, width, config
    )
    rendering = composite_in_bands(
        screen, height, width, bands, background=background, config=config, capacity=capacity
    )
    return dataclasses.replace(rendering, num_invalid=jnp.sum(invalid, dtype=jnp.int32))


@typechecked
def composite(
    screen: ScreenSplats,
    height: int,
    width: int,
    *,
    background: Float[Array, " channel"] | None = None,
    config: RasterConfig = GSPLAT,
    capacity: int | None = None,
) -> Rendering:
    """Composites what `project_and_colour` made, of one camera, from one or from many parts.

    Equal depths keep the order of `screen`. `num_invalid` of the result is 0: who projects counts.
    """
    count, channels = screen.feature.shape
    _check_image(height, width, background, channels - 1, capacity)
    if capacity is None:
        capacity = default_capacity(count, height, width)
    if count == 0:
        result = _nothing(screen, height, width)
    else:
        backend = BACKENDS[chosen_backend(config.backend)]
        result = backend(screen, Static(height, width, capacity, config))
    return rendering_of(result, background)


def composite_in_bands(
    screen: ScreenSplats,
    height: int,
    width: int,
    bands: int,
    *,
    background: Float[Array, " channel"] | None = None,
    config: RasterConfig = GSPLAT,
    capacity: int | None = None,
) -> Rendering:
    """`composite` of so many bands of rows, one after another, joined: the same picture.

    The lists of one band are in memory, in the backward pass too, which composites each band
    again. `capacity` is that of each band; by default it has room for twice an equal share.
    """
    if bands == 1:
        return composite(
            screen, height, width, background=background, config=config, capacity=capacity
        )
    if not 1 <= bands <= height:
        raise InputError.of("bands", bands, f"is not in 1..{height}, the rows", "use fewer bands")
    rows, count = -(-height // bands), screen.depth.shape[0]
    if capacity is None:
        capacity = default_capacity(max(-(-2 * count // bands), 1), rows, width)

    @jax.checkpoint
    def one_band(screen, top):
        band = in_rows(screen, top, rows)
        return composite(band, rows, width, background=background, config=config, capacity=capacity)

    tops = jnp.arange(bands, dtype=screen.mean.dtype) * rows
    made = lax.map(lambda top: one_band(screen, top), tops)
    rgb, depth, alpha = (
        x.reshape(bands * rows, *x.shape[2:])[:height] for x in (made.rgb, made.depth, made.alpha)
    )
    return Rendering(rgb, depth, alpha, jnp.sum(made.num_dropped), jnp.sum(made.num_invalid))


def rendering_of(result: Composite, background: Float[Array, " channel"] | None) -> Rendering:
    """What was composited, in front of the background."""
    rgb, depth = result.feature[..., :-1], result.feature[..., -1]
    if background is not None:
        rgb = rgb + result.transmittance[..., None] * background[None, None]
    nothing = jnp.zeros_like(result.num_dropped)
    return Rendering(rgb, depth, 1 - result.transmittance, result.num_dropped, nothing)


def fit_capacity(splats: Splats, cameras: Cameras, *, config: RasterConfig = GSPLAT) -> int:
    """Smallest power of two that holds every intersection of every camera (any leading axes).

    Eager: it reads a number back from the device, so it cannot be called under `jit`. Raises
    InputError where the lists would need more than 2^30 slots. `reference` has no lists.
    """
    if splats.mean.shape[0] == 0 or chosen_backend(config.backend) == "reference":
        return _MIN_CAPACITY
    return capacity_for(int(_most_intersections(splats, cameras, config)))


def capacity_for(needed: int) -> int:
    """Slots for so many intersections of a picture. Raises InputError as `fit_capacity`."""
    if needed > MAX_CAPACITY:
        raise InputError.of(
            "intersections", needed, f"is above {MAX_CAPACITY}",
            "render a smaller image, or fewer or smaller Gaussians",
        )  # fmt: skip
    return _power_of_two(max(needed, _MIN_CAPACITY))


@functools.partial(jax.jit, static_argnames="config")
def _most_intersections(splats: Splats, cameras: Cameras, config: RasterConfig) -> Int[Array, ""]:
    """Largest number of intersections among the cameras."""
    return jnp.max(intersections(splats, cameras, config), initial=0)


def intersections(splats: Splats, cameras: Cameras, config: RasterConfig) -> Int[Array, " camera"]:
    """Pairs of Gaussian and tile in the picture of each camera (any leading axes)."""
    _check_splats(splats)
    height, width = cameras.height, cameras.width
    no_feature = jnp.zeros((len(splats.mean), 0), splats.mean.dtype)

    def one(camera):
        pose, intrinsics = camera
        projected = project(splats, rigid_inverse(pose), intrinsics, height, width, config)
        screen = screen_splats(projected, splats.opacity, no_feature, config)
        return count_intersections(screen, height, width)

    poses = cameras.world_from_camera.reshape(-1, 4, 4)
    return lax.map(one, (poses, cameras.intrinsics.reshape(-1, 4)))


@typechecked
def project_and_colour(
    splats: Splats,
    camera_from_world: Float[Array, "4 4"],
    intrinsics: Float[Array, "4"],
    height: int,
    width: int,
    config: RasterConfig = GSPLAT,
) -> ScreenSplats:
    """Projects and colours for one camera; the last feature channel is depth.

    Gaussians do not depend on each other: parts of a cloud may be projected apart, concatenated
    (in the order of the cloud, which decides between equal depths) and given to `composite`.
    """
    _check_splats(splats)
    return project_and_judge(splats, camera_from_world, intrinsics, height, width, config)[0]


def _nothing(screen: ScreenSplats, height: int, width: int) -> Composite:
    """What an empty cloud composites to."""
    shape, dtype = (height, width, screen.feature.shape[1]), screen.mean.dtype
    return Composite(jnp.zeros(shape, dtype), jnp.ones(shape[:2], dtype), jnp.zeros((), jnp.int32))


def _check_splats(splats: Splats) -> None:
    if splats.features.ndim not in (2, 3) or (
        splats.features.ndim == 3 and splats.features.shape[2] != 3
    ):
        raise InputError.of(
            "splats.features.shape", splats.features.shape,
            "is neither [gaussian, channel] nor [gaussian, coefficient, 3]",
            "map scenes with vmap and give one of the two",
        )  # fmt: skip


def _check_image(height: int, width: int, background, channels: int, capacity: int | None) -> None:
    for field, value in (("height", height), ("width", width), ("capacity", capacity)):
        if value is not None and value < 1:
            raise InputError.of(field, value, "is below 1", "use a positive number")
    if background is not None and background.shape != (channels,):
        raise InputError.of(
            "background.shape", background.shape, f"does not fit {channels} channels",
            f"give {channels} values",
        )  # fmt: skip


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
