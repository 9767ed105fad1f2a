"""Makes the toy that the package ships from renderings of a scanned object.

`python -m experiments.toy_sample CAPTURE` reads a capture with `opencv_cameras.json` and RGBA
pictures and writes every view of a chosen order, at half the size, to
`tttlrm_jax/assets/toy_capture`. The scan: Google Scanned Objects (CC-BY 4.0), see its CREDITS.txt.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.captures.capture import read_capture

SIDE, NUM_VIEWS = 256, 40
DEMONSTRATED = (12,)  # inputs of eval.py without options: listed, so that it need not choose
STEP = 27  # prime to the number of views: views that follow each other are far apart


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.toy_sample", description=__doc__)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--output", type=Path, default=Path("tttlrm_jax/assets/toy_capture"))
    options = parser.parse_args(arguments)
    capture = read_capture(options.capture)
    chosen = np.arange(NUM_VIEWS) * STEP % len(capture)
    frames = [capture.frames[index] for index in chosen]
    write_opencv_capture(
        options.output, (half(frame.image_path) for frame in frames),
        np.stack([frame.world_from_camera for frame in frames]),
        np.stack([frame.intrinsics * SIDE / capture.image_size()[0] for frame in frames]),
        scene_name="toy", input_counts=DEMONSTRATED,
    )  # fmt: skip


def half(path: Path) -> np.ndarray:
    """The picture uint8 [SIDE, SIDE, 4], reduced with colours weighted by alpha."""
    premultiplied = Image.open(path).convert("RGBa")
    return np.asarray(premultiplied.resize((SIDE, SIDE), Image.Resampling.BOX).convert("RGBA"))


if __name__ == "__main__":
    main()
