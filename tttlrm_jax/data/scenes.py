"""What every source of training scenes offers: poses at once, pixels of chosen views on demand."""

import dataclasses
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class SceneViews:
    """Some views of a scene, in the scene's own units."""

    image: np.ndarray  # float32 [view, height, width, 3] in [0, 1], on the background
    mask: np.ndarray  # float32 [view, height, width] coverage in [0, 1]
    depth: np.ndarray  # float32 [view, height, width] z depth, 0 where unknown
    intrinsics: np.ndarray  # float64 [view, 4] in pixels of this image size


class Scene(Protocol):
    """A posed scene whose images are read lazily."""

    @property
    def name(self) -> str: ...

    @property
    def world_from_camera(self) -> np.ndarray:
        """Poses float64 [view, 4, 4]."""
        ...

    def read(self, view_indices: np.ndarray) -> SceneViews:
        """Loads the views with these numbers, in this order."""
        ...


class SceneSource(Protocol):
    """Random access to scenes; thread-safe."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Scene: ...
