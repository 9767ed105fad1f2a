"""Scenes as they are stored in shards: one record per view, and what encodes and decodes it.

Pictures stay encoded (PNG, or the bytes of the photograph). Depth and disparity are 16-bit PNG,
0 where unknown: depth is the value times the record's `depth_unit`, disparity is free of shift and
scale.
"""

import concurrent.futures
import dataclasses
import functools
import io
import multiprocessing
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.pictures.depth_files import disparity_path
from tttlrm_jax.captures.pictures.frame_pixels import read_pixels
from tttlrm_jax.captures.pictures.images import DECODING_ERRORS, is_transparent, open_image, resize
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.synthetic_cache import start_worker
from tttlrm_jax.procedural.generators import render_scene
from tttlrm_jax.procedural.model_files import model_credits
from tttlrm_jax.procedural.objects import scene_seed

DEPTH_LEVELS = 65535
PNG_EFFORT = 1  # of zlib: the fastest
JPEG_QUALITY = 95  # and WebP's, whose transparency has no loss
WEBP_SIDE = 16383  # pixels at most


@dataclasses.dataclass(frozen=True)
class ViewRecord:
    """One encoded picture with what is known of its pixels; empty bytes are not known."""

    image: bytes
    depth: bytes = b""
    depth_unit: float = 0.0
    disparity: bytes = b""


@dataclasses.dataclass(frozen=True)
class SceneRecord:
    """A scene to be stored; v views. `numbers` are those of its camera file."""

    name: str
    world_from_camera: np.ndarray  # float64 [v, 4, 4]
    intrinsics: np.ndarray  # float64 [v, 4] in pixels of the stored pictures
    numbers: np.ndarray  # int64 [v]
    views: Iterable[ViewRecord]
    has_mask: bool
    has_depth: bool  # depth or disparity
    credit: str = ""  # who made it, under which licence


def synthetic_records(config: SyntheticConfig, num_workers: int = 1) -> Iterator[SceneRecord]:
    """Renders the scenes of a configuration in order, with so many processes.

    With more than one the calling script needs a `__main__` guard, as the workers are spawned.
    """
    render = functools.partial(_synthetic_record, config)
    if num_workers <= 1:
        yield from map(render, range(config.num_scenes))
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), start_worker
    )
    with pool:
        ahead = 4 * num_workers  # so many scenes wait in memory at most
        pending = [pool.submit(render, index) for index in range(min(ahead, config.num_scenes))]
        for index in range(config.num_scenes):
            yield pending.pop(0).result()
            if index + ahead < config.num_scenes:
                pending.append(pool.submit(render, index + ahead))


def _synthetic_record(config: SyntheticConfig, index: int) -> SceneRecord:
    scene = render_scene(scene_seed(config, index), config)
    name = f"{config.generator}-{config.split}-{index:07d}"
    credit = _credits_of_models(config) if config.generator == "models" else ""
    return rendered_record(name, scene, credit)


@functools.lru_cache(maxsize=2)
def _credits_of_models(config: SyntheticConfig) -> str:
    return "\n".join(model_credits(config))


def rendered_record(name: str, scene: dict[str, np.ndarray], credit: str = "") -> SceneRecord:
    """Encodes what a generator returns."""
    unit = float(max(scene["depth"].max(), 1e-6)) / DEPTH_LEVELS
    views = [
        ViewRecord(encode(image), encode(to_levels(depth, unit)), unit)
        for image, depth in zip(scene["image"], scene["depth"], strict=True)
    ]
    numbers = np.arange(len(views))
    return SceneRecord(
        name, scene["world_from_camera"], scene["intrinsics"], numbers, views, True, True, credit
    )


def capture_records(
    captures: Iterable[Capture], max_side: int | None = None, credit: str = ""
) -> Iterator[SceneRecord]:
    """Encodes captures: masked, undistorted, with pictures at most `max_side` pixels wide and high.

    Photographs that none of it changes keep their bytes. Disparity beside a capture comes along.
    """
    return (capture_record(capture, max_side, credit) for capture in captures)


def capture_record(capture: Capture, max_side: int | None = None, credit: str = "") -> SceneRecord:
    """The record of one capture, as `capture_records` gives it."""
    sizes, intrinsics = stored_cameras(capture, max_side)
    has_depth = capture.has_disparity()
    return SceneRecord(
        name=capture.name,
        world_from_camera=capture.world_from_camera,
        intrinsics=intrinsics,
        numbers=capture.frame_numbers,
        views=(_capture_view(capture, n, size, has_depth) for n, size in enumerate(sizes)),
        has_mask=capture.has_alpha(),
        has_depth=has_depth,
        credit=credit,
    )


def stored_cameras(
    capture: Capture, max_side: int | None
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Sizes (height, width) of the pictures that are stored, and their intrinsics [frame, 4]."""
    taken = [capture.image_size(n) for n in range(len(capture))]
    sizes = [_stored_size(size, max_side) for size in taken]
    scale = np.tile((np.array(sizes) / np.array(taken))[:, ::-1], 2)  # of fx, fy, cx, cy
    return sizes, np.stack([frame.intrinsics for frame in capture.frames]) * scale


def _stored_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    if max_side is None or max(size) <= max_side:
        return size
    return tuple(max(1, round(side * max_side / max(size))) for side in size)  # type: ignore


def _capture_view(
    capture: Capture, number: int, size: tuple[int, int], has_disparity: bool
) -> ViewRecord:
    frame = capture.frames[number]
    disparity = b""
    if has_disparity:
        disparity = disparity_path(capture.directory, frame.name).read_bytes()
    as_stored = not frame.distortion and (frame.mask is None or frame.mask.path is None)
    if capture.image_size(number) == size and as_stored:
        return ViewRecord(Path(frame.image_path).read_bytes(), disparity=disparity)
    pixels = read_pixels(frame)
    if pixels.shape[-1] == 4 and pixels[..., 3].min() == 255:
        pixels = pixels[..., :3]
    if pixels.shape[:2] != size:
        pixels = resize(pixels, frame.intrinsics, size, "tttlrm")[0]
    return ViewRecord(encode(pixels, _kind(frame, pixels)), disparity=disparity)


def _kind(frame: Frame, pixels: np.ndarray) -> str:
    """Of file: without loss where the picture or its mask has none, as photographs otherwise."""
    if pixels.shape[-1] == 3:
        return "JPEG"
    drawn = frame.mask is not None or open_image(frame.image_path, is_transparent)
    return "PNG" if drawn or max(pixels.shape) > WEBP_SIDE else "WEBP"


def to_levels(depth: np.ndarray, unit: float) -> np.ndarray:
    """uint16 of depth >= 0, in units; what is known does not become 0."""
    levels = np.clip(np.rint(depth / unit), 1, DEPTH_LEVELS)
    return np.where(depth > 0, levels, 0).astype(np.uint16)


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """File of uint8 [height, width, 3 or 4] or, as PNG, uint16 [height, width]."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, compress_level=PNG_EFFORT, quality=JPEG_QUALITY)
    return out.getvalue()


def decode(encoded: bytes, what: str) -> np.ndarray:
    """Pixels of an encoded picture, RGB or RGBA uint8, or 16-bit grey as int64.

    `what` names the record in the InputError that broken bytes raise.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.mode.startswith("I"):
                return np.asarray(image).astype(np.int64)
            return np.asarray(image.convert("RGBA" if is_transparent(image) else "RGB"))
    except DECODING_ERRORS as error:
        raise InputError(f"{what} cannot be decoded ({error}); write the shards again") from None
