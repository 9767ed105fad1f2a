"""What every source of training scenes offers: poses at once, pixels of chosen views on demand."""

import dataclasses
from typing import Literal, Protocol

import numpy as np

Split = Literal["train", "eval"]


@dataclasses.dataclass(frozen=True)
class SceneViews:
    """Some views of a scene, in the scene's own units; None for what its source does not know."""

    image: np.ndarray  # float32 [view, height, width, 3] in [0, 1], on the background
    intrinsics: np.ndarray  # float64 [view, 4] in pixels of this image size
    mask: np.ndarray | None = None  # float32 [view, height, width] coverage in [0, 1]
    # float32 [view, height, width] z depth, 0 where rays miss or it is not known; the depth of
    # captures is the inverse of a disparity that is free of shift and scale
    depth: np.ndarray | None = None
    # bool [view, height, width] of pixels that show the scene, where it was asked for; None: all do
    valid: np.ndarray | None = None


class Scene(Protocol):
    """A posed scene whose images are read lazily."""

    @property
    def name(self) -> str: ...

    @property
    def world_from_camera(self) -> np.ndarray:
        """Poses float64 [view, 4, 4]."""
        ...

    @property
    def held_out(self) -> np.ndarray | None:
        """Marks views [view] kept for evaluation; None where the scene as a whole is or is not."""
        ...

    def read(self, view_indices: np.ndarray) -> SceneViews:
        """Loads the views with these numbers, in this order."""
        ...


class SceneSource(Protocol):
    """Random access to scenes; thread-safe. All have masks or none, all have depth or none."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Scene: ...
