"""Seconds of one step of per-scene optimisation: one view drawn, its gradient, Adam.

Scene: the ball of `benchmarks.rasterize`, whose Gaussians are so much wider as there are fewer
than 100,000 of them that they cover as much; photographs are noise. Protocol: compile (timed
apart), then the median of `--repeats` portions of `--steps` steps on views in turn. `cpu_seconds`
is a step's time of all threads together. To measure another build with this file, run the file
itself, with PYTHONPATH at the other checkout.
"""

import argparse
import itertools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import positive
from benchmarks.rasterize import machine, scene
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.per_scene.loop import Schedule, Stepper, start_state
from tttlrm_jax.per_scene.objective import RenderSettings
from tttlrm_jax.per_scene.settings import LearningRates
from tttlrm_jax.rasterize import fit_capacity

VIEWS = 8
RATES = LearningRates(
    mean=1e-5, colour=1e-3, detail=1e-4, log_scale=1e-3, quaternion=1e-3, opacity_logit=1e-3
)


def main(arguments: list[str] | None = None) -> None:
    """Measures each size with each number of Gaussians; prints one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fitting", description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=(64, 256), type=positive, metavar="PIXELS")
    parser.add_argument("--gaussians", nargs="+", default=(8000,), type=positive)
    parser.add_argument("--opacity", type=float, default=0.1)
    parser.add_argument("--steps", type=positive, default=10, help="of a portion, 100 at most")
    parser.add_argument("--repeats", type=positive, default=7)
    options = parser.parse_args(arguments)
    cases = itertools.product(options.sizes, options.gaussians)
    results = [measure(size, count, options) for size, count in cases]
    protocol = {"steps": options.steps, "repeats": options.repeats, "statistic": "median"}
    print(json.dumps({"protocol": protocol, **machine(), "results": results}, indent=2))


def measure(size: int, count: int, options) -> dict[str, float]:
    """Times of a step on square pictures of `size` pixels."""
    splats, cameras = scene(size, size, count, VIEWS, options.opacity)
    scale = splats.scale * max(100_000 / count, 1.0) ** 0.5
    splats = splats.replace(scale=scale)
    gaussians = Gaussians(
        mean=splats.mean, sh=splats.features, log_scale=jnp.log(scale),
        quaternion=splats.quaternion, opacity_logit=jax.scipy.special.logit(splats.opacity),
    )  # fmt: skip
    pictures = np.random.default_rng(0).uniform(size=(VIEWS, size, size, 3))
    capacity = fit_capacity(splats, cameras)
    settings = RenderSettings(
        background=(1.0, 1.0, 1.0), raster=RasterConfig(), capacity=capacity, ssim_weight=0.2
    )
    views = Views(jnp.asarray(pictures, jnp.float32), cameras)
    stepper = Stepper(views, Schedule(rates=RATES), settings)
    state = start_state(gaussians, 1.0, 1000)
    order = (np.arange(options.steps) % VIEWS)[:, None]
    stepper(state, order)  # compiles, and warms up
    seconds, cpu_seconds = [], []
    for _ in range(options.repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        jax.block_until_ready(stepper(state, order))
        seconds.append((time.perf_counter() - start) / options.steps)
        cpu_seconds.append((time.process_time() - cpu_start) / options.steps)
    return {
        "pixels": size, "gaussians": count, "opacity": options.opacity, "capacity": capacity,
        "seconds": statistics.median(seconds), "cpu_seconds": statistics.median(cpu_seconds),
        "compile_seconds": stepper.compile_seconds,
    }  # fmt: skip


if __name__ == "__main__":
    main()
