"""Rendering a cloud that devices hold in parts, each device rendering its parts of the images.

Runs inside `jax.shard_map`. The target images are cut into bands of rows, so many that every
device owns equally many `Parts`. Two ways to bring Gaussians there, with equal images and
gradients:

- `all_gather`: every device receives all Gaussians and projects them itself. The baseline: memory
  and traffic grow with the cloud, spherical harmonics included.
- `all_to_all`: every device projects and colours its own and sends the owner of a part those that
  reach into it: 12 numbers each (RGB) in place of up to 59. Buffers hold `capacity` Gaussians for
  each (sender, part), the nearest ones; what exceeds it is left out and counted in `num_unsent`.
  GPUs and TPUs move the used rows alone (`ragged_all_to_all`), CPUs the whole buffers.

Gradients return the same way. Gaussians stay in the order of the cloud, which decides between
equal depths.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize.compositing import ScreenSplats, depth_order_key, in_rows
from tttlrm_jax.rasterize.render import Rendering, composite_in_bands, default_capacity
from tttlrm_jax.rasterize.screen import project_and_judge
from tttlrm_jax.rasterize.sorting import argsort_float32

Exchange = Literal["all_to_all", "all_gather"]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Target images as bands of rows, in (view, band) order, padded to a multiple of devices."""

    num_views: int
    height: int  # of a whole image
    bands: int  # of each image
    devices: int

    @classmethod
    def of(cls, num_views: int, height: int, devices: int, *, whole: bool = False) -> "Parts":
        """As few bands as part the images equally; with `whole`, images stay in one piece."""
        bands = 1 if whole else devices // math.gcd(num_views, devices)
        return cls(num_views, height, min(bands, height), devices)

    @property
    def band_height(self) -> int:
        return -(-self.height // self.bands)

    @property
    def per_device(self) -> int:
        return -(-self.num_views * self.bands // self.devices)

    @property
    def count(self) -> int:
        """Number of parts, with those that pad."""
        return self.per_device * self.devices

    @property
    def excess(self) -> float:
        """Rows of all parts per row of the images: a mean over parts times this is one of images
        where all padding is zero."""
        return self.count * self.band_height / (self.num_views * self.height)

    def cut(self, images: Any) -> Any:
        """`[batch, view, height, ...]` to `[batch, part, row, ...]`, padded with zeros."""
        batch, _, _, *rest = images.shape
        rows = self.bands * self.band_height - self.height
        padding = [(0, 0)] * images.ndim
        padding[2] = (0, rows)
        library = np if isinstance(images, np.ndarray) else jnp
        cut = library.pad(images, padding).reshape(batch, -1, self.band_height, *rest)
        padding[1:3] = [(0, self.count - cut.shape[1]), (0, 0)]
        return library.pad(cut, padding)

    def join(self, parts: Any) -> Any:
        """Inverse of `cut`."""
        batch, _, _, *rest = parts.shape
        used = parts[:, : self.num_views * self.bands]
        return used.reshape(batch, self.num_views, -1, *rest)[:, :, : self.height]


@flax.struct.dataclass
class PartRendering(Rendering):
    """Parts `[part, row, width, ...]`, zero past the image; `num_dropped` is of each part.

    `num_unsent` counts Gaussians that a part should have received beyond the capacity.
    """

    num_unsent: Int[Array, "*part"]


def render_parts(
    splats: Splats,
    cameras: Cameras,
    parts: Parts,
    axes: tuple[str, ...],
    *,
    background: Array | None,
    config: RasterConfig,
    exchange: Exchange = "all_to_all",
    capacity: int | None = None,
    slots: int | None = None,
    remat: bool = False,
    bands: int = 1,
) -> PartRendering:
    """This device's parts of all `cameras` `[view]`; `splats` are this device's of one scene.

    `axes` are the mesh axes the cloud and the parts are parted over, `capacity` the Gaussians a
    device can send to one part (None: all it has). `slots` are those of the lists of a part (None:
    as many as usually suffice). With `remat` the backward pass makes each part again, exchange
    included; each is composited in so many `bands` of rows (see `composite_in_bands`).
    """
    first = lax.axis_index(axes) * parts.per_device
    if exchange == "all_gather":
        splats = lax.all_gather(splats, axes, axis=0, tiled=True)
    held = splats.mean.shape[0]
    capacity = held if capacity is None else min(capacity, held)

    def render_one(turn):
        if exchange == "all_gather":
            screen, invalid = _reaching(splats, cameras, parts, first + turn, config)
            unsent = jnp.zeros((), jnp.int32)
        else:
            screen, invalid, unsent = _exchanged(
                splats, cameras, parts, turn, axes, config, capacity
            )
        return _composite_part(
            screen, parts, first + turn, cameras.width, background, config, slots, bands
        ).replace(num_invalid=invalid, num_unsent=unsent)

    if remat:
        render_one = jax.checkpoint(render_one)
    return lax.map(render_one, jnp.arange(parts.per_device, dtype=jnp.int32))


def _composite_part(
    screen, parts: Parts, number, width, background, config, slots: int | None, bands: int
) -> PartRendering:
    """Composites one part and blanks what lies outside of its image."""
    height, count = parts.band_height, screen.depth.shape[0]
    bands = min(bands, height)
    share = min(count, -(-2 * count // (parts.bands * bands)))
    if slots is None:
        slots = default_capacity(max(share, 1), -(-height // bands), width)
    whole = composite_in_bands(
        screen, height, width, bands, background=background, config=config, capacity=slots
    )
    rows = (number % parts.bands) * parts.band_height + jnp.arange(height, dtype=jnp.int32)
    shown = (rows < parts.height) & (number < parts.num_views * parts.bands)
    rgb, depth, alpha = (
        jnp.where(shown.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)
        for x in (whole.rgb, whole.depth, whole.alpha)
    )
    nothing = jnp.zeros((), jnp.int32)
    return PartRendering(rgb, depth, alpha, whole.num_dropped, nothing, nothing)


def _reaching(
    splats: Splats, cameras: Cameras, parts: Parts, number, config
) -> tuple[ScreenSplats, Int[Array, ""]]:
    """Splats as part `number` sees them, those that do not reach into it undrawn; and how many
    are invalid, which the first part of a view counts."""
    view = jnp.minimum(number // parts.bands, parts.num_views - 1)
    top = ((number % parts.bands) * parts.band_height).astype(splats.mean.dtype)
    screen, unusable = project_and_judge(
        splats, rigid_inverse(cameras.world_from_camera[view]), cameras.intrinsics[view],
        cameras.height, cameras.width, config,
    )  # fmt: skip
    in_image = number < parts.num_views * parts.bands
    counts = in_image & (number % parts.bands == 0)
    invalid = jnp.where(counts, jnp.sum(unusable, dtype=jnp.int32), 0)
    return in_rows(screen, top, parts.band_height, in_image), invalid


def _exchanged(splats, cameras, parts: Parts, turn, axes, config, capacity: int):
    """(splats of all devices that reach into this device's part, invalid, unsent)."""

    @jax.checkpoint
    def pack(splats, owner):
        number = owner * parts.per_device + turn
        screen, invalid = _reaching(splats, cameras, parts, number, config)
        return *_packed(screen, capacity), invalid

    owners = jnp.arange(parts.devices, dtype=jnp.int32)
    numbers, radius, count, invalid = lax.map(lambda owner: pack(splats, owner), owners)
    sent = jnp.minimum(count, capacity)
    numbers, radius = (_to_owners(x, sent, axes) for x in (numbers, radius))
    counts = jnp.stack([invalid, count - sent], axis=1)
    invalid, unsent = jnp.sum(lax.all_to_all(counts, axes, 0, 0, tiled=True), axis=0)
    received = numbers.reshape(-1, numbers.shape[-1])
    mean, conic, opacity, feature = jnp.split(received, (2, 5, 6), axis=1)
    screen = ScreenSplats(
        mean, conic, opacity[:, 0], feature, depth=feature[:, -1], radius=radius.reshape(-1, 2)
    )
    return screen, invalid, unsent


def _packed(screen: ScreenSplats, capacity: int):
    """(numbers [capacity, 6 + channel], radius [capacity, 2], count) of what is drawn, in order.

    Beyond the capacity the nearest stay, as in the tile lists: what is missing then is what others
    cover. Rows past the count are zero, hence undrawn. The last channel is depth, which orders.
    """
    drawn, held = jnp.all(screen.radius > 0, axis=1), screen.depth.shape[0]
    if capacity < held:
        nearest = argsort_float32(depth_order_key(lax.stop_gradient(screen)))[:capacity]
        chosen = jnp.sort(jnp.where(drawn[nearest], nearest, held))
    else:
        (chosen,) = jnp.nonzero(drawn, size=capacity, fill_value=held)
    numbers = jnp.concatenate(
        [screen.mean, screen.conic, screen.opacity[:, None], screen.feature], axis=1
    )
    numbers, radius = (
        x.at[chosen].get(mode="fill", fill_value=0) for x in (numbers, screen.radius)
    )
    return numbers, radius, jnp.sum(drawn, dtype=jnp.int32)


def _to_owners(buffers: Array, sent: Int[Array, " device"], axes: tuple[str, ...]) -> Array:
    """Row block o of `buffers` [device, capacity, ...] goes to device o; block s came from s."""

    def padded(buffers, sent):
        del sent
        return lax.all_to_all(buffers, axes, 0, 0, tiled=True)

    if len(axes) != 1:  # ragged exchanges know one axis
        return padded(buffers, sent)
    ragged = functools.partial(ragged_to_owners, axis=axes[0])
    return lax.platform_dependent(buffers, sent, default=padded, cuda=ragged, tpu=ragged)


def ragged_to_owners(buffers: Array, sent: Int[Array, " device"], axis: str) -> Array:
    """`_to_owners` that moves the first `sent[o]` rows of block o alone; other rows are zero."""
    devices, capacity = buffers.shape[:2]
    starts = jnp.arange(devices, dtype=jnp.int32) * capacity
    here = jnp.full(devices, lax.axis_index(axis) * capacity, jnp.int32)
    received = lax.all_to_all(sent, axis, 0, 0, tiled=True)
    rows = buffers.reshape(devices * capacity, -1)
    out = lax.ragged_all_to_all(
        rows, jnp.zeros_like(rows), starts, sent, here, received, axis_name=axis
    )
    return out.reshape(buffers.shape)
