"""Where scenes come from and how views of them are chosen; rooms that a camera walks through."""

import dataclasses
import math
from typing import Annotated, Literal

from tttlrm_jax.config.validation import (
    RGB,
    Bound,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    between,
    check_fields,
    require,
)

PoseFrame = Literal["mean_cam", "first_cam", "focus"]  # see core.geometry.poses.normalise_poses
FrameViews = Literal["inputs", "all"]
Elevation = Annotated[float, between(-90, 90)]  # degrees
# of rooms that a camera walks through
FieldOfView = Annotated[
    float, Bound(lambda angle: 0 < angle < 180, "is not between 0 and 180", "use a value inside")
]
Side = Annotated[
    float, Bound(lambda side: 0 < side < math.inf, "is not between 0 and inf", "use a value inside")
]
Speed = Annotated[
    float, Bound(lambda speed: 0 <= speed < math.inf, "is not finite or below 0", "use 0 or more")
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Procedural objects inside the unit ball, seen by cameras on spheres around it.

    `primitives` are smooth solids with solid textures; `sculptures` are meshes that may swell, have
    bites or be wires, with pictures and shadows; `rooms` hold clusters of these around the cameras'
    common centre; `models` are those of glTF and Wavefront files, under random lamps.
    """

    generator: Literal["primitives", "sculptures", "rooms", "models"] = "primitives"
    models: tuple[str, ...] = ()  # ZIP archives, folders or files that `models` are read from
    models_credit: str = ""  # who made them, under which licence; kept beside what shows them
    bad_models: Literal["leave_out", "refuse"] = "leave_out"  # those that cannot be read
    num_scenes: PositiveInt = 2048
    num_views: PositiveInt = 16  # rendered per scene
    height: PositiveInt = 64
    width: PositiveInt = 64
    split: Literal["train", "eval"] = "train"  # scene seeds of the two are disjoint
    seed: NonNegativeInt = 0
    min_primitives: PositiveInt = 1
    max_primitives: int = 9
    min_distance: float = 1.5  # of the camera from the origin
    max_distance: float = 2.8
    min_fov: PositiveFloat = 35.0  # degrees across the shorter image side
    max_fov: Annotated[float, between(0, 120)] = 70.0
    min_elevation: Elevation = -30.0  # degrees above the equator (world z is up)
    max_elevation: Elevation = 75.0
    azimuth_span: PositiveFloat = 360.0  # degrees; of the sector of one scene's cameras
    look_jitter: Annotated[float, between(0, 0.5)] = 0.1  # of the point looked at from the origin
    supersampling: PositiveInt = 2  # n x n rays in pixels with edges or contrast; 1 switches it off

    def __post_init__(self):
        check_fields("synthetic", self)
        require(
            self.min_distance >= 1.2, "synthetic.min_distance", self.min_distance,
            "is below 1.2, inside or at the unit ball of the object", "use 1.2 or more",
        )  # fmt: skip
        require(
            self.generator != "models" or (len(self.models) > 0 and self.models_credit != ""),
            "synthetic.models, synthetic.models_credit",
            f"{list(self.models)}, {self.models_credit!r}", "are empty while generator=models",
            "name files and who made them, under which licence",
        )  # fmt: skip
        require(
            self.generator == "primitives" or self.supersampling <= 2, "synthetic.supersampling",
            self.supersampling, f"exceeds 2, the most that {self.generator} know", "use 1 or 2",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """Size of pictures, of rooms and of a walk; ConfigError where no room follows from it."""

    height: PositiveInt = 48
    width: PositiveInt = 64
    min_fov: FieldOfView = 55.0  # degrees across the width, one per sequence
    max_fov: FieldOfView = 75.0
    min_boxes: PositiveInt = 4
    max_boxes: int = 9
    min_side: Side = 4.0  # metres, of the floor
    max_side: Side = 8.0
    supersampling: PositiveInt = 2  # its square of rays per pixel for colour; depth has one
    walk_speed: Speed = 0.05  # metres per frame, about the mean
    turn_speed: Speed = 1.5  # degrees per frame, about the mean
    start_range: Annotated[float, between(0, 360)] = 360.0  # degrees from +x on of first headings
    compass: bool = False  # walls, floor and ceiling keep their hues from room to room

    def __post_init__(self):
        check_fields("room", self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where scenes come from and how an item (inputs and targets of one scene) is drawn."""

    source: Literal["synthetic", "captures", "shards"] = "synthetic"
    synthetic: SyntheticConfig = SyntheticConfig()
    cache_directory: str = "cache/synthetic"  # holds rendered scenes, keyed by the configuration
    render_workers: PositiveInt = 2  # processes that fill the cache
    shard_directory: str = ""  # of a dataset that datasets.prepare wrote
    capture_directories: tuple[str, ...] = ()
    capture_height: PositiveInt = 64  # captures and shards are resized to this
    capture_width: PositiveInt = 64
    capture_depth: bool = False  # read disparity that datasets.prepare_depth put beside captures
    capture_resize: Literal["tttlrm", "lact"] = "lact"  # x and y apart, or isotropic and cropped
    holdout_every: NonNegativeInt = 8  # frames 0, 8, ... are drawn in evaluation only; 0: none kept
    short_scenes: Literal["leave_out", "refuse"] = "leave_out"  # those with too few frames
    changed_scenes: Literal["refuse", "go_on"] = "refuse"  # go_on: resume with data edited since
    num_input_views: PositiveInt = 4
    num_target_views: PositiveInt = 4
    num_virtual_views: PositiveInt | None = None  # inputs that carry the Gaussians; None: all
    targets_include_inputs: bool = False  # targets are drawn from all views, inputs among them
    view_selection: Literal["random", "kmeans", "range"] = "random"
    min_frame_range: PositiveInt = 128  # width in frames of the window that `range` draws from
    max_frame_range: int = 512
    # frames drawn at random, of the window where there is one, before inputs and targets are drawn
    # from them; None: all
    num_pool_views: PositiveInt | None = None
    pose_normalisation: PoseFrame = "mean_cam"
    normalise_over: FrameViews = "inputs"  # views that define frame and scale
    background: RGB = (1.0, 1.0, 1.0)  # under transparent pixels
    mirror_probability: Share = 0.0  # of training on the mirrored scene
    reverse_probability: Share = 0.0  # of taking the input views in the opposite order
    min_crop: Annotated[float, between(0.1, 1)] = 1.0  # smallest share of sides; 1: all
    random_background: Share = 0.0  # probability of a colour of its own under a training item
    num_threads: NonNegativeInt = 4  # reading ahead; 0 reads in the calling thread
    prefetch: NonNegativeInt = 8  # batches kept ready; 0 switches it off

    def __post_init__(self):
        check_fields("data", self)
        require(
            self.holdout_every != 1, "data.holdout_every", 1, "holds every frame out",
            "use 2 or more, or 0 to hold none out",
        )  # fmt: skip
        require(
            self.source != "captures" or len(self.capture_directories) > 0,
            "data.capture_directories", self.capture_directories,
            "is empty while data.source=captures", "name at least one directory",
        )  # fmt: skip
        require(
            self.source != "shards" or self.shard_directory != "", "data.shard_directory", "''",
            "is empty while data.source=shards", "name the directory of a dataset",
        )  # fmt: skip
        needed = self.num_input_views
        needed += 0 if self.targets_include_inputs else self.num_target_views
        require(
            self.source != "synthetic" or needed <= self.synthetic.num_views,
            "data.num_input_views + data.num_target_views", needed,
            f"exceeds data.synthetic.num_views={self.synthetic.num_views}",
            "render more views per scene or draw fewer",
        )  # fmt: skip
        self._check_pool()

    def _check_pool(self) -> None:
        pool = self.num_pool_views
        if pool is None:
            return
        inputs, targets = self.num_input_views, self.num_target_views
        together = max(inputs, targets) if self.targets_include_inputs else inputs + targets
        require(
            pool >= together, "data.num_pool_views", pool,
            f"is less than the {together} views that an item draws from it",
            "raise it, or draw fewer views",
        )  # fmt: skip
        require(
            self.view_selection != "kmeans", "data.num_pool_views", pool,
            "is drawn at random, which data.view_selection=kmeans is not",
            "leave it out, or use random or range",
        )  # fmt: skip
        narrow = self.view_selection == "range" and pool > self.min_frame_range
        require(
            not narrow, "data.num_pool_views", pool,
            f"exceeds data.min_frame_range={self.min_frame_range}",
            "lower it, or widen the windows",
        )  # fmt: skip
        require(
            self.source != "synthetic" or pool <= self.synthetic.num_views,
            "data.num_pool_views", pool,
            f"exceeds data.synthetic.num_views={self.synthetic.num_views}",
            "render more views per scene or lower it",
        )  # fmt: skip

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in a batch."""
        if self.source == "synthetic":
            return self.synthetic.height, self.synthetic.width
        return self.capture_height, self.capture_width

    @property
    def reading_size(self) -> tuple[int, int]:
        """Height and width at which training reads captures and shards, such that the smallest
        cut-out of `min_crop` has a batch's pixels."""
        return tuple(math.ceil(side / self.min_crop) for side in self.image_size)  # type: ignore
