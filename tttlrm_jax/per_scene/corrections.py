"""What photographs have of their own beside the scene: cameras a little off, and exposure.

A camera is corrected in its own axes: turned by `r` and moved by `m`, `world_from_camera @ [R m]`.
Exposure multiplies what the scene shows by a gain and adds an offset, by channel; a background
under transparent pixels was put there later and has none. Every view has moments of Adam of its
own, which move when it is fitted.

Moving all cameras with the scene, or brightening all photographs, changes nothing that a loss
sees. So exposures have the mean 0 after each step, and at the end the scene goes to where its
cameras are nearest to those that were given (`nearest_similarity`); decay keeps both small.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.rotations import rotation_from_quaternion
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.rasterize import Rendering

ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-15)
LEAST_GAIN = 0.05  # of an exposure fitted by least squares
RIDGE = 1e-3  # of that fit, in mean squared opacity: towards no change


@flax.struct.dataclass
class Corrections:
    """Of views, with their axes in front; None for what is not corrected."""

    camera: Float[Array, "*view 6"] | None = None  # turn in radians, movement in world units
    exposure: Float[Array, "*view 2 3"] | None = None  # logarithm of the gain, offset


@flax.struct.dataclass
class CorrectionState:
    """Corrections of all views [view, ...] that are fitted, and Adam's moments of each."""

    values: Corrections
    moments: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrectionRates:
    """Of Adam for one view, at the start and at the end (`end` is a share)."""

    turn: float = 2e-3  # radians
    move: float = 2e-3  # scene extents
    exposure: float = 1e-2
    end: float = 0.1
    decay: float = 0.1  # of corrections, in rates


CORRECTION_RATES = CorrectionRates()


def no_corrections(num_views: int, *, cameras: bool, exposure: bool) -> CorrectionState | None:
    """Before the first step; None where nothing is to be corrected."""
    if not (cameras or exposure):
        return None
    values = Corrections(
        camera=jnp.zeros((num_views, 6)) if cameras else None,
        exposure=jnp.zeros((num_views, 2, 3)) if exposure else None,
    )
    return CorrectionState(values=values, moments=jax.vmap(ADAM.init)(values))  # type: ignore


def corrected_steps(
    state: CorrectionState,
    slopes: Corrections,
    rows: Int[Array, " view"],
    rates: CorrectionRates,
    extent: Float[Array, ""],
    progress: Float[Array, ""],
) -> CorrectionState:
    """The state after one step of the views `rows`, each named once, with their derivatives."""
    own = jax.tree.map(lambda x: x[rows], state.moments)
    slopes = jax.tree.map(lambda s: jnp.where(jnp.isfinite(s), s, 0), slopes)
    updates, own = jax.vmap(ADAM.update)(slopes, own)  # type: ignore[arg-type]
    fall = jnp.exp(progress * np.log(rates.end).astype(np.float32))
    sizes = Corrections(
        camera=jnp.where(jnp.arange(6) < 3, rates.turn, rates.move * extent)[None],
        exposure=jnp.full((1, 1, 1), rates.exposure),
    )

    def moved(value, update, size):
        old = value[rows]
        return value.at[rows].set(old - fall * size * update - fall * size * rates.decay * old)

    values = Corrections(
        **{
            name: None if value is None else moved(value, getattr(updates, name), size)
            for name, value, size in _fields(state.values, sizes)
        }
    )
    moments = jax.tree.map(lambda all_, new: all_.at[rows].set(new), state.moments, own)
    return CorrectionState(values=_centred(values), moments=moments)


def _fields(values: Corrections, sizes: Corrections):
    for field in dataclasses.fields(values):
        yield field.name, getattr(values, field.name), getattr(sizes, field.name)


def _centred(values: Corrections) -> Corrections:
    """With exposures whose mean is no change."""
    if values.exposure is None:
        return values
    mean = jnp.mean(values.exposure, axis=0, keepdims=True)
    return values.replace(exposure=values.exposure - mean)


def corrected(camera: Cameras, own: Corrections | None) -> Cameras:
    """One camera turned and moved in its own axes."""
    if own is None or own.camera is None:
        return camera
    turn, move = own.camera[:3], own.camera[3:]
    # of this length the quaternion turns by 2 atan(|turn| / 2): by |turn|, where that is small
    rotation = rotation_from_quaternion(jnp.concatenate([jnp.ones(1, turn.dtype), 0.5 * turn]))
    pose = camera.world_from_camera
    axes = pose[:3, :3]
    turned = jnp.sum(axes[:, :, None] * rotation[None], axis=1)  # no matrix product: full precision
    centre = pose[:3, 3] + jnp.sum(axes * move[None], axis=1)
    new = pose.at[:3, :3].set(turned).at[:3, 3].set(centre)
    return Cameras(new, camera.intrinsics, camera.height, camera.width)


def exposed(
    rendering: Rendering, background: tuple[float, float, float], own: Corrections | None
) -> Float[Array, "height width 3"]:
    """The picture as this photograph was exposed."""
    if own is None or own.exposure is None:
        return rendering.rgb
    scene, behind = _apart(rendering, background)
    gain, offset = jnp.exp(own.exposure[0]), own.exposure[1]
    return gain[None, None] * scene + offset[None, None] * rendering.alpha[..., None] + behind


def fitted_exposure(
    rendering: Rendering, background: tuple[float, float, float], view: Views
) -> Float[Array, "2 3"]:
    """The exposure that brings the picture nearest to the photograph, by least squares."""
    scene, behind = _apart(rendering, background)
    alpha = jnp.broadcast_to(rendering.alpha[..., None], scene.shape)
    weight = 1.0 if view.valid is None else view.valid[..., None]
    seen = view.image - behind

    def over(values):
        return jnp.mean(weight * values, axis=(0, 1))

    ridge = RIDGE * over(alpha * alpha) + 1e-12
    aa, ab, bb = over(scene * scene) + ridge, over(scene * alpha), over(alpha * alpha) + ridge
    ya, yb = over(seen * scene) + ridge, over(seen * alpha)  # the ridge draws gains to 1
    determinant = aa * bb - ab * ab
    gain = (ya * bb - yb * ab) / determinant
    offset = (yb * aa - ya * ab) / determinant
    return jnp.stack([jnp.log(jnp.maximum(gain, LEAST_GAIN)), offset])


def _apart(rendering: Rendering, background: tuple[float, float, float]):
    """What the scene shows, and the background behind it."""
    colour = jnp.asarray(background, rendering.rgb.dtype)
    behind = (1 - rendering.alpha)[..., None] * colour[None, None]
    return rendering.rgb - behind, behind


def nearest_similarity(corrected: np.ndarray, given: np.ndarray) -> PoseNormalisation:
    """Takes corrected poses [view, 4, 4] nearest to given ones: all turned, moved and scaled alike.

    The turn is the mean of their axes' (so that few or straight paths suffice), then scale and
    movement are least squares of the centres.
    """
    new, old = np.asarray(corrected, np.float64), np.asarray(given, np.float64)
    left, _, right = np.linalg.svd(np.einsum("vij,vkj->ik", old[:, :3, :3], new[:, :3, :3]))
    mirror = np.diag([1.0, 1.0, np.linalg.det(left @ right)])
    rotation = left @ mirror @ right
    from_new, from_old = (poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0) for poses in (new, old))
    turned, spread = from_new @ rotation.T, np.sum(from_new**2)
    scale = float(np.sum(turned * from_old) / spread) if spread > 1e-12 else 1.0
    translation = old[:, :3, 3].mean(axis=0) - scale * rotation @ new[:, :3, 3].mean(axis=0)
    return PoseNormalisation(rotation=rotation, translation=translation, scale=scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photographs:
    """What photographs were found to have of their own; NumPy, None for what was not fitted."""

    world_from_camera: np.ndarray | None  # float64 [view, 4, 4], in the frame of the views
    turned: np.ndarray | None  # degrees [view] from the camera that was given
    moved: np.ndarray | None  # units of the frame [view]
    gain: np.ndarray | None  # [view, 3]: of what the scene shows
    offset: np.ndarray | None  # [view, 3], added to it


Part = tuple[np.ndarray, CorrectionState | None]  # numbers of views, and their corrections


def settled_result(
    gaussians: Gaussians, given: Cameras, fitted: Part, held: Part
) -> tuple[Gaussians, Photographs | None]:
    """Gaussians where the cameras that were fitted are nearest to the given ones [view, ...], and
    what all photographs have of their own; None where nothing was corrected."""
    camera, exposure = (_of_all(name, given, fitted, held) for name in ("camera", "exposure"))
    if camera is None and exposure is None:
        return gaussians, None
    poses = turned = moved = None
    if camera is not None:
        own = Corrections(camera=jnp.asarray(camera, jnp.float32))
        new = np.asarray(jax.vmap(corrected)(given, own).world_from_camera, np.float64)
        old = np.asarray(given.world_from_camera, np.float64)
        back = nearest_similarity(new[fitted[0]], old[fitted[0]])
        gaussians, poses = transform_gaussians(gaussians, back), back.apply_poses(new)
        turned, moved = _apart_from(poses, old)
    return gaussians, Photographs(
        world_from_camera=poses,
        turned=turned,
        moved=moved,
        gain=None if exposure is None else np.exp(exposure[:, 0]),
        offset=None if exposure is None else exposure[:, 1],
    )


def _of_all(name: str, given: Cameras, *parts: Part) -> np.ndarray | None:
    """One kind of correction of all views, float64 [view, ...]; None where there is none."""
    known = [
        (rows, np.asarray(getattr(state.values, name), np.float64))
        for rows, state in parts
        if state is not None and getattr(state.values, name) is not None
    ]
    if not known:
        return None
    values = np.zeros((len(given.world_from_camera), *known[0][1].shape[1:]))
    for rows, own in known:
        values[rows] = own
    return values


def _apart_from(poses: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees and lengths [view] between poses [view, 4, 4]."""
    cosine = 0.5 * (np.einsum("vij,vij->v", poses[:, :3, :3], others[:, :3, :3]) - 1)
    length = np.linalg.norm(poses[:, :3, 3] - others[:, :3, 3], axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))), length
