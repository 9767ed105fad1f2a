"""Procedural scenes on disk: rendered once, memory-mapped afterwards.

A cache is a directory named after a hash of everything that decides pixels (not the number of
scenes, so a longer run extends a shorter one's cache). Inside, each shard is a directory of .npy
files for consecutive scenes. A shard is written under a temporary name and renamed when complete:
a killed build leaves whole shards only, and the next one renders just what is missing.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.data.images import composite
from tttlrm_jax.data.scenes import SceneViews
from tttlrm_jax.data.synthetic import RENDER_VERSION, render_object, scene_seed
from tttlrm_jax.errors import InputError

SHARD_SCENES = 16
ARRAYS = ("image", "depth", "world_from_camera", "intrinsics")


def cache_path(config: SyntheticConfig, directory: str | Path) -> Path:
    """Where the scenes of a configuration lie inside a cache directory."""
    fields = dataclasses.asdict(config) | {"render_version": RENDER_VERSION}
    del fields["num_scenes"]
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
    return Path(directory) / f"{config.split}-{config.height}x{config.width}-{digest}"


def build_cache(
    config: SyntheticConfig,
    directory: str | Path,
    num_workers: int = 1,
    progress: bool = True,
) -> Path:
    """Renders the missing shards with `num_workers` processes and returns the cache's path.

    Safe to kill at any time and to run twice at once. With more than one worker the calling
    script needs a `__main__` guard, as the workers are spawned.
    """
    path = cache_path(config, directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cache directory={path} cannot be created ({error.strerror}); choose another"
        ) from None
    _remove_abandoned(path)
    missing = [shard for shard in _shards(config) if not (path / _shard_name(shard)).is_dir()]
    if not missing:
        return path
    total = sum(stop - start for start, stop in missing)
    with tqdm(total=total, desc="rendering scenes", unit="scene", disable=not progress) as bar:
        for done in _render_all(config, path, missing, num_workers):
            bar.update(done)
    return path


class SyntheticScenes:
    """The scenes of a built cache, by index; reads only the views asked for."""

    def __init__(
        self,
        config: SyntheticConfig,
        directory: str | Path,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ):
        self.config, self.background = config, background
        self.path = cache_path(config, directory)
        for shard in _shards(config):
            if not (self.path / _shard_name(shard)).is_dir():
                raise InputError(
                    f"cache={self.path} lacks {_shard_name(shard)}; run build_cache first"
                )
        self._arrays: dict[tuple[int, int], dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.config.num_scenes

    def __getitem__(self, index: int) -> "SyntheticScene":
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        start = index - index % SHARD_SCENES
        shard = (start, min(start + SHARD_SCENES, len(self)))
        if shard not in self._arrays:
            folder = self.path / _shard_name(shard)
            self._arrays[shard] = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS
            }
        arrays = {name: array[index - start] for name, array in self._arrays[shard].items()}
        return SyntheticScene(f"{self.config.split}-{index:06d}", arrays, self.background)

    def __getstate__(self):
        return self.__dict__ | {"_arrays": {}}


class SyntheticScene:
    """One rendered object; a `Scene`."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray], background):
        self.name, self._arrays, self._background = name, arrays, background
        self.world_from_camera = np.array(arrays["world_from_camera"])

    def read(self, view_indices: np.ndarray) -> SceneViews:
        image, mask = composite(self._arrays["image"][view_indices], self._background)
        return SceneViews(
            image=image,
            mask=mask,
            depth=np.array(self._arrays["depth"][view_indices]),
            intrinsics=np.array(self._arrays["intrinsics"][view_indices]),
        )


def _shards(config: SyntheticConfig) -> list[tuple[int, int]]:
    starts = range(0, config.num_scenes, SHARD_SCENES)
    return [(start, min(start + SHARD_SCENES, config.num_scenes)) for start in starts]


def _shard_name(shard: tuple[int, int]) -> str:
    return f"scenes-{shard[0]:07d}-{shard[1]:07d}"


def _render_all(config, path, shards, num_workers):
    """Yields the number of scenes of each shard as it is finished."""
    if num_workers <= 1 or len(shards) == 1:
        for shard in shards:
            yield _write_shard(config, path, shard)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        min(num_workers, len(shards)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_die_with_parent,
    )
    with pool:
        pending = [pool.submit(_write_shard, config, path, shard) for shard in shards]
        try:
            for future in concurrent.futures.as_completed(pending):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _die_with_parent() -> None:
    """Ends this worker when the process that started it is gone, however it went."""
    parent = multiprocessing.parent_process()

    def wait():
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_shard(config: SyntheticConfig, path: Path, shard: tuple[int, int]) -> int:
    scenes = [render_object(scene_seed(config, index), config) for index in range(*shard)]
    final = path / _shard_name(shard)
    partial = path / f".partial-{socket.gethostname()}-{os.getpid()}-{final.name}"
    partial.mkdir()
    for name in ARRAYS:
        with open(partial / f"{name}.npy", "wb") as file:
            np.save(file, np.stack([scene[name] for scene in scenes]))
            file.flush()
            os.fsync(file.fileno())
    try:
        partial.rename(final)
    except OSError:
        shutil.rmtree(partial)
        if not final.is_dir():  # not lost to another builder of the same shard
            raise
    return len(scenes)


def _remove_abandoned(path: Path) -> None:
    """Deletes half-written shards whose process on this machine has ended."""
    for partial in path.glob(f".partial-{socket.gethostname()}-*"):
        process = int(partial.name.removeprefix(f".partial-{socket.gethostname()}-").split("-")[0])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            shutil.rmtree(partial, ignore_errors=True)
        except PermissionError:
            continue
