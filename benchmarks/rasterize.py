"""Time and memory of the rasterizer: forward, forward + backward, and their stages.

Scene: seeded points in the unit ball seen from distance 3, deviations 0.01 to 0.03, one opacity,
degree 1 harmonics, white background, focal length 1.02 image widths as in the recordings
(`--focal`). Protocol: compile (timed apart), one warm-up, then the median of `--repeats` runs,
each blocked on. "In parts" is the gradient of one view as fits take it on several cores of a CPU
(`rasterize/in_parts.py`), with the time of all threads together. Stages are programs of their own,
fed with what the stage before gave, so that their sum is not exactly the whole. Memory is XLA's own
account of the compiled programs. `auto`, `tiled` and `balanced` have stages. On accelerators, or
with `--floors`, times are set against what the device could do at best (see `raster_floors`).
`--preset gpu` is the table that docs/experiments/rasterizer.md has room for.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import positive
from benchmarks.raster_floors import Rates, floors, measure_rates
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import BACKENDS, fit_capacity, in_parts, project, render_views
from tttlrm_jax.rasterize.backends import balanced, tiled
from tttlrm_jax.rasterize.backends.tables import composite_lists
from tttlrm_jax.rasterize.in_parts import suitable_parts
from tttlrm_jax.rasterize.platform import AUTO, chosen_backend
from tttlrm_jax.rasterize.render import project_and_colour, rendering_of
from tttlrm_jax.rasterize.tile_lists import (
    Static,
    build_tile_lists,
    candidate_slots,
    count_intersections,
    num_listed,
    place_slots,
)

FOCAL = 1.02  # image widths
SIZES = ("256x256", "960x536")
GAUSSIANS = (10_000, 100_000, 1_000_000)
PRESETS = {  # options that they stand in for
    "gpu": {
        "sizes": ("960x536",), "gaussians": (100_000, 1_000_000, 5_000_000), "views": (1, 48),
        "backend": ("balanced", "pallas", "tiled"),
    },
}  # fmt: skip
WITH_STAGES = {"tiled": tiled.draw, "balanced": balanced.draw}


def main(arguments: list[str] | None = None) -> None:
    """Measures each size with each number of Gaussians; prints lines, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rasterize", description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--gaussians", nargs="+", default=GAUSSIANS, type=positive)
    parser.add_argument("--views", nargs="+", default=(1,), type=positive)
    parser.add_argument("--views-at-once", default=1, type=positive, help="mapped together")
    names = [AUTO, *BACKENDS]
    parser.add_argument("--backend", nargs="+", choices=names, default=(AUTO,))
    parser.add_argument("--preset", choices=sorted(PRESETS), help="in place of the options above")
    parser.add_argument("--floors", action="store_true", help="measure the device's limits on CPU")
    parser.add_argument("--opacity", type=float, default=0.1)
    parser.add_argument("--focal", type=float, default=FOCAL, help="focal length, image widths")
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    vars(options).update(PRESETS.get(options.preset, {}))
    sizes = [_size(parser, text) for text in options.sizes]
    protocol = {"warm_up": 1, "repeats": options.repeats, "statistic": "median"}
    rates = measure_rates() if options.floors or jax.default_backend() != "cpu" else None
    results = []
    scenes = list(itertools.product(options.gaussians, options.views, options.backend))
    for size, (count, views, backend) in itertools.product(sizes, scenes):
        results.append(measure(size, count, views, backend, options, rates))
        if not options.json:
            print(_lines(results[-1]), flush=True)
    if options.json:
        limits = {} if rates is None else {"per_second": rates._asdict()}
        whole = {"protocol": protocol, **machine(), **limits, "results": results}
        print(json.dumps(whole, indent=2))


def machine() -> dict[str, Any]:
    """What ran, and how busy it was with other things besides."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "cores": os.cpu_count(),
        "load_average_1_5_15_min": os.getloadavg(),
        "jax": jax.__version__,
    }


def scene(width: int, height: int, count: int, views: int, opacity: float, focal: float = FOCAL):
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
    intrinsics = np.tile([focal * width, focal * width, width / 2, height / 2], (views, 1))
    cameras = Cameras(jnp.float32(poses), jnp.float32(intrinsics), height, width)
    return jax.tree.map(jnp.float32, splats), cameras


def measure(
    size: tuple[int, int], count: int, views: int, backend: Any, options, rates: Rates | None
) -> dict[str, Any]:
    """Everything about one size and backend."""
    width, height = size
    splats, cameras = scene(width, height, count, views, options.opacity, options.focal)
    config = RasterConfig(backend=backend)
    capacity = fit_capacity(splats, cameras, config=config)
    white = jnp.ones(3)

    def forward(splats):
        image = render_views(
            splats, cameras, background=white, config=config, capacity=capacity,
            views_at_once=options.views_at_once,
        )  # fmt: skip
        return image.rgb

    def loss(splats):
        return jnp.mean((forward(splats) - 0.5) ** 2)

    result = {
        "backend": backend, "width": width, "height": height, "gaussians": count,
        "views": views, "views_at_once": options.views_at_once, "opacity": options.opacity,
        "capacity": capacity,
    }  # fmt: skip
    for name, function in (("forward", forward), ("forward_backward", jax.grad(loss))):
        compiled, seconds_compile = _compile(function, splats)
        memory: Any = compiled.memory_analysis()
        result[name] = {
            "seconds_per_view": _seconds(compiled, splats, repeats=options.repeats) / views,
            "seconds_compile": seconds_compile,
            "mib_temporary": memory.temp_size_in_bytes / 2**20,
            "mib_output": memory.output_size_in_bytes / 2**20,
        }
    view = jax.tree.map(lambda x: x[0], cameras)
    parts = suitable_parts(backend, capacity)
    if parts > 1:
        work = _Squares(config, capacity, parts)
        given = (splats, cameras)
        start = time.perf_counter()
        run = functools.partial(in_parts.run, work)
        jax.block_until_ready(run(given))
        seconds_compile = time.perf_counter() - start
        cpu_start = time.process_time()
        seconds = _seconds(run, given, repeats=options.repeats)
        cpu_seconds = (time.process_time() - cpu_start) / (options.repeats + 1)
        result["forward_backward in parts"] = {
            "seconds_per_view": seconds, "cpu_seconds": cpu_seconds, "parts": parts,
            "seconds_compile": seconds_compile,
        }  # fmt: skip
    result["intersections"] = intersections(splats, view, config, capacity)
    if chosen_backend(backend) in WITH_STAGES:
        result["seconds_stage"] = stages(splats, view, config, capacity, options.repeats)
    if rates is not None:
        pairs = result["intersections"]["ellipse"]
        for name in ("forward", "forward_backward"):
            least = floors(rates, splats, width * height, pairs, name == "forward_backward")
            result[name]["seconds_floor"] = least
            fraction = max(least.values()) / result[name]["seconds_per_view"]
            result[name]["fraction_of_floor"] = fraction
    return result


@dataclasses.dataclass(frozen=True)
class _Squares(in_parts.Work):
    """The gradient that `measure` takes, of the first view. `given`: splats and cameras."""

    config: RasterConfig
    capacity: int
    parts: int

    def static(self, given) -> Static:
        cameras = given[1]
        return Static(cameras.height, cameras.width, self.capacity, self.config, parts=self.parts)

    def num_gaussians(self, given) -> int:
        return given[0].mean.shape[0]

    def free(self, given):
        return given[0], ()

    def see(self, mine, shared, given):
        cameras = given[1]
        return project_and_colour(
            mine, rigid_inverse(cameras.world_from_camera[0]), cameras.intrinsics[0],
            cameras.height, cameras.width, self.config,
        )  # fmt: skip

    def loss(self, shared, given, made):
        return jnp.mean((rendering_of(made, jnp.ones(3)).rgb - 0.5) ** 2)

    def finish(self, given, done):
        return done.mine


def intersections(splats: Splats, camera: Cameras, config: RasterConfig, capacity: int):
    """Gaussian-tile pairs of one view by three tests, from coarse to exact."""
    height, width = camera.height, camera.width
    static = Static(height, width, capacity, config)
    matrix = rigid_inverse(camera.world_from_camera)

    @jax.jit
    def count(splats):
        projected = project(splats, matrix, camera.intrinsics, height, width, config)
        screen = project_and_colour(splats, matrix, camera.intrinsics, height, width, config)
        a, b, c = projected.covariance.T
        middle = (a + c) / 2
        largest = middle + jnp.sqrt(jnp.maximum(middle * middle - (a * c - b * b), 0))
        radius = jnp.where(projected.visible, jnp.ceil(3 * jnp.sqrt(largest)), 0)
        square = screen.replace(radius=jnp.tile(radius[:, None], (1, 2)).astype(jnp.int32))
        return {
            "three_sigma_square": count_intersections(square, height, width),
            "opacity_aware_box": count_intersections(screen, height, width),
            "ellipse": num_listed(build_tile_lists(screen, static)),
        }

    return {name: int(number) for name, number in count(splats).items()}


def stages(splats: Splats, camera: Cameras, config: RasterConfig, capacity: int, repeats: int):
    """Median seconds of each stage of one view."""
    draw = WITH_STAGES[chosen_backend(config.backend)]
    height, width = camera.height, camera.width
    static = Static(height, width, capacity, config)
    matrix = rigid_inverse(camera.world_from_camera)
    seconds = {}

    def run(name: str, function: Callable, *arguments):
        compiled, _ = _compile(function, *arguments)
        seconds[name] = _seconds(compiled, *arguments, repeats=repeats)
        return compiled(*arguments)

    def projection(splats):
        return project_and_colour(splats, matrix, camera.intrinsics, height, width, config)

    def differentiable(screen):
        return {name: getattr(screen, name) for name in ("mean", "conic", "opacity", "feature")}

    def composited(parts, screen, lists):
        screen = screen.replace(**parts)
        result = composite_lists(draw, static, screen, lists)
        return result.feature, result.transmittance

    screen = run("project and colour", projection, splats)
    run("lists: count", lambda s: count_intersections(s, height, width), screen)
    candidates = run("lists: sort by depth", lambda s: candidate_slots(s, static), screen)
    lists = run("lists: expand and place", lambda c: place_slots(c, static), candidates)
    parts = differentiable(screen)
    image = run("composite", composited, parts, screen, lists)
    _, pull = jax.jit(lambda p, s, l: jax.vjp(lambda p: composited(p, s, l), p))(
        parts, screen, lists
    )
    (parts_bar,) = run("composite backward", lambda pull, bar: pull(bar), pull, image)

    def projection_backward(splats, bar):
        return jax.vjp(lambda splats: differentiable(projection(splats)), splats)[1](bar)

    run("projection backward", projection_backward, splats, parts_bar)
    return seconds


def _compile(function: Callable, *arguments):
    """(compiled program, seconds it took)."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def _seconds(compiled: Callable, *arguments, repeats: int) -> float:
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _lines(result) -> str:
    size = (
        f"{result['width']}x{result['height']}, {result['gaussians']} Gaussians, "
        f"{result['views']} views, {result['backend']}"
    )
    lines = [size]
    for name in ("forward", "forward_backward"):
        part = result[name]
        lines.append(
            f"  {name:<24} {part['seconds_per_view'] * 1e3:9.1f} ms per view, "
            f"{part['mib_temporary']:8.1f} MiB temporary, compile {part['seconds_compile']:.1f} s"
        )
        if "seconds_floor" in part:
            least = ", ".join(f"{k} {s * 1e3:.3f} ms" for k, s in part["seconds_floor"].items())
            lines.append(f"    floors: {least}; reached {part['fraction_of_floor']:.1%}")
    if "forward_backward in parts" in result:
        part = result["forward_backward in parts"]
        lines.append(
            f"  {'the same, in ' + str(part['parts']) + ' parts':<24} "
            f"{part['seconds_per_view'] * 1e3:9.1f} ms per view, "
            f"{part['cpu_seconds'] * 1e3:8.1f} CPU ms, compile {part['seconds_compile']:.1f} s"
        )
    for name, seconds in result.get("seconds_stage", {}).items():
        lines.append(f"    {name:<22} {seconds * 1e3:9.1f} ms")
    for name, number in result.get("intersections", {}).items():
        lines.append(f"    {name:<22} {number:9d} intersections")
    return "\n".join(lines)


def _size(parser: argparse.ArgumentParser, text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.split("x"))
    except ValueError:
        width = height = 0
    if min(width, height) < 1:
        parser.error(f"--sizes {text} is not WIDTHxHEIGHT in pixels, e.g. {SIZES[0]}")
    return width, height


if __name__ == "__main__":
    main()
