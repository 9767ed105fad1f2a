"""Scenes as a model sees them: frames read, poses normalised, and scores against held-out views.

Everything here is in the frame the model was trained in: poses normalised as its data
configuration says. `PosedScene.similarity` leads there from the frame of the capture.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.api.request import Request
from tttlrm_jax.api.virtual_views import read_virtual
from tttlrm_jax.captures.capture import Capture, CaptureScene
from tttlrm_jax.captures.pictures.frame_pixels import VALID_LEVEL
from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.geometry.poses import PoseNormalisation, normalise_poses
from tttlrm_jax.core.pictures import backdrop
from tttlrm_jax.core.scenes import SceneViews
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.metrics.baselines import mean_colour, nearest_input
from tttlrm_jax.metrics.images import SSIM_WINDOW, psnr, ssim
from tttlrm_jax.metrics.lpips import LPIPS

MAX_PSNR = 100.0  # dB; what equal pictures count as
# what a model is held against, as tables call it
BASELINES = {
    "nearest_input": "nearest input view",
    "mean_colour": "mean colour of the inputs",
    "untrained": "untrained model",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosedScene:
    """Input and target views of a capture, ready for the model."""

    name: str
    input_names: list[str]
    target_names: list[str]
    inputs: Views  # [1, input, ...]
    targets: Views  # [1, target, ...]
    target_mask: np.ndarray | None  # [target, height, width] coverage; None without transparency
    # bool [input or target, height, width]: pixels that show the scene, or count; None: all do
    input_valid: np.ndarray | None = None
    target_valid: np.ndarray | None = None
    background_free: bool = False  # nothing transparent, and nobody asked for a background
    similarity: PoseNormalisation  # from the capture's frame
    # views that carry the Gaussians, as the model saw them: places among the inputs, or others;
    # None: the inputs
    virtual: np.ndarray | Views | Cameras | None = None
    # height and width to these views with other pixels, in the same frame; None: not on disk
    read_at: "Callable[[tuple[int, int]], PosedScene] | None" = None
    # to triangulated positions [point, 3] in the frame of the views, and colours, if there are any
    read_points: Callable[[], tuple[np.ndarray, np.ndarray] | None] = lambda: None
    notes: tuple[str, ...] = ()  # what makes a score say less than it seems to

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.inputs.cameras.height, self.inputs.cameras.width

    @property
    def background_share(self) -> float:
        """Of the target pixels that are scored; 0 where none is transparent."""
        if self.target_mask is None:
            return 0.0
        valid = self.target_valid
        scored = self.target_mask if valid is None else self.target_mask[valid]
        transparent = (scored < VALID_LEVEL / 255).any()
        return 1 - float(scored.mean()) if transparent else 0.0

    @property
    def photographs(self) -> Views:
        """The input views [input, ...], with the pixels that show the scene."""
        valid = None if self.input_valid is None else on_device(self.input_valid)
        return self.inputs[0].replace(valid=valid)

    def fitted_on(self, background: tuple[float, float, float]) -> tuple[float, float, float]:
        """The colour, RGB in [0, 1], that Gaussians are fitted on: `background` where pictures have
        transparency or it was asked for, else that of a plain backdrop. Where there is none any
        will do: the mean of the pictures is nearest."""
        if not self.background_free:
            return background
        images = np.asarray(self.inputs.image[0])
        valid = np.ones(images.shape[:3], bool) if self.input_valid is None else self.input_valid
        colour = backdrop(images, valid)
        colour = images[valid].mean(axis=0) if colour is None else colour
        red, green, blue = colour.tolist()
        return red, green, blue

    def at(self, resolution: tuple[int, int]) -> "PosedScene":
        """The same views, read again with so many pixels. Raises InputError where they cannot."""
        if tuple(resolution) == self.resolution:
            return self
        if self.read_at is None:
            raise InputError.of(
                "resolution", resolution, f"is not the {self.resolution} of views that are not on "
                "disk", "leave it out",
            )  # fmt: skip
        return dataclasses.replace(self.read_at(resolution), virtual=self.virtual)

    @property
    def all_cameras(self) -> Cameras:
        """Cameras [input + target, ...] on the host, in the model's frame."""
        both = self.inputs.cameras, self.targets.cameras
        return jax.tree.map(lambda a, b: np.concatenate([a[0], b[0]]), *both)

    @property
    def target_cameras(self) -> Cameras:
        """Cameras [target, ...] of the held-out views, in the model's frame."""
        return jax.tree.map(lambda x: x[0], self.targets.cameras)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """How near pictures come to held-out views: NumPy float64 [target] each.

    PSNR in dB, SSIM as published for images (1 is equal), LPIPS (0 is equal). Printed, it says
    the means; `scores.mean("psnr")` is one of them.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    psnr_foreground: np.ndarray | None  # inside the capture's masks; NaN where a mask is empty
    lpips: np.ndarray | None

    def mean(self, name: str) -> float | None:
        """Mean over the views that have a number; None if none has."""
        values = getattr(self, name)
        return None if values is None or np.isnan(values).all() else float(np.nanmean(values))

    def __str__(self) -> str:
        text = f"PSNR {self.mean('psnr'):.2f} dB, SSIM {self.mean('ssim'):.3f}"
        if self.lpips is not None:
            text += f", LPIPS {self.mean('lpips'):.3f}"
        return f"{text} (means over {len(self.psnr)} held-out views)"


def pose_scene(capture: Capture, request: Request, data: DataConfig) -> PosedScene:
    """Loads the frames and normalises their poses as in training, or by the request's similarity.

    Raises InputError for images that cannot be read or do not fit their cameras.
    """
    size, num_inputs = request.resolution, len(request.inputs)
    frames = np.concatenate([request.inputs, request.targets])
    views = CaptureScene(
        capture, size, data.capture_resize, request.background, use_valid=True
    ).read(frames)
    raw, similarity = capture.world_from_camera[frames], request.similarity
    if similarity is None:
        reference = raw if data.normalise_over == "all" else raw[:num_inputs]
        similarity = normalise_poses(raw, data.pose_normalisation, reference)[1]
    poses = similarity.apply_poses(raw)
    first, last = slice(0, num_inputs), slice(num_inputs, None)
    mask = None if views.mask is None else views.mask[last]
    same_frame = dataclasses.replace(request, similarity=similarity)
    return PosedScene(
        name=capture.name,
        input_names=[capture.frames[index].name for index in request.inputs],
        target_names=[capture.frames[index].name for index in request.targets],
        inputs=_part(views, poses, size, first),
        targets=_part(views, poses, size, last),
        target_mask=None if mask is None or mask.min() == 1.0 else mask,
        input_valid=None if views.valid is None else views.valid[first],
        target_valid=_scored(None if views.valid is None else views.valid[last]),
        background_free=not request.background_asked and not _transparent(views),
        similarity=similarity,
        virtual=read_virtual(
            request.virtual, poses[:num_inputs], similarity, size, data, request.background
        ),
        read_at=functools.partial(_read_again, capture, same_frame, data),
        read_points=functools.cache(functools.partial(_points, capture, similarity)),
        notes=(
            *_chosen_twice(capture, request),
            *_shown_twice(capture, request, views.image),
            *_left_out(views.valid),
        ),
    )


def _part(views: SceneViews, poses: np.ndarray, size: tuple[int, int], where: slice) -> Views:
    """Some of the views with posed cameras, [1, view, ...]."""
    lenses = on_device(views.intrinsics[None, where], np.float32)
    cameras = Cameras(on_device(poses[None, where], np.float32), lenses, *size)
    return Views(on_device(views.image[None, where]), cameras)


def _read_again(
    capture: Capture, request: Request, data: DataConfig, resolution: tuple[int, int]
) -> PosedScene:
    request = dataclasses.replace(request, resolution=resolution, virtual=None)
    return pose_scene(capture, request, data)


def _points(
    capture: Capture, similarity: PoseNormalisation
) -> tuple[np.ndarray, np.ndarray] | None:
    """The capture's points in the frame of the views, and their colours."""
    found = capture.points()
    return None if found is None else (similarity.apply_points(found[0]), found[1])


def _transparent(views: SceneViews) -> bool:
    """Whether some pixel that shows the scene shows the background through it."""
    if views.mask is None:
        return False
    shown = views.mask if views.valid is None else views.mask[views.valid]
    return bool((shown < VALID_LEVEL / 255).any())


def _scored(valid: np.ndarray | None) -> np.ndarray | None:
    """Pixels of targets that count: all of one that shows nothing of the scene in its middle."""
    if valid is None or valid.all():
        return None
    margin = SSIM_WINDOW // 2
    middle = valid[:, margin:-margin, margin:-margin]
    return valid | ~np.any(middle, axis=(1, 2), keepdims=True)


def _left_out(valid: np.ndarray | None) -> tuple[str, ...]:
    """Says how much of the views shows nothing of the scene."""
    if valid is None:
        return ()
    return (
        f"{100 * (1 - float(valid.mean())):.2g} % of the pixels of the views lie past the edge of "
        "their photograph or under a mask of what is to be left out: the model sees the background "
        "there, they are not scored, and Gaussians are not fitted to them",
    )


def _chosen_twice(capture: Capture, request: Request) -> tuple[str, ...]:
    """Names inputs that are taken more than once, by k-means or by the list of the capture."""
    frames, counts = np.unique(request.inputs, return_counts=True)
    twice = [capture.frames[index].name for index in frames[counts > 1]]
    if not twice:
        return ()
    return (
        f"{listed(twice)} {'is an input' if len(twice) == 1 else 'are inputs'} more than once: "
        "nearest to more than one cluster of cameras, as published; --frames names others",
    )


def _shown_twice(capture: Capture, request: Request, images: np.ndarray) -> tuple[str, ...]:
    """Names targets whose pixels, of `images` [input + target, ...], are also those of an input."""
    keys = [hashlib.sha256(np.ascontiguousarray(each).data).digest() for each in images]
    inputs = dict(zip(keys, request.inputs, strict=False))  # there are more keys: the targets'
    found = [
        f"{capture.frames[target].name} (input {capture.frames[inputs[key]].name})"
        for target, key in zip(request.targets, keys[len(request.inputs) :], strict=True)
        if key in inputs
    ]
    if not found:
        return ()
    verb = "target is also an input" if len(found) == 1 else "targets are also inputs"
    return (
        f"{len(found)} {verb}, the same picture pixel for pixel: {listed(found)}; what such views "
        "score says nothing of views that were not seen",
    )


def score(images: np.ndarray, scene: PosedScene, lpips: LPIPS | None = None) -> Scores:
    """Scores pictures [target, height, width, 3] against the scene's targets.

    A picture equal to its target counts as `MAX_PSNR`. Pixels of targets that do not show the
    scene do not count; LPIPS and windows of SSIM that reach them see the target there.
    """
    made, target = on_device(images), scene.targets.image[0]
    mask, valid = scene.target_mask, scene.target_valid
    if valid is not None:
        valid = on_device(valid)
        made = jnp.where(valid[..., None], made, target)
    foreground = None
    if mask is not None:
        foreground = np.minimum(_float64(_psnr(made, target, on_device(mask))), MAX_PSNR)
    return Scores(
        psnr=np.minimum(_float64(_psnr(made, target, valid)), MAX_PSNR),
        ssim=_float64(_ssim(made, target, valid)),
        psnr_foreground=foreground,
        lpips=None if lpips is None else _float64(lpips(made, target)),
    )


def colour_aligned_psnr(images: np.ndarray, scene: PosedScene) -> np.ndarray:
    """PSNR in dB float64 [target] once each picture has the gain and the offset by channel that
    bring it nearest to its target, by least squares over pixels that show the scene."""
    target = _float64(scene.targets.image[0])
    shown = np.ones(target.shape[:3], bool)
    if scene.target_mask is not None:
        shown &= scene.target_mask >= VALID_LEVEL / 255
    if scene.target_valid is not None:
        shown &= scene.target_valid
    aligned = _float64(images).copy()
    for picture, photograph, where in zip(aligned, target, shown, strict=True):
        for channel in range(3 if where.sum() > 1 else 0):
            values = picture[where, channel]
            line = np.stack([values, np.ones_like(values)], axis=1)
            fitted, *_ = np.linalg.lstsq(line, photograph[where, channel], rcond=None)
            picture[where, channel] = line @ fitted
    return score(aligned.astype(np.float32), scene).psnr


def baseline_pictures(scene: PosedScene) -> dict[str, np.ndarray]:
    """Pictures [target, height, width, 3] of the baselines that need no model, by name."""
    inputs = np.asarray(scene.inputs.image)[0]
    input_poses, target_poses = (
        np.asarray(views.cameras.world_from_camera, np.float64)[0]
        for views in (scene.inputs, scene.targets)
    )
    return {
        "mean_colour": mean_colour(inputs, len(target_poses)),
        "nearest_input": nearest_input(inputs, input_poses, target_poses)[0],
    }


def _float64(values) -> np.ndarray:
    return np.asarray(values, np.float64)


_psnr = jax.jit(psnr)
_ssim = jax.jit(ssim)
