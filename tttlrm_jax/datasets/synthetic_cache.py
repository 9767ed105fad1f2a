"""Procedural scenes on disk: rendered once, memory-mapped afterwards.

A cache is a directory named after a hash of everything that decides pixels (not the number of
scenes, so a longer run extends a shorter one's cache). Inside, each shard is a directory of .npy
files for consecutive scenes. A shard is written under a temporary name and renamed when complete:
a killed build leaves whole shards only, and the next one renders just what is missing.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
import uuid
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tttlrm_jax.captures.pictures.images import composite
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.whole_files import write_whole
from tttlrm_jax.core.host_memory import keep_freed_memory
from tttlrm_jax.core.scenes import SceneViews
from tttlrm_jax.procedural.generators import GENERATORS, render_scene
from tttlrm_jax.procedural.model_files import model_credits, open_models
from tttlrm_jax.procedural.objects import scene_seed

SHARD_SCENES = 16
CREDITS_FILE = "CREDITS.txt"  # beside scenes of models that others made
ARRAYS = ("image", "depth", "world_from_camera", "intrinsics")
OPEN_SHARDS = 32  # mapped at once in a process; each holds a file descriptor per array
ABANDONED_AFTER = 3600.0  # seconds; a shard is written within a few, its rendering comes before
# NumPy parses the headers of .npy files with `ast`, which fails in two threads at once on
# CPython 3.11 (SystemError: AST constructor recursion depth mismatch).
_ONE_HEADER_AT_A_TIME = threading.Lock()


def cache_path(config: SyntheticConfig, directory: str | Path) -> Path:
    """Where the scenes of a configuration lie inside a cache directory."""
    version = GENERATORS[config.generator].version
    fields = dataclasses.asdict(config) | {"render_version": version}
    del fields["num_scenes"]
    if config.generator == "primitives":  # their caches are older than the choice
        del fields["generator"]
    for name in ("models", "models_credit", "bad_models"):  # models count by what they hold
        del fields[name]
    if config.generator == "models":
        fields["models"] = [each.identity() for each in open_models(config.models)]
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
    if config.generator == "models":
        write_whole(path / CREDITS_FILE, "\n".join(model_credits(config)) + "\n")
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

    def __len__(self) -> int:
        return self.config.num_scenes

    def __getitem__(self, index: int) -> "SyntheticScene":
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        return SyntheticScene(self, index)

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """The mapped arrays of a scene. Keep none of them: they keep its shard open."""
        start = index - index % SHARD_SCENES
        shard = (start, min(start + SHARD_SCENES, len(self)))
        mapped = _open_shard(self.path / _shard_name(shard))
        return {name: array[index - start] for name, array in mapped.items()}


class SyntheticScene:
    """One rendered object; a `Scene`. Holds no file open."""

    held_out = None  # evaluation has scenes of its own

    def __init__(self, scenes: SyntheticScenes, index: int):
        self.name = f"{scenes.config.split}-{index:06d}"
        self.world_from_camera = np.array(scenes.arrays(index)["world_from_camera"])
        self._scenes, self._index = scenes, index

    def read(self, view_indices: np.ndarray) -> SceneViews:
        mapped = self._scenes.arrays(self._index)
        image, mask = composite(mapped["image"][view_indices], self._scenes.background)
        exact = {name: np.array(mapped[name][view_indices]) for name in ("depth", "intrinsics")}
        return SceneViews(image=image, mask=mask, **exact)


@functools.lru_cache(maxsize=OPEN_SHARDS)  # thread-safe; a shard's files close when it drops out
def _open_shard(folder: Path) -> dict[str, np.ndarray]:
    try:
        with _ONE_HEADER_AT_A_TIME:
            return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"cache shard={folder} cannot be read ({_reason(error)}); delete it and start again"
        ) from error


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
    others = set(multiprocessing.active_children())  # the caller's
    pool = concurrent.futures.ProcessPoolExecutor(
        min(num_workers, len(shards)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
    )
    try:
        pending = [pool.submit(_write_shard, config, path, shard) for shard in shards]
        for future in concurrent.futures.as_completed(pending):
            yield future.result()
    except BaseException:  # an end, too: nobody waits for the shards begun
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def start_worker() -> None:
    """Lets this process render faster for keeping its memory, and end when the one that started
    it is gone, however it went."""
    keep_freed_memory()
    parent = multiprocessing.parent_process()

    def wait():
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_shard(config: SyntheticConfig, path: Path, shard: tuple[int, int]) -> int:
    scenes = [render_scene(scene_seed(config, index), config) for index in range(*shard)]
    final = path / _shard_name(shard)
    partial = path / f".partial-{uuid.uuid4().hex}-{final.name}"
    try:
        partial.mkdir()
        for name in ARRAYS:
            with open(partial / f"{name}.npy", "wb") as file:
                np.save(file, np.stack([scene[name] for scene in scenes]))
                file.flush()
                os.fsync(file.fileno())
        _publish(partial, final)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"cache={path} lacks {final.name}, which cannot be written ({_reason(error)}); "
            "free space there or choose another cache directory"
        ) from error
    return len(scenes)


def _publish(partial: Path, final: Path) -> None:
    """Gives a complete shard its name, unless another builder was first."""
    try:
        partial.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(partial)


def _remove_abandoned(path: Path) -> None:
    """Deletes half-written shards of builds that were killed, told by their age."""
    for partial in path.glob(".partial-*"):
        try:
            age = time.time() - partial.stat().st_mtime
        except FileNotFoundError:  # its writer has just finished it
            continue
        if age > ABANDONED_AFTER:
            shutil.rmtree(partial, ignore_errors=True)


def _reason(error: Exception) -> str:
    """What the system says, in words; NumPy's own errors have no `strerror`."""
    return getattr(error, "strerror", None) or str(error)
