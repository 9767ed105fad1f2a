"""Photographs without cameras, and a stand-in for pycolmap that finds them at once."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.capture_forms import MadeScene, colmap_binary
from tttlrm_jax.structure_from_motion import captures
from tttlrm_jax.structure_from_motion.diagnosis import Evidence

COUNT = 5


@pytest.fixture
def photographs(tmp_path) -> Path:
    """A folder `desk` with five small pictures."""
    folder = tmp_path / "desk"
    folder.mkdir()
    for number in range(COUNT):
        picture = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"p{number}.png")
    return folder


@dataclasses.dataclass
class Model:
    """As much of a COLMAP model as is asked of it."""

    names: list[str]

    def num_reg_images(self) -> int:
        return len(self.names)

    def reg_image_ids(self):
        return range(len(self.names))

    def image(self, number: int) -> "Model":
        return dataclasses.replace(self, names=[self.names[number]])

    @property
    def name(self) -> str:
        return self.names[0]

    def num_points3D(self) -> int:
        return 7

    def compute_mean_reprojection_error(self) -> float:
        return 0.5


class FakeColmap:
    """Gives a camera to the first `found` pictures, and to a second model some; counts runs."""

    found, found_apart, runs, fails = COUNT, 0, 0, False
    colmap = type("colmap", (), {"__version__": "0"})

    def __init__(self, images: Path, names: list[str]):
        self.images, self.names = images, names

    @classmethod
    def open(cls, work: Path, images: Path, names: list[str]) -> "FakeColmap":
        cls.runs += 1
        (work / "database.db").touch()
        return cls(images, names)

    def extract(self, masks: Path | None) -> None:
        if self.fails:
            raise KeyboardInterrupt

    def match(self, pairs) -> None:
        assert pairs == captures.all_pairs(len(self.names))

    def map(self, target: Path) -> list[Model]:
        if not self.found:
            return []
        images = np.zeros((len(self.names), 24, 32, 3), np.uint8)
        poses = np.tile(np.eye(4), (len(images), 1, 1))
        poses[:, 0, 3] = range(len(images))
        drawn = target.parent / "drawn"
        shutil.rmtree(drawn, ignore_errors=True)
        colmap_binary(drawn, MadeScene(images, poses, (30.0, 30.0, 16.0, 12.0)))
        (drawn / "sparse" / "0").rename(target)
        _rename(target / "images.bin", self.names)
        parts = self.names[: self.found], self.names[self.found :][: self.found_apart]
        return [Model(part) for part in parts if part]

    def parallax(self, model: Model) -> float:
        return 20.0

    def evidence(self) -> Evidence:
        return Evidence(len(self.names), 50, 3, 0)


def _rename(file: Path, names: list[str]) -> None:
    """The made model's 000000.png, ... become the pictures' names."""
    content = file.read_bytes()
    for number, name in enumerate(names):
        content = content.replace(f"{number:06d}.png".encode(), name.encode())
    file.write_bytes(content)


@pytest.fixture
def colmap(monkeypatch) -> type[FakeColmap]:
    """In the place of pycolmap."""
    fake = type("Fake", (FakeColmap,), {})
    monkeypatch.setattr(captures, "Colmap", fake)
    monkeypatch.setattr(captures, "load_pycolmap", lambda: None)
    return fake
