"""The `pallas` backend: tile lists walked by Mosaic GPU kernels, on Hopper GPUs and later.

Where the kernels cannot run the `balanced` backend takes over, and a log message says why, once
per reason. `pallas_interpret` runs the same kernels in JAX's interpreter of them, on any device,
slowly: it is there for tests. Forward mode walks the same lists with the balanced backend's
passes; first derivatives only. Under `vmap` scenes are mapped one after another.
"""

import importlib
import logging
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from tttlrm_jax.core.devices import target_device
from tttlrm_jax.rasterize.backends import balanced
from tttlrm_jax.rasterize.backends.tables import (
    Table,
    composite_lists,
    image_from_tiles,
    lists_one_by_one,
    tiles_from_image,
)
from tttlrm_jax.rasterize.compositing import Composite, ScreenSplats
from tttlrm_jax.rasterize.tile_lists import Static, TileLists
from tttlrm_jax.rasterize.transforms.forward_mode import both_modes
from tttlrm_jax.rasterize.transforms.one_kernel import one_by_one

INTERPRETERS = (  # where versions of JAX keep the parameters of their interpreter
    "jax.experimental.pallas.mosaic_gpu",
    "jax._src.pallas.mosaic_gpu.interpret.params",  # up to JAX 0.10
)
MAX_CHANNELS = 32  # depth included: a thread keeps two numbers for each in registers

_logger = logging.getLogger("tttlrm_jax.rasterize")
_said: set[str] = set()


class _Saved(NamedTuple):
    """Residuals of the backward pass."""

    table: Table
    lists: TileLists
    drawn: Any  # kernel.Drawn


def composite(splats: ScreenSplats, static: Static) -> Composite:
    """Front-to-back compositing, by the kernel if it can run and by `balanced` otherwise."""
    return _composite_unless(why_not(splats), splats, static)


def composite_interpreted(splats: ScreenSplats, static: Static) -> Composite:
    """`composite` by the interpreted kernel; JAX's interpreter does float32 only."""
    reason = _why_not_splats(splats) or _why_not_interpreted()
    return _composite_unless(reason, splats, static._replace(interpret=True))


def _composite_unless(reason: str | None, splats: ScreenSplats, static: Static) -> Composite:
    if reason is None:
        return composite_by_kernel(splats, static)
    if reason not in _said:
        _said.add(reason)
        _logger.warning("backend pallas: %s; using balanced instead", reason)
    return balanced.composite(splats, static)


def composite_by_kernel(splats: ScreenSplats, static: Static) -> Composite:
    """`composite`, wherever it is going to run."""
    static = static._replace(tile=_kernel().TILE)
    return composite_lists(draw, static, splats, lists_one_by_one(static, splats))


def why_not(splats: ScreenSplats) -> str | None:
    """Why the compiled kernel cannot draw these splats, in words; None if it can."""
    return _why_not_splats(splats) or why_not_here()


def _why_not_splats(splats: ScreenSplats) -> str | None:
    if splats.mean.dtype != jnp.float32:
        return f"the kernel is for float32, not {splats.mean.dtype}"
    if splats.feature.shape[1] > MAX_CHANNELS:
        return f"the kernel takes {MAX_CHANNELS} channels, not {splats.feature.shape[1]}"
    return None


def why_not_here() -> str | None:
    """Why the compiled kernel cannot run on this machine; None if it can."""
    device = target_device()
    if device.platform not in ("gpu", "cuda"):
        return f"the kernel needs a GPU, not {device.platform}"
    if _capability(device) < 9:
        return f"the kernel needs a Hopper GPU or later, not {device.device_kind}"
    try:
        _kernel()
    except ImportError as error:
        return f"this JAX has no Mosaic GPU ({error})"
    return None


def _why_not_interpreted() -> str | None:
    """Why the kernel cannot be interpreted; None if it can."""
    try:
        _interpreter()
        _kernel()
    except ImportError as error:
        return f"this JAX has no interpreter of Mosaic GPU ({error})"
    return None


def _capability(device) -> float:
    """Compute capability of an NVIDIA GPU, 0 for others."""
    text = str(getattr(device, "compute_capability", ""))
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _kernel() -> Any:
    """Imported when it is used: not every installation of JAX has Mosaic GPU."""
    return importlib.import_module("tttlrm_jax.rasterize.backends.kernel")


def _interpreter() -> Any:
    """Parameters of JAX's interpreter of kernels; ImportError where this JAX has none."""
    for module in INTERPRETERS:
        try:
            return importlib.import_module(module).InterpretGPUParams()
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"no InterpretGPUParams in {' or '.join(INTERPRETERS)}")


def _interpret_option(static: Static) -> Any:
    """What `plgpu.kernel` takes."""
    return _interpreter() if static.interpret else False


def _walk(lists: TileLists) -> Any:
    """The lists for the kernels, longest first."""
    order = jnp.argsort(-lists.num_chunks, stable=True).astype(jnp.int32)
    return _kernel().Walk(order, lists.first_chunk, lists.num_chunks)


def _gather(table: Table, lists: TileLists):
    """[chunk, parameter, slot]: what the kernels read, in the order in which they do."""
    columns = [c.at[lists.gaussian].get(mode="promise_in_bounds") for c in table]
    return jnp.stack(columns, axis=1)


def _forward(static: Static, table: Table, lists: TileLists):
    """((feature [height, width, channel], transmittance [height, width]), residuals)."""
    interpret = _interpret_option(static)
    drawn = _kernel().draw(static, _gather(table, lists), _walk(lists), interpret)
    feature = image_from_tiles(static, drawn.feature)
    transmittance = image_from_tiles(static, drawn.left[:, None])[..., 0]
    return (feature, transmittance), _Saved(table, lists, drawn)


def _backward(static: Static, saved: _Saved, bars: tuple[Array, Array]) -> Table:
    """Gradient of the table, from those of features and transmittance."""
    feature_bar, transmittance_bar = bars
    table, lists, drawn = saved.table, saved.lists, saved.drawn
    bar = _kernel().differentiate(
        static, _gather(table, lists), _walk(lists), drawn,
        tiles_from_image(static, feature_bar),
        tiles_from_image(static, transmittance_bar[..., None])[:, 0],
        _interpret_option(static),
    )  # fmt: skip
    bar = jnp.where(_walked(lists, drawn.rounds)[:, None, None], bar, 0)
    row = lists.gaussian.reshape(-1)
    return tuple(
        jnp.zeros_like(column).at[row].add(bar[:, i].reshape(-1)) for i, column in enumerate(table)
    )


def _walked(lists: TileLists, rounds):
    """[chunk]: whether the kernels came to it."""
    number = lax.iota(jnp.int32, lists.gaussian.shape[0])
    tile = jnp.searchsorted(lists.first_chunk, number, side="right") - 1
    return number < lists.first_chunk[tile] + rounds[tile]


draw = both_modes(one_by_one(_forward), balanced.tangent, one_by_one(_backward))
