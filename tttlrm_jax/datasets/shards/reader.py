"""Scenes from array_record shards, by random access and without TensorFlow."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from tttlrm_jax.captures.pictures.depth_files import depth_of_disparity
from tttlrm_jax.captures.pictures.images import ResizeMode, composite, flattened_to_size, resize_map
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.scenes import SceneViews, Split
from tttlrm_jax.datasets.shards.builder import TABLE_FILE
from tttlrm_jax.datasets.shards.records import decode

INFO_FILE = "dataset_info.json"
RECORD_FILES = "*.array_record*"
FINGERPRINTED = 2**16  # bytes at either end of a file of records


class ShardScenes:
    """The scenes of one split; a `SceneSource`. Reads only the records of the views asked for.

    For `eval` without a split of that name, and for `train` then, frames whose numbers are
    multiples of `holdout_every` are held out (0: none); with one, the splits are apart.
    """

    def __init__(
        self,
        directory: str | Path,
        split: Split,
        size: tuple[int, int],
        resize_mode: ResizeMode = "lact",
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        holdout_every: int = 8,
    ):
        path = find_shards(directory)
        table = _read_table(path)
        splits = {name.split("/")[0] for name in table}
        self.holdout_every = 0 if {"train", "eval"} <= splits else holdout_every
        stored = split if split in splits else "train"
        if stored not in splits:
            raise InputError(
                f"shards={path} hold the splits {sorted(splits)} and no train; write them again"
            )
        prefix = f"{stored}/"
        self.table = {n.removeprefix(prefix): a for n, a in table.items() if n.startswith(prefix)}
        self.path, self.split, self.size = path, stored, size
        self.resize_mode: ResizeMode = resize_mode
        self.background = background
        builder = tfds.builder_from_directory(path)
        self.records = builder.as_data_source(split=stored)  # pyright: ignore[reportCallIssue]

    def __len__(self) -> int:
        return len(self.table["count"])

    def __getitem__(self, index: int) -> "ShardScene":
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        return ShardScene(self, index)


class ShardScene:
    """One stored scene; a `Scene`."""

    def __init__(self, scenes: ShardScenes, index: int):
        self._scenes, self._first = scenes, int(scenes.table["first"][index])
        part = slice(self._first, self._first + int(scenes.table["count"][index]))
        self.name = str(scenes.table["name"][index])
        self.world_from_camera = scenes.table["world_from_camera"][part]
        self._intrinsics = scenes.table["intrinsics"][part]
        self._numbers = scenes.table["number"][part]

    @property
    def held_out(self) -> np.ndarray | None:
        every = self._scenes.holdout_every
        return self._numbers % every == 0 if every else None

    def read(self, view_indices: np.ndarray) -> SceneViews:
        indices = [int(index) for index in view_indices]
        records = self._scenes.records.__getitems__([self._first + index for index in indices])
        views = [self._view(index, r) for index, r in zip(indices, records, strict=True)]
        images, masks, depths, intrinsics = zip(*views, strict=True)
        table = self._scenes.table
        return SceneViews(
            image=np.stack(images),
            intrinsics=np.stack(intrinsics),
            mask=np.stack(masks) if table["has_mask"] else None,
            depth=np.stack(depths) if table["has_depth"] else None,
        )

    def _view(self, index: int, record: dict):
        """Image, mask, depth (None where not stored) and intrinsics of one view."""
        scenes, lens = self._scenes, self._intrinsics[index]
        where = f"shards={scenes.path}: scene {self.name} view {index}"
        pixels, depth = decode(record["image"], where), None
        if record["depth"]:
            depth = np.float32(record["depth_unit"]) * decode(record["depth"], where)
        elif record["disparity"]:
            depth = depth_of_disparity(decode(record["disparity"], where))
        if depth is not None:
            depth = resize_map(depth.astype(np.float32), scenes.size, scenes.resize_mode)
        if pixels.shape[:2] == scenes.size:
            image, mask = composite(pixels, scenes.background)
            return image, mask, depth, lens
        image, mask, lens = flattened_to_size(
            pixels, lens, scenes.size, scenes.resize_mode, scenes.background
        )
        return image, np.ones(scenes.size, np.float32) if mask is None else mask, depth, lens


def find_shards(directory: str | Path) -> Path:
    """The dataset's own folder, given it or the folder it was written below."""
    below = sorted(Path(directory).glob(f"scene_shards/*/{INFO_FILE}"))
    if (Path(directory) / INFO_FILE).is_file():
        return Path(directory)
    if not below:
        raise InputError(
            f"data.shard_directory={directory} holds no shards ({INFO_FILE}); write them with "
            "python -m tttlrm_jax.datasets.prepare"
        )
    return below[-1].parent


def fingerprint_of_shards(directory: str | Path) -> str:
    """A digest of what shards hold, the same wherever they lie.

    It covers names, cameras and places of all scenes, and size, beginning and end of every file of
    records: not every byte of the pictures. Raises InputError where there are no shards.
    """
    path = find_shards(directory)
    digest = hashlib.sha256()
    for name, array in sorted(_load_table(path).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    for file in sorted(path.glob(RECORD_FILES)):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(FINGERPRINTED))
            stream.seek(max(0, size - FINGERPRINTED))
            digest.update(stream.read(FINGERPRINTED))
    return digest.hexdigest()


@functools.lru_cache(maxsize=8)
def _read_table(path: Path) -> dict[str, np.ndarray]:
    return _load_table(path)


def _load_table(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path / TABLE_FILE, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"shards={path}: {TABLE_FILE} cannot be read ({error}); write them again"
        ) from None
