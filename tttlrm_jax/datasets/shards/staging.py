"""Scenes that are finished before their shards are: a file each, so that a stopped command goes on.

A scene is a ZIP file (stored, not packed) of its pictures, its cameras and of what it was made
from; it gets its name when it is whole, and checksums tell damage when it is read. Shards are
written from these files in one go, and appear at once. A lock keeps two commands from one place.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.whole_files import draft_of
from tttlrm_jax.datasets.shards.records import SceneRecord, ViewRecord

FOLDER = ".preparing"  # in the directory of the shards
ABOUT, CAMERAS = "about.json", "cameras.npz"
ARRAYS = ("world_from_camera", "intrinsics", "numbers")
BROKEN = (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError)


class Stage:
    """The finished scenes of one command, in a folder below `directory`."""

    def __init__(self, directory: str | Path):
        self.folder = Path(directory) / FOLDER

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Raises InputError where another command is at work in the same place."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "lock").touch()
        except OSError as error:
            raise InputError.of(
                "output", self.folder.parent, f"cannot be written ({error.strerror})",
                "choose another",
            ) from None  # fmt: skip
        with open(self.folder / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError.of(
                    "output", self.folder.parent, "is being written by another command",
                    "wait for it or choose another",
                ) from None  # fmt: skip
            for draft in self.folder.glob(".*.partial"):
                draft.unlink()
            yield

    def path(self, name: str) -> Path:
        """The file of a scene; names may hold any characters."""
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.zip"

    def about(self, name: str, made_from: str) -> dict[str, Any] | None:
        """What was said of a scene that is finished and was made from the same; else None."""
        try:
            with zipfile.ZipFile(self.path(name)) as file:
                about = json.loads(file.read(ABOUT))
                return about["said"] if about["made_from"] == made_from else None
        except BROKEN:
            return None

    def put(self, name: str, made_from: str, said: dict[str, Any], scene: SceneRecord | None):
        """Writes a scene, or with None that it was left out, with what is `said` of it."""
        path = self.path(name)
        draft = draft_of(path)
        try:
            with open(draft, "wb") as stream:
                with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
                    _write(file, scene)
                    about = {"made_from": made_from, "said": said, "scene": _described(scene)}
                    file.writestr(ABOUT, json.dumps(about))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(draft, path)
        except OSError as error:
            raise InputError.of(
                "output", self.folder, f"cannot be written ({error.strerror})", "free space there"
            ) from None

    def scene(self, name: str) -> SceneRecord:
        """A finished scene, whose pictures are read when they are asked for."""
        path = self.path(name)
        try:
            with zipfile.ZipFile(path) as file:
                described = json.loads(file.read(ABOUT))["scene"]
                with np.load(io.BytesIO(file.read(CAMERAS)), allow_pickle=False) as arrays:
                    cameras = {name: arrays[name] for name in ARRAYS}
        except BROKEN as error:
            raise _damaged(path, error) from None
        return SceneRecord(**described, **cameras, views=_views(path, len(cameras["numbers"])))

    def remove(self) -> None:
        """Deletes all of it, once the shards are written."""
        shutil.rmtree(self.folder)


def _described(scene: SceneRecord | None) -> dict[str, Any] | None:
    if scene is None:
        return None
    return {name: getattr(scene, name) for name in ("name", "has_mask", "has_depth", "credit")}


def _write(file: zipfile.ZipFile, scene: SceneRecord | None) -> None:
    if scene is None:
        return
    cameras = io.BytesIO()
    np.savez(cameras, **{name: getattr(scene, name) for name in ARRAYS})
    file.writestr(CAMERAS, cameras.getvalue())
    for number, view in enumerate(scene.views):
        for field, value in dataclasses.asdict(view).items():
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            file.writestr(f"{number}/{field}", content)


def _views(path: Path, count: int) -> Iterator[ViewRecord]:
    names = [field.name for field in dataclasses.fields(ViewRecord)]
    with zipfile.ZipFile(path) as file:
        for number in range(count):
            try:
                parts: dict[str, Any] = {name: file.read(f"{number}/{name}") for name in names}
                view = ViewRecord(**parts | {"depth_unit": json.loads(parts["depth_unit"])})
            except BROKEN as error:
                raise _damaged(path, error) from None
            yield view


def _damaged(path: Path, error: Exception) -> InputError:
    """What to say of a finished scene that was damaged since; deletes it, so that it is remade."""
    path.unlink(missing_ok=True)
    return InputError(
        f"scene file={path} was damaged after it was written ({error}) and is deleted; start the "
        "command again, which makes that scene anew"
    )
