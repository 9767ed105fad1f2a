"""The rasterizer on a GPU: against the floors of the device, the reference and gsplat."""

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import rasterize
from benchmarks.gpu.figures import MIB_PER_GIB, Figure, Sizes, size_text
from benchmarks.raster_floors import measure_rates
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.rasterize import render_views
from tttlrm_jax.rasterize.backends.pallas import why_not_here

OPACITY = 0.1
PASSES = ("forward", "forward_backward")


def raster(backend: str, sizes: Sizes) -> Iterator[Figure]:
    """Forward, forward + backward and stages of a backend, beside the floors of the device."""
    if backend == "pallas" and (reason := why_not_here()):
        raise InputError.of("backend", backend, f"cannot run: {reason}", "use another device")
    rates = measure_rates(sizes.fraction)
    options = argparse.Namespace(
        opacity=OPACITY, focal=rasterize.FOCAL, views_at_once=1, repeats=sizes.repeats
    )
    height, width = sizes.pixels
    for count, views in sizes.scenes:
        result = rasterize.measure((width, height), count, views, backend, options, rates)
        for name in PASSES:
            row = result[name]
            figures = {
                "floor, ms": 1e3 * max(row["seconds_floor"].values()),
                "of floor": row["fraction_of_floor"], "compile, s": row["seconds_compile"],
                "temporary, GiB": row["mib_temporary"] / MIB_PER_GIB,
            }  # fmt: skip
            what = raster_what(sizes, count, views, name)
            yield {"what": what, "seconds": row["seconds_per_view"], "figures": figures}
        for stage, seconds in result.get("seconds_stage", {}).items() if views == 1 else ():
            yield {"what": f"{count:,} Gaussians, stage {stage}", "seconds": seconds}


def agreement(sizes: Sizes) -> Iterator[Figure]:
    """Pictures and gradients of the fast backends against the reference, on this device."""
    count, side = sizes.agreeing
    splats, cameras = rasterize.scene(side, side, count, 1, OPACITY)

    def loss(splats, backend):
        config = RasterConfig(backend=backend)
        image = render_views(splats, cameras, background=jnp.ones(3), config=config).rgb
        return jnp.mean((image - 0.5) ** 2), image

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    wanted, picture = gradient(splats, "reference")
    for backend in ("balanced", "pallas"):
        reason = why_not_here() if backend == "pallas" else None
        if reason is not None:
            yield {"what": f"{backend}: {reason}"}
            continue
        found, image = gradient(splats, backend)
        off = jax.tree.map(lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), found, wanted)
        figures = {
            "worst pixel": float(jnp.abs(image - picture).max()),
            "worst gradient, relative": float(max(jax.tree.leaves(off))),
        }
        yield {"what": f"{backend} against reference, {side}x{side}, {count}", "figures": figures}


def gsplat(sizes: Sizes) -> Iterator[Figure]:
    """The same scenes drawn by gsplat, if it is installed."""
    for name in ("torch", "gsplat"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"{name} is not installed; pip install torch gsplat to compare")
    jax.config.update("jax_platforms", "cpu")  # the device's memory is PyTorch's
    torch: Any = importlib.import_module("torch")
    for count, views in sizes.scenes:
        for name, run in zip(PASSES, _gsplat_passes(torch, sizes, count, views), strict=True):
            seconds = [_timed(run, torch.cuda.synchronize) for _ in range(sizes.repeats + 2)]
            what = raster_what(sizes, count, views, name)
            yield {"what": what, "seconds": statistics.median(seconds[2:]) / views}


def _gsplat_passes(torch: Any, sizes: Sizes, count: int, views: int):
    """Forward, and forward + backward, of the scene of `raster`."""
    library: Any = importlib.import_module("gsplat")
    height, width = sizes.pixels
    splats, cameras = rasterize.scene(width, height, count, views, OPACITY)
    lenses = np.tile(np.eye(3, dtype=np.float32), (views, 1, 1))
    lenses[:, 0, 0], lenses[:, 1, 1], lenses[:, 0, 2], lenses[:, 1, 2] = cameras.intrinsics.T
    fields = ("mean", "quaternion", "scale", "opacity", "features")
    values = [getattr(splats, name) for name in fields]
    values += [np.linalg.inv(np.asarray(cameras.world_from_camera)), lenses]
    tensors = [torch.tensor(np.array(x), device="cuda") for x in values]
    cloud, posed = tensors[: len(fields)], tensors[len(fields) :]
    white = torch.ones(views, 3, device="cuda")

    def forward(cloud=cloud):
        return library.rasterization(
            *cloud, *posed, width, height, sh_degree=1, packed=False, backgrounds=white
        )[0]

    def forward_backward():
        image = forward([x.detach().requires_grad_() for x in cloud])
        torch.mean((image - 0.5) ** 2).backward()

    return forward, forward_backward


def raster_what(sizes: Sizes, count: int, views: int, name: str) -> str:
    """The same for us and for gsplat."""
    passes = name.replace("_", " + ")
    return f"{count:,} Gaussians, {views} views of {size_text(sizes.pixels)}, {passes}, per view"


def _timed(run: Callable[[], Any], wait: Callable[[], Any]) -> float:
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start
