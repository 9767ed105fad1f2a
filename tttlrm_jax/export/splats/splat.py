"""Gaussians in the 32-byte `.splat` format of web viewers.

Little endian per Gaussian: position 3 x float32, scale (not log) 3 x float32, colour and opacity
4 x uint8, quaternion (w, x, y, z) as 128 + 128 q in 4 x uint8. The most important come first, so
that a viewer can stop early. Colour is degree 0 only: view dependence is not kept.
"""

from pathlib import Path

import numpy as np

from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.writable import ExportCount, importance_order, opacity, writable

RECORD = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quaternion", "u1", 4)]
)


def encode_splat(
    gaussians: Gaussians, *, min_opacity: float = 0.0, max_count: int | None = None
) -> tuple[bytes, ExportCount]:
    """The bytes of a `.splat` file; with `max_count` only the most important that many."""
    kept, count = writable(gaussians, min_opacity)
    order = importance_order(kept)[:max_count]
    unit = kept.quaternion / np.linalg.norm(kept.quaternion, axis=-1, keepdims=True)
    rgb = 0.5 + SH_CONSTANT * kept.sh[:, 0]
    rgba = np.concatenate([rgb, opacity(kept.opacity_logit)[:, None]], axis=-1)
    table = np.empty(len(order), RECORD)
    table["mean"] = kept.mean[order]
    table["scale"] = np.exp(kept.log_scale[order])
    table["rgba"] = _bytes(255 * rgba[order])
    table["quaternion"] = _bytes(128 + 128 * unit[order])
    written = ExportCount(len(order), count.num_invalid, count.num_transparent)
    return table.tobytes(), written


def write_splat(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    offset: np.ndarray | None = None,
) -> ExportCount:
    """Writes one scene as `.splat`; see `writable` for the Gaussians that are left out.

    The format has no place for what positions are relative to: `offset` is not written.
    """
    del offset
    encoded, count = encode_splat(gaussians, min_opacity=min_opacity)
    Path(path).write_bytes(encoded)
    return count


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
