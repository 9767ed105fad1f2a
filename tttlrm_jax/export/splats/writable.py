"""Which Gaussians may be written to a file, and how large they count.

Viewers blend whatever they read, and one NaN blackens a whole frame. A Gaussian is therefore
written only if all its values, and the scale that viewers compute of them, are finite in float32
and its quaternion is not zero; an opacity logit of -inf (invisible) falls under this rule. A logit
above `MAX_OPACITY_LOGIT` (opacity 1 in float32), +inf included, is written as that limit.
Quaternions are written with unit length: converters that pack three of their numbers take the
length for granted. Nothing else is changed.
"""

import dataclasses

import jax
import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians

MAX_OPACITY_LOGIT = 30.0
BLOCK = 1 << 18  # Gaussians looked at together


EMPTY = "no Gaussian is left to write, and the format has no empty scenes; lower min_opacity"


@dataclasses.dataclass(frozen=True)
class ExportCount:
    """What became of the Gaussians of a scene on the way into a file."""

    num_written: int
    num_invalid: int  # dropped: a value or a scale was not finite or the quaternion was zero
    num_transparent: int  # dropped: opacity not above the wanted threshold
    num_clipped: int = 0  # written with a value brought to the end of the format's range


def writable(gaussians: Gaussians, min_opacity: float = 0.0) -> tuple[Gaussians, ExportCount]:
    """The Gaussians of one scene that a file may hold, in their order, as float32 NumPy arrays.

    `min_opacity` in [0, 1): Gaussians whose opacity does not exceed it are dropped. Raises
    InputError for a batch of scenes and for a threshold out of range.
    """
    if np.ndim(gaussians.mean) != 2:
        raise InputError.of(
            "gaussians.mean.shape", np.shape(gaussians.mean), "is not [gaussian, 3]",
            "export one scene at a time",
        )  # fmt: skip
    if not 0.0 <= min_opacity < 1.0:
        raise InputError.of("min_opacity", min_opacity, "is outside [0, 1)", "use e.g. 0.01")
    host, valid = _normalised(gaussians)
    visible = opacity(host.opacity_logit) > min_opacity
    keep = valid & visible
    count = ExportCount(int(keep.sum()), int((~valid).sum()), int((valid & ~visible).sum()))
    return jax.tree.map(lambda x: x[keep], host), count


def num_invalid(gaussians: Gaussians) -> int:
    """How many of one scene's Gaussians no renderer can draw: a NaN, an infinite scale, a zero
    quaternion. Looked at in blocks, so that it needs little memory."""
    count = 0
    for first in range(0, len(gaussians.mean), BLOCK):
        part = jax.tree.map(lambda x, at=first: x[at : at + BLOCK], gaussians)
        count += int((~_normalised(part)[1]).sum())
    return count


def _normalised(gaussians: Gaussians) -> tuple[Gaussians, np.ndarray]:
    """As float32 NumPy arrays with unit quaternions and bounded logits, and which can be drawn."""
    host = jax.tree.map(lambda x: np.asarray(x, np.float32), gaussians)
    logit = np.minimum(host.opacity_logit, np.float32(MAX_OPACITY_LOGIT))
    length = np.linalg.norm(host.quaternion.astype(np.float64), axis=-1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        valid = np.isfinite(np.exp(host.log_scale)).all(axis=-1)
        unit = (host.quaternion / length).astype(np.float32)  # NaN of a zero quaternion
    host = host.replace(opacity_logit=logit, quaternion=unit)
    for value in jax.tree.leaves(host):
        valid &= np.isfinite(value).all(axis=tuple(range(1, value.ndim)))
    return host, valid


def opacity(opacity_logit) -> np.ndarray:
    """The logistic function, without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(opacity_logit, np.float64)))


def opacity_logit(opacity: np.ndarray) -> np.ndarray:
    """The inverse of `opacity`, float32, at most `MAX_OPACITY_LOGIT` from 0."""
    with np.errstate(divide="ignore"):
        value = np.asarray(opacity, np.float64)
        logit = np.log(value) - np.log1p(-value)
    return logit.clip(-MAX_OPACITY_LOGIT, MAX_OPACITY_LOGIT).astype(np.float32)


def importance_order(gaussians: Gaussians) -> np.ndarray:
    """Indices by descending opacity times volume: what a viewer should load first."""
    log_volume = gaussians.log_scale.astype(np.float64).sum(axis=-1)
    return np.argsort(-np.exp(log_volume) * opacity(gaussians.opacity_logit), kind="stable")
