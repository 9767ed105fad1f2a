"""Folders of many captures: our own layouts, DL3DV's and RealEstate10K's.

`captures`: every sub-folder that `read_capture` knows. `dl3dv`: a folder per scene with
`transforms.json` (in it, in `nerfstudio` or in `colmap`) whose pictures are also there at a part
of their size, such as `images_4`. `realestate`: a text file per clip, its pictures in a folder of
the clip's name beside it or under `frames/`, each called after its time stamp.
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tttlrm_jax.captures.camera_files import Frame, read_camera_file
from tttlrm_jax.captures.capture import Capture, make_capture, read_capture
from tttlrm_jax.captures.forms.realestate import read_clip
from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.captures.pictures.reduced import resized_frame
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.natural_order import natural_order

DL3DV_FOLDERS = ("nerfstudio", "colmap")  # of the benchmark, and of scenes with COLMAP's files


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionConfig:
    """A folder of captures and how it is laid out."""

    directory: str
    layout: str = "captures"
    image_folder: str = "images_4"  # of a DL3DV scene
    skip_missing: bool = False  # leave frames without their image out
    skip_broken: bool = False  # leave captures that cannot be read out, each named in one line


def open_collection(config: CollectionConfig) -> Iterator[Capture]:
    """Reads the captures of a folder, in order of their paths.

    Raises InputError if it has none, and at one that cannot be read unless `skip_broken`.
    """
    captures = (each for each in read_each(config) if isinstance(each, Capture))
    first = next(captures, None)
    if first is None:
        raise InputError.of(
            "directory", config.directory, f"holds no capture of layout {config.layout}",
            "name its folder or another layout",
        )  # fmt: skip
    return itertools.chain([first], captures)


def read_each(config: CollectionConfig) -> Iterator[Capture | InputError]:
    """The captures of a folder, in order of their paths, and with `skip_broken` in place of those
    that cannot be read what is wrong with them, which is printed, too."""
    root = Path(config.directory)
    if config.layout not in LAYOUTS:
        raise InputError.of("layout", config.layout, "is unknown", f"use one of {list(LAYOUTS)}")
    if not root.is_dir():
        raise InputError.of("directory", root, "is not a directory", "name a folder of captures")
    for reader in LAYOUTS[config.layout](config, root):
        try:
            capture = reader()
        except InputError as error:
            if not config.skip_broken:
                raise InputError(f"{error} (or leave such captures out: --skip-broken)") from None
            print(f"left out: {error}", file=sys.stderr)
            yield error
            continue
        for note in capture.notes:
            print(f"note: {capture.name}: {note}", file=sys.stderr)
        yield capture


def _plain(config: CollectionConfig, root: Path) -> Iterator[Callable[[], Capture]]:
    for folder in natural_order(path for path in root.iterdir() if path.is_dir()):
        yield functools.partial(read_capture, folder, config.skip_missing)


def _dl3dv(config: CollectionConfig, root: Path) -> Iterator[Callable[[], Capture]]:
    for path in natural_order(root.rglob("transforms.json")):
        scene = path.parent.parent if path.parent.name in DL3DV_FOLDERS else path.parent
        name = str(scene.relative_to(root)).replace("/", "-")
        yield functools.partial(read_dl3dv, path, config.image_folder, name, config.skip_missing)


def read_dl3dv(
    path: Path, image_folder: str, name: str | None = None, skip_missing: bool = False
) -> Capture:
    """A capture of `transforms.json` with its pictures taken from `image_folder` beside it.

    Cameras there belong to the whole size `w`, `h`; intrinsics become those of the pictures.
    """
    contents = read_camera_file(path)
    folder = path.parent / image_folder
    frames = [_moved(frame, folder, path) for frame in contents.frames]
    found = next((frame for frame in frames if frame.image_path.is_file()), None)
    if found is None:
        raise InputError(f"{path}: {folder} holds none of its {len(frames)} images; restore them")
    size = image_size(found.image_path)
    contents = dataclasses.replace(
        contents, scene_name=name or contents.scene_name, looked_in=(folder,), about_pictures=(),
        frames=tuple(resized_frame(frame, size) for frame in frames),
    )  # fmt: skip
    return make_capture(contents, path, skip_missing)


def _moved(frame: Frame, folder: Path, path: Path) -> Frame:
    if frame.size is None:
        raise InputError(
            f"{path}: frame {frame.number} ({frame.name}) has no w and h; give the size of the "
            "pictures that its camera belongs to"
        )
    moved = folder / Path(frame.name).name
    return dataclasses.replace(frame, name=f"{folder.name}/{moved.name}", image_path=moved)


def _realestate(config: CollectionConfig, root: Path) -> Iterator[Callable[[], Capture]]:
    for path in natural_order(root.rglob("*.txt")):
        places = (path.with_suffix(""), root / "frames" / path.stem)
        folder = next((place for place in places if place.is_dir()), None)
        if folder is not None:
            yield functools.partial(read_realestate, path, folder, config.skip_missing)
        elif not config.skip_missing:
            yield functools.partial(_without_pictures, path, places)


def _without_pictures(path: Path, places: tuple[Path, Path]) -> Capture:
    raise InputError(
        f"clip={path} has no pictures in {places[0]} or {places[1]}; restore them or leave "
        "such clips out (--skip-missing)"
    )


def read_realestate(path: Path, folder: Path, skip_missing: bool = False) -> Capture:
    """A clip of RealEstate10K (`forms.realestate`) whose pictures lie in `folder`."""
    return make_capture(read_clip(path, folder), folder / path.name, skip_missing)


LAYOUTS: dict[str, Callable[[CollectionConfig, Path], Iterator[Callable[[], Capture]]]] = {
    "captures": _plain,
    "dl3dv": _dl3dv,
    "realestate": _realestate,
}
