"""What `python -m tttlrm_jax.render` reads."""

import dataclasses
from typing import Annotated, Literal

import tyro

from tttlrm_jax.config.validation import (
    FINITE,
    RGB,
    Bound,
    PathText,
    PositiveFloat,
    PositiveInt,
    check_fields,
    require,
)

FilmRate = Annotated[PositiveFloat, Bound(lambda rate: rate <= 240, "is above 240", "lower it")]
Angle = Annotated[
    float, Bound(lambda angle: 0 < angle < 180, "is not between 0 and 180", "give degrees")
]
Elevation = Annotated[
    float, Bound(lambda angle: -90 < angle < 90, "is not between -90 and 90", "give degrees")
]
Direction = Annotated[
    tuple[float, float, float],
    Bound(
        lambda axis: 0 < sum(x * x for x in axis) < float("inf"), "is no direction",
        "use e.g. 0 0 1",
    ),
]  # fmt: skip
OF_CIRCLES = ("fov", "up", "elevation", "distance")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """A scene, cameras, and where pictures go. Give --cameras, or --orbit, or both: then the path
    goes around what the cameras look at.
    """

    scene: tyro.conf.Positional[str]  # file of Gaussians, or output directory of eval.py
    # any camera file or capture that eval.py reads, in the scene's frame; needs no photographs
    cameras: PathText | None = None
    frames: str | None = None  # of the cameras, by number from 0: 0-9,20
    orbit: PositiveInt | None = None  # pictures from once around the scene
    # width height; None: each camera's own, 1280 720 of an orbit without cameras. Pictures of
    # another shape show the middle of what the camera sees
    size: tuple[int, int] | None = None
    output: PathText | None = None  # directory, or film.mp4; None: outputs/<scene>-<date>-<time>
    depth: bool = False  # also the mean depth of what each pixel sees, in depth/
    # png: 16 bits, thousandths of the scene's unit (millimetres where that is a metre), up to
    # 65.534 units; npy: float32 in the scene's unit; 0 is unknown in both
    depth_format: Literal["png", "npy"] = "png"
    background: RGB | None = None  # RGB in [0, 1] behind it; None: the run's, else black
    fov: Angle = 50.0  # of an orbit without cameras: degrees along the shorter side
    up: Direction = (0.0, -1.0, 0.0)  # of one; 0 0 1 for scenes from Blender or nerfstudio
    elevation: Elevation = 15.0  # of one: degrees above the scene
    distance: Annotated[PositiveFloat, FINITE] | None = None  # of one, in the scene's unit
    fps: FilmRate = 24.0  # pictures a second, of a film
    antialiased: bool = False  # for scenes that were fitted with antialiased splats
    compile_cache: bool = True  # keep compiled programs in the user's cache directory

    def __post_init__(self):
        check_fields("", self)
        require(
            self.cameras is not None or self.orbit is not None, "cameras", None,
            "and orbit=None say no camera", "give --cameras FILE, or e.g. --orbit 24",
        )  # fmt: skip
        require(
            self.size is None or 1 <= min(self.size) <= max(self.size) <= 2**15, "size", self.size,
            "is not a width and a height from 1 to 32768", "use e.g. 1280 720",
        )  # fmt: skip
        require(
            self.frames is None or self.cameras is not None, "frames", self.frames,
            "are numbers of cameras, of which there are none", "add --cameras FILE",
        )  # fmt: skip
        require(
            not (self.depth and self.is_film), "depth", True, "has no place in a film",
            "give a directory as --output",
        )  # fmt: skip
        for each in dataclasses.fields(self) if self.cameras is not None else ():
            value = getattr(self, each.name)
            require(
                each.name not in OF_CIRCLES or value == each.default, each.name, value,
                "is for an orbit without cameras", "leave one of them out",
            )  # fmt: skip

    @property
    def is_film(self) -> bool:
        """Whether pictures become a film."""
        return self.output is not None and self.output.lower().endswith(".mp4")
