"""Depth maps of any file form, by the ending: 16-bit PNG, and metres as NPY, NPZ, PFM or TIFF."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.captures.pictures.depth_files import read_png_depth
from tttlrm_jax.captures.pictures.images import open_image
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.pickles import UNREADABLE

PFM_HEAD = re.compile(rb"(PF|Pf)\s+(\d{1,6})\s+(\d{1,6})\s+(-?[0-9.eE+-]{1,20})[ \t\r]*\n")
MILLIMETRES = 1000.0


def read_depth(path: Path, units_per_metre: float = MILLIMETRES) -> np.ndarray:
    """Depth float32 [height, width] in metres; 0 where not known, not finite or not above 0.

    Whole numbers count `units_per_metre`, others metres. Raises InputError for a file of another
    form, or that is damaged.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError.of(
            "depth", path, "has none of the endings " + ", ".join(READERS), "convert it"
        )
    if path.suffix.lower() == ".png":
        return read_png_depth(path, units_per_metre)
    values = np.squeeze(read(path))
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise InputError.of(
            "depth", path, f"holds {values.dtype}{list(values.shape)}, not one number a pixel",
            "give [height, width]",
        )  # fmt: skip
    known = np.isfinite(values) & (values > 0)
    divisor = 1.0 if values.dtype.kind == "f" else units_per_metre
    return np.where(known, values / divisor, 0.0).astype(np.float32)


def _read_numpy(path: Path) -> np.ndarray:
    try:
        # mapped, so that a header that promises too much takes no memory
        content = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            names = content.files
            if len(names) != 1 and "depth" not in names:
                raise InputError.of(
                    "depth", path, f"holds {len(names)} arrays", "name the one of depth `depth`"
                )
            return content["depth" if "depth" in names else names[0]]
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path) from None


def _read_pfm(path: Path) -> np.ndarray:
    """Rows from below; a negative scale means little-endian numbers."""
    try:
        content = path.read_bytes()
    except OSError as error:
        limit = f"cannot be read ({error.strerror})"
        raise InputError.of("depth", path, limit, "restore it") from None
    head = PFM_HEAD.match(content)
    if head is None or head[1] != b"Pf":
        raise _damaged(path)
    width, height = int(head[2]), int(head[3])
    if len(content) - head.end() != 4 * width * height:
        raise _damaged(path)
    order = "<" if head[4].startswith(b"-") else ">"
    values = np.frombuffer(content, order + "f4", width * height, head.end())
    return values.reshape(height, width)[::-1]


def _read_tiff(path: Path) -> np.ndarray:
    return open_image(path, lambda image: np.asarray(_grey(image, path)))


def _grey(image: Image.Image, path: Path) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        raise InputError.of(
            f"depth {path}", f"mode {image.mode}", "is neither 16-bit grey nor of floats",
            "give depth as TIFF of floats",
        )  # fmt: skip
    return image


def _damaged(path: Path) -> InputError:
    return InputError.of("depth", path, "is damaged or of another form", "restore the file")


READERS = {
    ".png": read_png_depth, ".npy": _read_numpy, ".npz": _read_numpy, ".pfm": _read_pfm,
    ".tif": _read_tiff, ".tiff": _read_tiff,
}  # fmt: skip
