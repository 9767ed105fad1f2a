import concurrent.futures
import dataclasses
import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets import synthetic_cache
from tttlrm_jax.datasets.synthetic_cache import (
    ABANDONED_AFTER,
    ARRAYS,
    SHARD_SCENES,
    SyntheticScenes,
    build_cache,
    cache_path,
)
from tttlrm_jax.procedural.objects import render_object, scene_seed

CONFIG = SyntheticConfig(num_scenes=SHARD_SCENES + 3, num_views=3, height=12, width=16)


def shard_files(path):
    return {p.relative_to(path): p.read_bytes() for p in sorted(path.glob("scenes-*/*.npy"))}


def test_cached_scenes_are_the_rendered_ones(tmp_path):
    build_cache(CONFIG, tmp_path, progress=False)
    scenes = SyntheticScenes(CONFIG, tmp_path)
    assert len(scenes) == CONFIG.num_scenes
    for index in (0, SHARD_SCENES - 1, SHARD_SCENES, CONFIG.num_scenes - 1):
        direct = render_object(scene_seed(CONFIG, index), CONFIG)
        scene = scenes[index]
        np.testing.assert_array_equal(scene.world_from_camera, direct["world_from_camera"])
        views = scene.read(np.array([2, 0]))
        np.testing.assert_array_equal(views.depth, direct["depth"][[2, 0]])
        np.testing.assert_array_equal(views.intrinsics, direct["intrinsics"][[2, 0]])
        alpha = direct["image"][[2, 0], ..., 3:] / 255
        expected = direct["image"][[2, 0], ..., :3] / 255 * alpha + 1 - alpha
        np.testing.assert_allclose(views.image, expected, atol=1e-6)
        np.testing.assert_allclose(views.mask, alpha[..., 0], atol=1e-6)
    with pytest.raises(IndexError):
        scenes[CONFIG.num_scenes]


def test_workers_write_the_same_bytes(tmp_path):
    one = build_cache(CONFIG, tmp_path / "one", num_workers=1, progress=False)
    two = build_cache(CONFIG, tmp_path / "two", num_workers=2, progress=False)
    assert shard_files(one) == shard_files(two)
    assert len(shard_files(one)) == 2 * len(ARRAYS)


def test_a_longer_run_extends_a_shorter_ones_cache(tmp_path):
    path = build_cache(CONFIG, tmp_path, progress=False)
    first = path / f"scenes-{0:07d}-{SHARD_SCENES:07d}" / "image.npy"
    before = first.stat().st_mtime_ns
    longer = dataclasses.replace(CONFIG, num_scenes=2 * SHARD_SCENES)
    with pytest.raises(InputError, match="build_cache"):
        SyntheticScenes(longer, tmp_path)
    assert build_cache(longer, tmp_path, progress=False) == path
    assert first.stat().st_mtime_ns == before
    assert len(SyntheticScenes(longer, tmp_path)) == 2 * SHARD_SCENES
    assert len(SyntheticScenes(CONFIG, tmp_path)) == CONFIG.num_scenes


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "eval"}, {"width": 20}, {"max_fov": 60}])
def test_what_changes_pixels_changes_the_place(tmp_path, change):
    other = dataclasses.replace(CONFIG, **change)
    assert cache_path(other, tmp_path) != cache_path(CONFIG, tmp_path)


BUILD = """
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.datasets.synthetic_cache import build_cache
if __name__ == "__main__":
    build_cache(SyntheticConfig(num_scenes=800, num_views=3, height=12, width=16), {directory!r},
                num_workers={workers}, progress=False)
"""


@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_leaves_whole_shards_and_is_finished_later(tmp_path, workers):
    config = dataclasses.replace(CONFIG, num_scenes=800)
    script = tmp_path / "build.py"
    script.write_text(BUILD.format(directory=str(tmp_path / "cache"), workers=workers))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment)
    path = cache_path(config, tmp_path / "cache")
    while not list(path.glob("scenes-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survivors = list(path.glob("scenes-*"))
    assert 0 < len(survivors) < 800 // SHARD_SCENES
    for shard in survivors:
        for name in ARRAYS:
            assert len(np.load(shard / f"{name}.npy")) == SHARD_SCENES
    abandoned, under_way = path / ".partial-gpu-node-7-scenes-x", path / ".partial-0-scenes-x"
    for partial in (abandoned, under_way):
        partial.mkdir()
    os.utime(abandoned, (time.time() - 2 * ABANDONED_AFTER,) * 2)
    few = dataclasses.replace(config, num_scenes=4 * SHARD_SCENES)
    build_cache(few, tmp_path / "cache", progress=False)
    assert not abandoned.exists()
    assert under_way.is_dir()
    straight = build_cache(few, tmp_path / "straight", progress=False)
    finished = shard_files(path)
    assert shard_files(straight).items() <= finished.items()


class EndedWhileSubmitting:
    """A pool whose worker would go on for minutes; an exception comes with the second shard."""

    def __init__(self, *arguments, **named):
        self.workers = []

    def submit(self, *arguments):
        if self.workers:
            raise KeyboardInterrupt
        self.workers.append(sleeper())

    def shutdown(self, **named):
        assert not named["wait"]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def sleeper():
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    process.start()
    return process


def test_an_end_takes_this_builds_workers_alone(tmp_path, monkeypatch):
    """While shards are handed out already; other children of the caller live on."""
    monkeypatch.setattr(
        synthetic_cache.concurrent.futures, "ProcessPoolExecutor", EndedWhileSubmitting
    )
    callers = sleeper()
    try:
        with pytest.raises(KeyboardInterrupt):
            build_cache(CONFIG, tmp_path, num_workers=2, progress=False)
        for worker in set(multiprocessing.active_children()) - {callers}:
            worker.join(timeout=20)
        assert multiprocessing.active_children() == [callers]
    finally:
        for child in multiprocessing.active_children():
            child.kill()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        build_cache(CONFIG, tmp_path / "file", progress=False)


@pytest.fixture
def limit():
    """Lowers a soft resource limit for the test."""
    before = {}

    def lower(kind, value):
        before[kind] = resource.getrlimit(kind)
        resource.setrlimit(kind, (value, before[kind][1]))

    yield lower
    for kind, values in before.items():
        resource.setrlimit(kind, values)


def test_more_shards_than_file_descriptors(tmp_path, limit):
    """Also when every scene is kept: a scene holds no file."""
    one = dataclasses.replace(CONFIG, num_scenes=SHARD_SCENES)
    many = dataclasses.replace(CONFIG, num_scenes=300 * SHARD_SCENES)
    path = build_cache(one, tmp_path, progress=False)
    first = next(path.glob("scenes-*"))
    for start in range(SHARD_SCENES, many.num_scenes, SHARD_SCENES):
        (path / f"scenes-{start:07d}-{start + SHARD_SCENES:07d}").symlink_to(first)
    scenes = SyntheticScenes(many, tmp_path)
    limit(resource.RLIMIT_NOFILE, 1024)
    kept = [scenes[index] for index in range(0, many.num_scenes, SHARD_SCENES)]
    np.testing.assert_array_equal(
        kept[0].read(np.array([1])).image, kept[-1].read(np.array([1])).image
    )


def test_a_build_with_the_process_number_of_a_killed_one(tmp_path):
    path = cache_path(CONFIG, tmp_path)
    for shard in (f"scenes-{0:07d}-{SHARD_SCENES:07d}", "scenes-x"):
        (path / f".partial-{os.uname().nodename}-{os.getpid()}-{shard}").mkdir(parents=True)
    build_cache(CONFIG, tmp_path, progress=False)
    assert len(SyntheticScenes(CONFIG, tmp_path)) == CONFIG.num_scenes


def test_a_host_whose_name_continues_this_ones(tmp_path):
    path = cache_path(CONFIG, tmp_path)
    (path / f".partial-{os.uname().nodename}-two-77-scenes-x").mkdir(parents=True)
    build_cache(CONFIG, tmp_path, progress=False)
    assert len(SyntheticScenes(CONFIG, tmp_path)) == CONFIG.num_scenes


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_told_in_words(tmp_path, limit, workers):
    limit(resource.RLIMIT_FSIZE, 4096)  # inherited by workers
    with pytest.raises(InputError, match=r"scenes-0.*cannot be written \(.+\); free space"):
        build_cache(CONFIG, tmp_path, num_workers=workers, progress=False)
    path = cache_path(CONFIG, tmp_path)
    assert not list(path.glob("scenes-*"))
    deadline = time.monotonic() + 60  # the other worker is not waited for, and clears up by itself
    while list(path.glob(".partial-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(path.glob(".partial-*"))


def test_a_read_only_cache_serves_what_it_has(tmp_path, monkeypatch):
    build_cache(CONFIG, tmp_path, progress=False)
    make = Path.mkdir

    def refuse(self, *arguments, **options):
        if self.name.startswith(".partial-"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    build_cache(CONFIG, tmp_path, progress=False)
    longer = dataclasses.replace(CONFIG, num_scenes=2 * SHARD_SCENES)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        build_cache(longer, tmp_path, progress=False)


def test_a_damaged_shard_is_named(tmp_path):
    path = build_cache(CONFIG, tmp_path, progress=False)
    (next(path.glob("scenes-*")) / "depth.npy").write_bytes(b"")
    scenes = SyntheticScenes(CONFIG, tmp_path)
    with pytest.raises(InputError, match=r"scenes-0.*cannot be read"):
        _ = [scenes[index] for index in range(len(scenes))]


def test_headers_are_read_one_at_a_time(tmp_path, monkeypatch):
    """CPython 3.11 fails now and then when two threads parse with `ast`, as np.load does."""
    shards = 4
    config = dataclasses.replace(CONFIG, num_scenes=shards * SHARD_SCENES, num_views=1)
    build_cache(config, tmp_path, progress=False)
    scenes = SyntheticScenes(config, tmp_path)
    load, busy, overlaps = np.load, threading.Lock(), []

    def slow_load(*arguments, **options):
        overlaps.append(not busy.acquire(blocking=False))
        time.sleep(0.002)
        if not overlaps[-1]:
            busy.release()
        return load(*arguments, **options)

    monkeypatch.setattr(np, "load", slow_load)
    synthetic_cache._open_shard.cache_clear()
    with concurrent.futures.ThreadPoolExecutor(shards) as threads:
        list(threads.map(lambda shard: scenes[shard * SHARD_SCENES], range(shards)))
    assert len(overlaps) == shards * len(ARRAYS)
    assert not any(overlaps)
