"""How the surface of a scene is found; `MeshConfig` is about devices."""

import dataclasses
from typing import Annotated, Literal

from tttlrm_jax.config.validation import (
    FINITE,
    Bound,
    PositiveFloat,
    PositiveInt,
    check_fields,
    require,
)

DEFAULT_RESOLUTION = 256
LEAST_FACES = 4  # of a closed surface
MeshFormat = Literal["ply", "obj", "glb"]

Voxels = Annotated[int, Bound(lambda n: n >= 8, "is below 8", "use 8 or more, e.g. 256")]
Truncation = Annotated[float, Bound(lambda t: 1 <= t <= 64, "is not in [1, 64]", "use e.g. 4")]
Faces = Annotated[int, Bound(lambda n: n >= LEAST_FACES, "is below 4", "use e.g. 50000")]
Side = Annotated[int, Bound(lambda n: 16 <= n <= 8192, "is not in [16, 8192]", "use e.g. 512")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceConfig:
    """Depth from many cameras, fused into a truncated signed distance field, and its surface."""

    voxel: Annotated[PositiveFloat, FINITE] | None = None  # side, in units of the scene
    # voxels along the longest side of the scene; None: 256, unless voxel says more
    resolution: Voxels | None = None
    truncation: Truncation = 4.0  # distances are known up to here from the surface, in voxels
    # of Gaussians along a ray: where half of the light is gone, or the mean by weight
    depth: Literal["median", "expected"] = "median"
    # cameras at most, evenly chosen; None: 64 for Gaussians, all frames of a sequence
    views: PositiveInt | None = None
    size: Side = 512  # pixels of the pictures drawn of Gaussians, longer side
    # close the surface: what is hidden from half of the cameras and none sees empty is inside
    watertight: bool = False
    largest_component: bool = False  # leave out whatever hangs together with less
    faces: Faces | None = None  # triangles to simplify to; None: all
    memory_limit: Annotated[PositiveFloat, FINITE] = 4.0  # GiB of voxels and depth, by estimate

    def __post_init__(self):
        check_fields("", self)
        require(
            self.voxel is None or self.resolution is None, "resolution", self.resolution,
            "is given beside voxel, which says how many there are", "leave one of them out",
        )  # fmt: skip
