"""What `eval.py` reads, for models of posed views and, with `--model ttt3r`, of sequences."""

import dataclasses
from typing import Literal

from tttlrm_jax.config.model import OptionalRule, Plan
from tttlrm_jax.config.validation import check_fields, require, require_positive

Accumulate = Literal["chunk", "append", "all"]
DepthFormat = Literal["png", "npy", "none"]
DepthAlignment = Literal["metric", "scale", "scale_shift", "median"]
PUBLISHED_SIZE = 512  # of TTT3R checkpoints that do not say what they were trained at


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What `eval.py` reads. Fields that are None take what the checkpoint was trained with."""

    capture: str | None = None  # directory with a camera file; None: the sample in the package
    checkpoint: str | None = None  # run or model directory; None: the weights in the package
    views: int | None = None  # number of input views
    plan: Plan | None = None
    rule: OptionalRule = None  # takes the place of the checkpoint's update rule
    frames: str | None = None  # input frames by number, in order: 1-7,9; None: chosen by k-means
    chunk_views: int | None = None  # views per update; None: trained, for causal trained inputs
    accumulate: Accumulate | None = None  # Gaussians shown after each chunk; None: append
    first_distance: float | None = None  # of the scene from the cameras of a stream's first chunk,
    # in the capture's units, where these stand in one place and give no scale; None: 1
    save_state: str | None = None  # directory for the state after the stream's last chunk
    load_state: str | None = None  # saved state that the stream goes on from; it is not changed
    overwrite_state: bool = False  # replace a state that is already at save_state
    query: str | None = None  # camera file to render load_state from; needs no images
    resolution: tuple[int, int] | None = None  # height width; None: trained pixels, own aspect
    background: tuple[float, float, float] | None = None  # RGB in [0, 1] under transparent pixels
    keep_ratio: float | None = None  # of Gaussians kept by opacity; 1 switches pruning off
    random_ratio: float | None = None  # share of the others kept at random
    post_optimize: int = 0  # steps that refine the Gaussians on the input views
    min_opacity: float = 1.0 / 255.0  # in scene.ply; fainter Gaussians cannot show
    splat: bool = False  # write scene.splat, for web viewers, beside scene.ply
    orbit_frames: int = 72  # of the film, at 24 frames a second
    skip_missing: bool = False  # leave out frames whose image does not exist
    seed: int = 0  # of the untrained baseline and of random pruning
    output: str | None = None  # None: outputs/<scene>-<date>-<time>

    def __post_init__(self):
        check_fields("", self)
        for field in ("capture", "checkpoint", "save_state", "load_state", "query", "output"):
            value = getattr(self, field)
            require(value != "", field, "''", "is empty", "name a path or leave it out")
        for field in ("views", "chunk_views", "orbit_frames"):
            value = getattr(self, field)
            require(value is None or value > 0, field, value, "is not positive", "use 1 or more")
        for field in ("keep_ratio", "random_ratio"):
            value = getattr(self, field)
            inside = value is None or 0 <= value <= 1
            require(inside, field, value, "is not in [0, 1]", "use a share")
        require(self.keep_ratio != 0, "keep_ratio", 0, "keeps nothing", "use a share above 0")
        require(
            self.first_distance is None or 0 < self.first_distance < float("inf"),
            "first_distance", self.first_distance, "is not a positive number", "use e.g. 2.5",
        )  # fmt: skip
        self._check_stream()
        require(
            self.post_optimize >= 0, "post_optimize", self.post_optimize, "is negative",
            "use 0 or more steps",
        )  # fmt: skip
        require(
            self.query is None or self.post_optimize == 0, "post_optimize", self.post_optimize,
            "needs photographs, and a query has none", "leave one of them out",
        )  # fmt: skip
        require(
            0 <= self.min_opacity < 1, "min_opacity", self.min_opacity, "is not in [0, 1)",
            "use e.g. 0.01",
        )  # fmt: skip
        require(
            self.resolution is None or min(self.resolution) >= 1, "resolution", self.resolution,
            "is not a positive height and width", "use e.g. 64 64",
        )  # fmt: skip
        require(
            self.background is None or all(0 <= value <= 1 for value in self.background),
            "background", self.background, "is not RGB in [0, 1]", "use three numbers in it",
        )  # fmt: skip

    def _check_stream(self) -> None:
        """Options that need or exclude each other."""
        require(
            self.query is None or self.load_state is not None, "query", self.query,
            "needs a saved state", "name it with --load-state",
        )  # fmt: skip
        for field in ("capture", "frames", "views", "save_state"):
            value = getattr(self, field)
            require(
                self.query is None or value is None, field, value,
                "is not used when a saved state is queried", "leave it out",
            )  # fmt: skip
        require(
            not self.overwrite_state or self.save_state is not None, "overwrite_state", True,
            "needs a state to write", "name it with --save-state",
        )  # fmt: skip
        require(
            self.frames is None or self.views is None, "views", self.views,
            "is given beside frames, which say how many there are", "leave one of them out",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceEvalConfig:
    """A sequence, a checkpoint, and what is wanted of them.

    `--rule cut3r|ttt3r|ema` (with options such as `--rule.rate 0.5`) chooses the state rule.
    """

    capture: str | None = None  # folder or video
    checkpoint: str | None = None  # run or model directory; None: the package's small network
    protocol: str | None = None  # configs/ttt3r/NAME.py: sets the fields below as a paper's table
    length: int | None = None  # number of frames, one of the protocol's lengths
    kind: str | None = None  # form of the capture; None: recognised
    size: int | None = None  # longer side in pixels, 224: square; None: the checkpoint's, else 512
    fit: Literal["crop", "resize"] = "crop"  # middle of the picture, or all of it squeezed
    reset_every: int = 0  # frames between resets of the state; 0: never
    behaviour: Literal["streaming", "batch"] = "streaming"  # after resets and with ray maps
    start: int = 0  # first frame, from 0
    stride: int = 1
    max_frames: int | None = None
    frames: str | None = None  # in place of start and stride: 0-99,200
    skip_bad_poses: bool = False  # leave out frames whose true pose is not rigid or not finite
    min_confidence: float = 1.5  # of points in points.ply; confidence is 1 or more
    max_points: int = 2_000_000  # in points.ply; thinned evenly beyond
    depth_format: DepthFormat = "png"  # 16-bit millimetres, or float32 npy
    max_depth: float | None = None  # metres; true depth from here on is not scored
    clip_depth: float | None = None  # metres; limit of aligned predictions in scores
    depth_alignments: tuple[DepthAlignment, ...] = ("metric", "scale", "median")
    reconstruction: bool = False  # score points as the 3D reconstruction table does; takes memory
    seed: int = 0  # of the choice of points
    output: str | None = None  # None: outputs/<sequence>-<date>-<time>

    def __post_init__(self):
        check_fields("", self)
        require_positive("", self, "stride", "max_points")
        require(
            self.size is None or self.size > 0, "size", self.size, "is not positive", "use pixels"
        )
        for field in ("capture", "checkpoint", "output", "protocol"):
            value = getattr(self, field)
            require(value != "", field, "''", "is empty", "name a path or leave it out")
        for field in ("reset_every", "start"):
            value = getattr(self, field)
            require(value >= 0, field, value, "is negative", "use 0 or more")
        for field in ("max_frames", "length"):
            value = getattr(self, field)
            require(value is None or value >= 2, field, value, "is below 2", "use 2 or more")
        require(
            1 <= self.min_confidence < float("inf"), "min_confidence", self.min_confidence,
            "is not a number from 1 on", "use 1 to keep every point",
        )  # fmt: skip
        for field in ("max_depth", "clip_depth"):
            value = getattr(self, field)
            require(value is None or value > 0, field, value, "is not positive", "use metres")
        require(
            not (self.reconstruction and self.reset_every), "reset_every", self.reset_every,
            "does not go with reconstruction, whose points are all in one world, the first frame's",
            "use --reset-every 0 or leave --reconstruction out",
        )  # fmt: skip
        require(
            self.protocol is not None or self.length is None, "length", self.length,
            "needs a protocol", "use --max-frames, or name one with --protocol",
        )  # fmt: skip
