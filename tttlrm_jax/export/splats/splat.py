"""Gaussians in the 32-byte `.splat` format of web viewers.

Little endian per Gaussian: position 3 x float32, scale (not log) 3 x float32, colour and opacity
4 x uint8, quaternion (w, x, y, z) as 128 + 128 q in 4 x uint8. The most important come first, so
that a viewer can stop early. Colour is degree 0 only, in [0, 1]: view dependence is not kept.
"""

from pathlib import Path

import numpy as np

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.whole_files import write_whole
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.writable import (
    EMPTY,
    ExportCount,
    importance_order,
    opacity,
    opacity_logit,
    writable,
)

RECORD = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quaternion", "u1", 4)]
)


def encode_splat(
    gaussians: Gaussians, *, min_opacity: float = 0.0, max_count: int | None = None
) -> tuple[bytes, ExportCount]:
    """The bytes of a `.splat` file; with `max_count` only the most important that many."""
    kept, count = writable(gaussians, min_opacity)
    order = importance_order(kept)[:max_count]
    rgb = 0.5 + SH_CONSTANT * kept.sh[:, 0]
    rgba = np.concatenate([rgb, opacity(kept.opacity_logit)[:, None]], axis=-1)
    table = np.empty(len(order), RECORD)
    table["mean"] = kept.mean[order]
    table["scale"] = np.exp(kept.log_scale[order])
    table["rgba"] = _bytes(255 * rgba[order])
    table["quaternion"] = _bytes(np.asarray(128 + 128 * kept.quaternion[order]))
    clipped = ((rgb < 0) | (rgb > 1)).any(axis=-1)[order]
    written = ExportCount(len(order), count.num_invalid, count.num_transparent, int(clipped.sum()))
    return table.tobytes(), written


def write_splat(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    offset: np.ndarray | None = None,
) -> ExportCount:
    """Writes one scene as `.splat`; see `writable` for the Gaussians that are left out.

    The format has no place for what positions are relative to: `offset` is not written. Raises
    InputError where no Gaussian is left to write.
    """
    del offset
    encoded, count = encode_splat(gaussians, min_opacity=min_opacity)
    if not count.num_written:
        raise InputError(f".splat: {EMPTY}")
    write_whole(Path(path), encoded)
    return count


def read_splat(path: Path | str) -> Gaussians:
    """The Gaussians of a `.splat` file, degree 0, in its order; raises InputError for no such file.

    Steps are 1/255 of colour and opacity and 1/128 of quaternions; a scale of 0 is read as the
    smallest float32, a quaternion of four zeros as it is.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        table = np.fromfile(path, RECORD)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
    if size % RECORD.itemsize or not size:
        raise InputError.of(
            str(path), f"{size} bytes", "is no whole number of 32-byte Gaussians, from 1 on",
            "give a .splat file",
        )  # fmt: skip
    rgba = table["rgba"].astype(np.float32) / 255
    smallest = np.finfo(np.float32).tiny
    return Gaussians(
        mean=on_device(table["mean"]),
        sh=on_device((rgba[:, None, :3] - 0.5) / np.float32(SH_CONSTANT)),
        log_scale=on_device(np.log(np.maximum(table["scale"], smallest))),
        quaternion=on_device((table["quaternion"].astype(np.float32) - 128) / 128),
        opacity_logit=on_device(opacity_logit(rgba[:, 3])),
    )


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
