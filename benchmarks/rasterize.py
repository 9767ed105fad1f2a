"""Time and memory of the rasterizer: forward, and forward + backward.

Scene: seeded points in the unit ball seen from distance 3, deviations 0.01 to 0.03, degree 1
harmonics, white background. Protocol: compile (timed apart), one warm-up, then the median of
`--repeats` runs, each blocked on. Memory is XLA's own account of the compiled program.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.rasterize import BACKENDS, fit_capacity, render_views
from tttlrm_jax.types import Cameras, Splats

DEFAULT_SIZES = ("64x64x16384x4", "256x256x100000x1")


def main(arguments: list[str] | None = None) -> None:
    """Measures each size and prints lines, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rasterize", description=__doc__)
    parser.add_argument(
        "--sizes", nargs="+", default=DEFAULT_SIZES, type=_size, metavar="HxWxGAUSSIANSxVIEWS"
    )
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="tiled")
    parser.add_argument("--opacity", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    device = jax.devices()[0]
    results = []
    for size in options.sizes:
        for result in _measure(_size(size), options):
            results.append(result)
            if not options.json:
                print(_line(result), flush=True)
    if options.json:
        protocol = {"warm_up": 1, "repeats": options.repeats, "statistic": "median"}
        machine = {"platform": device.platform, "kind": device.device_kind, "jax": jax.__version__}
        print(json.dumps({"protocol": protocol, **machine, "results": results}, indent=2))


def scene(height: int, width: int, count: int, views: int, opacity: float):
    """(splats, cameras) of the module docstring; cameras stand around the ball."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    splats = Splats(
        mean=jnp.asarray(direction * rng.uniform(size=(count, 1)) ** (1 / 3)),
        quaternion=jnp.asarray(rng.normal(size=(count, 4))),
        scale=jnp.asarray(rng.uniform(0.01, 0.03, (count, 3))),
        opacity=jnp.full(count, opacity),
        features=jnp.asarray(rng.normal(size=(count, 4, 3), scale=0.3)),
    )
    angle = 2 * np.pi * np.arange(views) / views
    zero, one = np.zeros(views), np.ones(views)
    forward = np.stack([np.sin(angle), zero, np.cos(angle)], axis=-1)
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3, 0] = np.stack([np.cos(angle), zero, -np.sin(angle)], axis=-1)
    poses[:, :3, 1] = np.stack([zero, one, zero], axis=-1)
    poses[:, :3, 2] = forward
    poses[:, :3, 3] = -3 * forward
    focal = 1.2 * min(height, width)
    intrinsics = np.tile([focal, focal, width / 2, height / 2], (views, 1))
    cameras = Cameras(jnp.float32(poses), jnp.float32(intrinsics), height, width)
    return jax.tree.map(jnp.float32, splats), cameras


def _measure(size: tuple[int, int, int, int], options):
    height, width, count, views = size
    splats, cameras = scene(height, width, count, views, options.opacity)
    config = RasterConfig(backend=options.backend)
    capacity = fit_capacity(splats, cameras, config=config)
    white = jnp.ones(3)

    def forward(splats):
        image = render_views(splats, cameras, background=white, config=config, capacity=capacity)
        return image.rgb

    def loss(splats):
        return jnp.mean((forward(splats) - 0.5) ** 2)

    for name, function in (("forward", forward), ("forward+backward", jax.grad(loss))):
        yield {
            "what": name, "backend": options.backend, "height": height, "width": width,
            "gaussians": count, "views": views, "opacity": options.opacity, "capacity": capacity,
            **_time(function, splats, options.repeats, views),
        }  # fmt: skip


def _time(function: Callable, splats: Splats, repeats: int, views: int) -> dict[str, float]:
    start = time.perf_counter()
    compiled = jax.jit(function).lower(splats).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(splats))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(splats))
        seconds.append(time.perf_counter() - start)
    memory: Any = compiled.memory_analysis()
    return {
        "seconds_per_view": statistics.median(seconds) / views,
        "seconds_compile": compile_seconds,
        "mib_temporary": memory.temp_size_in_bytes / 2**20,
        "mib_output": memory.output_size_in_bytes / 2**20,
    }


def _line(result) -> str:
    return (
        f"{result['what']:<17} {result['backend']:<10} {result['height']}x{result['width']} "
        f"{result['gaussians']:>8} gaussians {result['views']} views: "
        f"{result['seconds_per_view'] * 1e3:9.1f} ms per view, "
        f"{result['mib_temporary']:7.1f} MiB temporary, "
        f"compile {result['seconds_compile']:.1f} s"
    )


def _size(text) -> tuple[int, int, int, int]:
    if isinstance(text, tuple):
        return text
    try:
        height, width, count, views = (int(part) for part in text.split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text} is not HEIGHTxWIDTHxGAUSSIANSxVIEWS, e.g. {DEFAULT_SIZES[0]}"
        ) from error
    return height, width, count, views


if __name__ == "__main__":
    main()
