"""3D Gaussian Splatting from nothing on a capture, without any network (Kerbl et al. 2023).

`python examples/fit_scene.py [--capture DIR] [--seconds S] [--steps N] [--views N] [--side PIXELS]`
writes fitted.ply and fitted.splat in the capture's frame, and scores the held-out views.
"""

import argparse

import tttlrm_jax as tj

parser = argparse.ArgumentParser()
parser.add_argument("--capture")
parser.add_argument("--seconds", type=float, default=60)
parser.add_argument("--steps", type=int, default=3000)  # whichever ends first
parser.add_argument("--views", type=int)  # None: all but every 8th, which are held out
parser.add_argument("--side", type=int)  # None: the pictures' own size, up to 512x512 pixels
options = parser.parse_args()


def tell(moment: tj.Moment, best: tj.Gaussians) -> None:
    """Called at every look at the input views that are held back: they say which is the best."""
    quality = "" if moment.psnr is None else f", {moment.psnr:.2f} dB"
    print(f"{moment.seconds:5.1f} s, step {moment.step}, {moment.num_gaussians} Gaussians{quality}")


scene, record = tj.fit(
    options.capture, options.views, seconds=options.seconds, steps=options.steps, on_moment=tell,
    resolution=None if options.side is None else (options.side, options.side),
)  # fmt: skip
print(f"{len(scene.gaussians.mean)} Gaussians, those after step {record.best.step}")
print(f"held-out {scene.scores()}")
for name in ("fitted.ply", "fitted.splat"):
    scene.save(name)
