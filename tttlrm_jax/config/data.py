"""Where scenes come from and how views of them are chosen; rooms that a camera walks through."""

import dataclasses
import math
from typing import Literal

from tttlrm_jax.config.validation import check_fields, require, require_positive
from tttlrm_jax.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Procedural objects inside the unit ball, seen by cameras on spheres around it.

    `primitives` are smooth solids with solid textures; `sculptures` are meshes that may swell, have
    bites or be wires, with pictures and shadows; `rooms` hold clusters of these around the cameras'
    common centre.
    """

    generator: Literal["primitives", "sculptures", "rooms"] = "primitives"
    num_scenes: int = 2048
    num_views: int = 16  # rendered per scene
    height: int = 64
    width: int = 64
    split: Literal["train", "eval"] = "train"  # scene seeds of the two are disjoint
    seed: int = 0
    min_primitives: int = 1
    max_primitives: int = 9
    min_distance: float = 1.5  # of the camera from the origin
    max_distance: float = 2.8
    min_fov: float = 35.0  # degrees across the shorter image side
    max_fov: float = 70.0
    min_elevation: float = -30.0  # degrees above the equator (world z is up)
    max_elevation: float = 75.0
    azimuth_span: float = 360.0  # degrees; cameras of one scene lie within a sector this wide
    look_jitter: float = 0.1  # cameras look at a point within this distance of the origin
    supersampling: int = 2  # n x n rays in pixels with edges or contrast; 1 switches it off

    def __post_init__(self):
        check_fields("synthetic", self)
        require_positive(
            "synthetic", self, "num_scenes", "num_views", "height", "width", "min_primitives",
            "min_distance", "min_fov", "azimuth_span", "supersampling",
        )  # fmt: skip
        require(self.seed >= 0, "synthetic.seed", self.seed, "is negative", "use 0 or more")
        for name in ("primitives", "distance", "fov", "elevation"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            require(
                low <= high, f"synthetic.min_{name}", low,
                f"is above synthetic.max_{name}={high}", "swap or widen them",
            )  # fmt: skip
        require(
            self.min_distance >= 1.2, "synthetic.min_distance", self.min_distance,
            "is below 1.2, inside or at the unit ball of the object", "use 1.2 or more",
        )  # fmt: skip
        require(
            self.max_fov <= 120,
            "synthetic.max_fov",
            self.max_fov,
            "exceeds 120 degrees",
            "lower it",
        )
        require(
            self.min_elevation >= -90 and self.max_elevation <= 90, "synthetic.elevation",
            (self.min_elevation, self.max_elevation), "leaves [-90, 90] degrees", "narrow it",
        )  # fmt: skip
        require(
            0 <= self.look_jitter <= 0.5, "synthetic.look_jitter", self.look_jitter,
            "is not in [0, 0.5]", "use a value in it",
        )  # fmt: skip
        require(
            self.generator == "primitives" or self.supersampling <= 2, "synthetic.supersampling",
            self.supersampling, f"exceeds 2, the most that {self.generator} know", "use 1 or 2",
        )  # fmt: skip


OPEN_RANGES = {
    "min_fov": (0.0, 180.0), "max_fov": (0.0, 180.0), "min_side": (0.0, math.inf),
    "max_side": (0.0, math.inf),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class WalkConfig:
    """Size of pictures, of rooms and of a walk; ConfigError where no room follows from it."""

    height: int = 48
    width: int = 64
    min_fov: float = 55.0  # degrees across the width, one per sequence
    max_fov: float = 75.0
    min_boxes: int = 4
    max_boxes: int = 9
    min_side: float = 4.0  # metres, of the floor
    max_side: float = 8.0
    supersampling: int = 2  # its square of rays per pixel for colour; depth has one, in the middle
    walk_speed: float = 0.05  # metres per frame, about the mean
    turn_speed: float = 1.5  # degrees per frame, about the mean
    start_range: float = 360.0  # degrees of headings from +x on that a walk begins with
    compass: bool = False  # walls, floor and ceiling keep their hues from room to room

    def __post_init__(self):
        for name in ("height", "width", "min_boxes", "supersampling"):
            if getattr(self, name) < 1:
                raise ConfigError.of(f"room.{name}", getattr(self, name), "is below 1", "use 1+")
        for name, (least, most) in OPEN_RANGES.items():
            value = getattr(self, name)
            if not least < value < most:
                raise ConfigError.of(
                    f"room.{name}", value, f"is not between {least:g} and {most:g}",
                    "use a value inside",
                )  # fmt: skip
        for name in ("walk_speed", "turn_speed", "start_range"):
            value, most = getattr(self, name), 360.0 if name == "start_range" else math.inf
            if not (math.isfinite(value) and 0 <= value <= most):
                limit = f"is not a finite number from 0 to {most:g}"
                raise ConfigError.of(f"room.{name}", value, limit, "use a value inside")
        for low, high in (("min_fov", "max_fov"), ("min_boxes", "max_boxes"),
                          ("min_side", "max_side")):  # fmt: skip
            if getattr(self, low) > getattr(self, high):
                raise ConfigError.of(
                    f"room.{low}", getattr(self, low), f"exceeds room.{high}", "exchange them"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where scenes come from and how an item (inputs and targets of one scene) is drawn."""

    source: Literal["synthetic", "captures", "shards"] = "synthetic"
    synthetic: SyntheticConfig = SyntheticConfig()
    cache_directory: str = "cache/synthetic"  # holds rendered scenes, keyed by the configuration
    render_workers: int = 2  # processes that fill the cache
    shard_directory: str = ""  # of a dataset that datasets.prepare_shards wrote
    capture_directories: tuple[str, ...] = ()
    capture_height: int = 64  # captures and shards are resized to this
    capture_width: int = 64
    capture_depth: bool = False  # read disparity that datasets.prepare_depth put beside captures
    capture_resize: Literal["tttlrm", "lact"] = "lact"  # x and y apart, or isotropic and cropped
    holdout_every: int = 8  # captures' frames 0, 8, ... are drawn in evaluation only; 0: none kept
    short_scenes: Literal["leave_out", "refuse"] = "leave_out"  # those with too few frames
    num_input_views: int = 4
    num_target_views: int = 4
    targets_include_inputs: bool = False  # targets are drawn from all views, inputs among them
    view_selection: Literal["random", "kmeans", "range"] = "random"
    min_frame_range: int = 128  # width in frames of the window that `range` draws from
    max_frame_range: int = 512
    pose_normalisation: Literal["mean_cam", "first_cam", "focus"] = "mean_cam"
    normalise_over: Literal["inputs", "all"] = "inputs"  # views that define frame and scale
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)  # under transparent pixels
    mirror_probability: float = 0.0  # of training on the mirrored scene
    reverse_probability: float = 0.0  # of taking the input views in the opposite order
    min_crop: float = 1.0  # smallest share of a picture's sides that training cuts out; 1: all
    random_background: float = 0.0  # probability of a colour of its own under a training item
    num_threads: int = 4  # reading ahead; 0 reads in the calling thread
    prefetch: int = 8  # batches kept ready; 0 switches it off

    def __post_init__(self):
        check_fields("data", self)
        require_positive(
            "data", self, "capture_height", "capture_width", "num_input_views",
            "num_target_views", "render_workers", "min_frame_range",
        )  # fmt: skip
        for field in ("holdout_every", "num_threads", "prefetch"):
            value = getattr(self, field)
            require(value >= 0, f"data.{field}", value, "is negative", "use 0 or more")
        for field in ("mirror_probability", "reverse_probability", "random_background"):
            value = getattr(self, field)
            require(0 <= value <= 1, f"data.{field}", value, "is not in [0, 1]", "use a share")
        require(
            0.1 <= self.min_crop <= 1, "data.min_crop", self.min_crop, "is not in [0.1, 1]",
            "use e.g. 0.7, or 1 for whole pictures",
        )  # fmt: skip
        require(
            self.holdout_every != 1, "data.holdout_every", 1, "holds every frame out",
            "use 2 or more, or 0 to hold none out",
        )  # fmt: skip
        require(
            self.min_frame_range <= self.max_frame_range, "data.min_frame_range",
            self.min_frame_range, f"is above data.max_frame_range={self.max_frame_range}",
            "swap or widen them",
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
        require(
            all(0 <= channel <= 1 for channel in self.background), "data.background",
            self.background, "is not RGB in [0, 1]", "use three numbers in it",
        )  # fmt: skip
        needed = self.num_input_views + (
            0 if self.targets_include_inputs else self.num_target_views
        )
        require(
            self.source != "synthetic" or needed <= self.synthetic.num_views,
            "data.num_input_views + data.num_target_views", needed,
            f"exceeds data.synthetic.num_views={self.synthetic.num_views}",
            "render more views per scene or draw fewer",
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
