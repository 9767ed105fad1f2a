"""Reconstructs a capture, saves Gaussians and a picture: `python examples/reconstruct.py [DIR]`.

Without DIR it takes the sample in the package. Writes scene.ply, scene.splat and view.png.
"""

import sys

import numpy as np
from PIL import Image

import tttlrm_jax as tj

# A folder with opencv_cameras.json, transforms.json or a COLMAP model; None is the sample.
capture = tj.open_capture(sys.argv[1] if len(sys.argv) > 1 else None)

# Shipped weights; a run of train.py, or a folder with converted weights, goes in as a path.
model = tj.load()

# Every 8th frame is held out, four of the others are the input.
scene = model.reconstruct(capture, views=4)
print(f"{len(scene.gaussians.mean)} Gaussians in {scene.seconds:.2f} s: {scene.scores()}")

scene.save("scene.ply")  # for desktop viewers and 3DGS tools
scene.save("scene.splat")  # for web viewers

# Any camera in the frame of the capture: here the one of frame 3, at four times the pixels.
height, width = scene.posed.targets.image.shape[2:4]
rendering = scene.render(capture.cameras([3], resolution=(2 * height, 2 * width)))
Image.fromarray(np.uint8(255 * np.clip(rendering.rgb[0], 0, 1))).save("view.png")
