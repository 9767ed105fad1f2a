"""3D Gaussian Splatting from nothing on a capture, without any network (Kerbl et al. 2023).

`python examples/fit_scene.py [--capture DIR] [--steps N] [--views N] [--side PIXELS]`
writes fitted.ply and fitted.splat in the capture's frame, and scores the held-out views.
"""

import argparse

import jax
import jax.numpy as jnp

import tttlrm_jax as tj
from tttlrm_jax.captures.capture import load_views
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.offsets import offset_of_poses
from tttlrm_jax.export.gaussians import save_gaussians
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.per_scene import FitConfig, fit_scene

parser = argparse.ArgumentParser()
parser.add_argument("--capture")
parser.add_argument("--steps", type=int, default=1000)  # some minutes on a CPU; 7000 are better
parser.add_argument("--views", type=int, default=16)
parser.add_argument("--side", type=int, default=64)
options = parser.parse_args()
background, size = (1.0, 1.0, 1.0), (options.side, options.side)
capture = tj.open_capture(options.capture)
offset = offset_of_poses(capture.world_from_camera)  # 0 but for the coordinates of maps
given, held_out = (  # every 8th frame is held out
    tj.Views(*jax.tree.map(jnp.float32, load_views(capture, frames, *size, offset=offset)))
    for frames in capture.split(options.views)
)
config = FitConfig(steps=options.steps, num_initial=2000, capacity=20_000)
fitted = fit_scene(given, config, raster=RasterConfig(), background=background)
print(f"{len(fitted.gaussians.mean)} Gaussians, loss {fitted.losses[-1]:.3f} at the last step")

shown = tj.Renderer(background=background)(fitted.gaussians, held_out.cameras).rgb
print(f"held-out PSNR {float(psnr(shown, held_out.image).mean()):.2f} dB")
for name in ("fitted.ply", "fitted.splat"):
    save_gaussians(name, fitted.gaussians, min_opacity=1 / 255, offset=offset)
