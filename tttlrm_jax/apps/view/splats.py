"""Gaussians as the browser draws them: degree 0 of their colours, covariances in half precision."""

from typing import NamedTuple

import jax
import numpy as np

from tttlrm_jax.core.geometry.rotations import rotation_from_unit_quaternion
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.writable import opacity, writable

MIN_OPACITY = 1.0 / 255.0  # fainter Gaussians cannot show
MOST_SHOWN = 4_000_000  # in a browser; of more the smallest and faintest are left out
WANTED_SCALE = 1.0  # standard deviation that half precision holds best


class ShownSplats(NamedTuple):
    """What `add_gaussian_splats` takes; positions and covariances are in units of `unit`."""

    centers: np.ndarray  # float32 [gaussian, 3]
    covariances: np.ndarray  # float32 [gaussian, 3, 3]
    rgbs: np.ndarray  # float32 [gaussian, 3] in [0, 1]
    opacities: np.ndarray  # float32 [gaussian, 1]
    unit: float

    @property
    def num_bytes(self) -> int:
        return 32 * len(self.centers)


def shown_splats(gaussians: Gaussians) -> ShownSplats:
    """Those that can be seen, as the browser takes them.

    Half precision spans 6e-8 to 65504: covariances of a scene in metres or in kilometres would lose
    their digits there. They are given in a unit in which a Gaussian of usual size has scale 1.
    """
    kept, _ = writable(gaussians, MIN_OPACITY)
    kept = _at_most(kept, MOST_SHOWN)
    unit = float(np.exp(np.median(kept.log_scale))) / WANTED_SCALE if len(kept.mean) else 1.0
    length = np.linalg.norm(kept.quaternion, axis=-1, keepdims=True)
    rotation = rotation_from_unit_quaternion(kept.quaternion / length).astype(np.float32)
    root = rotation * (np.exp(kept.log_scale) / np.float32(unit))[:, None, :]
    return ShownSplats(
        centers=np.asarray(kept.mean) / np.float32(unit),
        covariances=np.minimum(root @ root.swapaxes(1, 2), np.float32(6e4)),
        rgbs=np.clip(0.5 + SH_CONSTANT * kept.sh[:, 0], 0, 1),
        opacities=opacity(kept.opacity_logit).astype(np.float32)[:, None],
        unit=unit,
    )


def _at_most(gaussians: Gaussians, count: int) -> Gaussians:
    """The most important by opacity times area."""
    if len(gaussians.mean) <= count:
        return gaussians
    weight = opacity(gaussians.opacity_logit) * np.exp(2 * gaussians.log_scale.max(axis=1))
    kept = np.sort(np.argpartition(-weight, count)[:count])
    return jax.tree.map(lambda x: x[kept], gaussians)
