"""What `eval.py --model ttt3r` reads."""

import dataclasses
from typing import Literal

from tttlrm_jax.config.validation import check_fields, require, require_positive

DepthFormat = Literal["png", "npy", "none"]
DepthAlignment = Literal["metric", "scale", "scale_shift", "median"]


PUBLISHED_SIZE = 512  # of checkpoints that do not say what they were trained at


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
