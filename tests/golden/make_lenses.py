"""Writes `lenses.npz`: one picture, undistorted by pycolmap for every camera model that it can.

`pip install pycolmap`, then `python tests/golden/make_lenses.py`. The tests read the file alone.
"""

import tempfile
from pathlib import Path

import numpy as np
import pycolmap  # pyright: ignore[reportMissingImports]
from PIL import Image

HEIGHT, WIDTH = 36, 48
ONE, TWO = (40.0, 24.6, 17.5), (40.0, 42.0, 24.6, 17.5)
PARAMETERS = {
    "SIMPLE_PINHOLE": ONE,
    "PINHOLE": TWO,
    "SIMPLE_RADIAL": (*ONE, 0.09),
    "RADIAL": (*ONE, -0.15, 0.03),
    "OPENCV": (*TWO, -0.12, 0.04, 0.006, -0.004),
    "OPENCV_FISHEYE": (*TWO, 0.05, -0.02, 0.01, -0.003),
    "FULL_OPENCV": (*TWO, 0.2, -0.05, 0.002, -0.003, 0.01, 0.3, 0.02, 0.01),
    "FOV": (*TWO, 0.9),
    "SIMPLE_RADIAL_FISHEYE": (*ONE, -0.06),
    "RADIAL_FISHEYE": (*ONE, 0.08, -0.03),
    "THIN_PRISM_FISHEYE": (*TWO, 0.04, -0.02, 0.004, 0.003, 0.01, -0.004, 0.006, -0.005),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        *TWO, 0.05, -0.03, 0.02, -0.01, 0.004, -0.001, 0.003, -0.002, 0.004, -0.003, 0.002, 0.001,
    ),
    "SIMPLE_DIVISION": (*ONE, -0.2),
    "DIVISION": (*TWO, 0.15),
    "SIMPLE_FISHEYE": ONE,
    "FISHEYE": TWO,
    "EUCM": (*TWO, 0.6, 1.1),
}  # fmt: skip
POINTS = np.random.default_rng(0).uniform(-0.8, 0.8, (12, 2)).round(3)  # on the plane z = 1


def picture() -> np.ndarray:
    """Waves and a sharp edge, uint8 [height, width]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    waves = 120 + 60 * np.sin(0.5 * x + 0.2 * y) + 50 * np.cos(0.45 * y - 0.1 * x)
    return np.rint(np.where(x > 2 * y + 5, waves, 0.6 * waves)).astype(np.uint8)


def main() -> None:
    """Every model: parameters, where POINTS appear, the ideal camera, and what it sees."""
    arrays: dict[str, np.ndarray] = {"picture": picture(), "points": POINTS}
    options = pycolmap.UndistortCameraOptions()
    options.blank_pixels = 1.0  # everything that the photograph shows, and what lies around it
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        Image.fromarray(arrays["picture"]).save(path)
        for name, parameters in PARAMETERS.items():
            camera = pycolmap.Camera(
                model=name, width=WIDTH, height=HEIGHT, params=list(parameters)
            )
            bitmap = pycolmap.Bitmap.read(str(path), False)
            straight, ideal = pycolmap.undistort_image(options, bitmap, camera)
            arrays |= {
                f"{name}/number": np.array(camera.model.value),
                f"{name}/parameters": np.array(parameters),
                f"{name}/appear": camera.img_from_cam(np.c_[POINTS, np.ones(len(POINTS))]),
                f"{name}/ideal": np.array([ideal.params[i] for i in range(4)]),
                f"{name}/straight": straight.to_array(),
            }
    np.savez_compressed(Path(__file__).with_name("lenses.npz"), **arrays)


if __name__ == "__main__":
    main()
