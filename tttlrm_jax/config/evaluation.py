"""What `eval.py` reads, for models of posed views and, with `--model ttt3r`, of sequences."""

import dataclasses
from typing import Annotated, Any, Literal, get_args

from tttlrm_jax.config.data import FrameViews, PoseFrame
from tttlrm_jax.config.model import Dtype, OptionalRule, Plan
from tttlrm_jax.config.raster import MaxAlpha
from tttlrm_jax.config.surfaces import MeshFormat
from tttlrm_jax.config.training import MeshConfig
from tttlrm_jax.config.validation import (
    FINITE,
    RGB,
    Bound,
    NonNegativeInt,
    PathText,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Share,
    ShareBelow1,
    check_fields,
    check_value,
    require,
)
from tttlrm_jax.config.viewer import ViewerOptions

Accumulate = Literal["chunk", "append", "all"]
Poses = Literal["file", "sfm", "ttt3r"]
FILM_FRAMES = 100
DepthFormat = Literal["png", "npy", "none"]
DepthAlignment = Literal["metric", "scale", "scale_shift", "median"]
Fit = Literal["crop", "resize"]
SaveFormat = Literal["ply", "spz", "glb", "splat", "sog", "compressed.ply"]
CameraFormat = Literal["colmap", "nerfstudio", "tum", "opencv"]
FORMATS = {"save": SaveFormat, "save_mesh": MeshFormat, "write_cameras": CameraFormat}
FrameCount = Annotated[int, Bound(lambda count: count >= 2, "is below 2", "use 2 or more")]
OF_IMPROVING = ("max_gaussians", "memory_limit", "refine_cameras", "exposure")  # need seconds
# options that have a part in drawing a saved state; the state and the camera file fix the rest
OF_QUERIES = (
    "query", "load_state", "checkpoint", "rule", "compute_dtype", "max_alpha", "near",
    "min_opacity", "save", "compile_cache", "output",
)  # fmt: skip
PUBLISHED_SIZE = 512  # of TTT3R checkpoints that do not say what they were trained at


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """How posed pictures are read and shown to a model, of one capture or of a protocol's scenes.

    Fields that are None take what the checkpoint was trained with.
    """

    checkpoint: PathText | None = None  # run or model directory; None: the weights in the package
    # that carry the Gaussians: so many of the inputs, by k-means, or those of a capture or camera
    # file in the same frame, which need no images; None: all inputs, or as many as trained with
    virtual_views: PathText | None = None
    plan: Plan | None = None  # order of updates and queries; None: as trained
    rule: OptionalRule = None  # takes the place of the checkpoint's update rule
    chunk_views: PositiveInt | None = None  # views per update; None: as trained (causal: inputs)
    accumulate: Accumulate | None = None  # Gaussians shown after each chunk; None: append
    # of the scene from the cameras of a stream's first chunk, in the capture's units, where these
    # stand in one place and give no scale; None: 1
    first_distance: Annotated[PositiveFloat, FINITE] | None = None
    # height width; None: as many pixels as in training, in the capture's aspect (fit resize: height
    # and width of training; a protocol: its own). With seconds, of the pictures that Gaussians are
    # improved on; None: the capture's own, at most 512x512 pixels
    resolution: tuple[int, int] | None = None
    # pictures to the resolution: in their aspect, edges cut off, or height and width each scaled
    fit: Fit | None = None
    pose_normalisation: PoseFrame | None = None  # frame and scale that the model sees cameras in
    normalise_over: FrameViews | None = None  # views that define them: inputs, or targets too
    compute_dtype: Dtype | None = None  # of the network's products; weights and norms are float32
    max_alpha: MaxAlpha | None = None  # of one Gaussian in one pixel
    near: PositiveFloat | None = None  # nearest depth that is drawn, in the model's frame
    background: RGB | None = None  # RGB in [0, 1] under transparent pixels
    keep_ratio: PositiveShare | None = None  # of Gaussians kept by opacity; 1 switches pruning off
    random_ratio: Share | None = None  # share of the others kept at random
    skip_missing: bool = False  # leave out frames whose image does not exist
    # factor on the file's intrinsics, which are of pictures of another size: 0.5 for halved ones
    intrinsics_scale: Annotated[PositiveFloat, FINITE] | None = None
    drop_outliers: bool = False  # leave out cameras far away from all others
    compile_cache: bool = True  # keep compiled programs in the user's cache directory
    seed: int = 0  # of the untrained baseline and of random pruning

    def __post_init__(self):
        check_fields("", self)
        require(
            self.resolution is None or min(self.resolution) >= 1, "resolution", self.resolution,
            "is not a positive height and width", "use e.g. 64 64",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig(ViewerOptions, SceneOptions):
    """What `eval.py` reads. Fields that are None take what the checkpoint was trained with.

    `--protocol FILE --root DIR` measures a data set instead; `--help` behind it lists its options.
    """

    # directory with a camera file, or `sample` or `toy`, captures in the package; None: the sample.
    # Without any option that changes a number the toy is improved for 20 s from 12 of its views
    capture: PathText | None = None
    # of the capture's cameras: its file, structure from motion (extra `sfm`), or TTT3R; None: the
    # file where there is one, else sfm. Found ones are kept beside the output and used again
    poses: Poses | None = None
    film_frames: FrameCount = FILM_FRAMES  # most that cameras are looked for of a video
    poses_checkpoint: PathText | None = None  # of --poses ttt3r; None: the package's small network
    views: PositiveInt | None = None  # number of input views
    frames: str | None = None  # input frames by number, in order: 1-7,9; None: chosen by k-means
    save_state: PathText | None = None  # directory for the state after the stream's last chunk
    load_state: PathText | None = None  # saved state that the stream goes on from, unchanged
    overwrite_state: bool = False  # replace a state that is already at save_state
    query: PathText | None = None  # camera file to render load_state from; needs no images
    post_optimize: NonNegativeInt = 0  # steps that refine the Gaussians on the input views
    # of improving the Gaussians on single input views, compiling apart; Ctrl-C ends it early
    seconds: Annotated[PositiveFloat, FINITE] | None = None
    max_gaussians: PositiveInt | None = None  # that improving has room for; None: 16,384
    memory_limit: Annotated[PositiveFloat, FINITE] | None = None  # GiB of improving, by estimate
    refine_cameras: bool = False  # while improving: where photographs were taken from, a little off
    exposure: bool = False  # while improving: a gain and an offset of each photograph's colours
    min_opacity: ShareBelow1 = 1.0 / 255.0  # in scene files; fainter Gaussians cannot show
    save: tuple[SaveFormat, ...] = ("ply",)  # scene.FORMAT of each, see docs/guides/formats.md
    # mesh.FORMAT of each: triangles with colours, as `python -m tttlrm_jax.mesh` makes them of the
    # output; needs the extra `mesh`
    save_mesh: tuple[MeshFormat, ...] | None = None
    write_cameras: tuple[CameraFormat, ...] = ()  # of all frames, in each of these, in cameras/
    orbit_frames: PositiveInt = 72  # of the film, at 24 frames a second
    mesh: MeshConfig = MeshConfig()  # devices over which the scene lies: mesh.seq parts views
    view: bool = False  # show it in a browser while it is made; needs the extra `viewer`
    untrained_baseline: bool = False  # score the same network with random parameters, too
    output: PathText | None = None  # None: outputs/<scene>-<date>-<time>

    def __post_init__(self):
        super().__post_init__()
        self._check_stream()
        for field, choices in FORMATS.items():
            values = getattr(self, field)
            known = get_args(choices)
            require(
                values != () or field == "write_cameras", field, "()", "names no format",
                f"use {known[0]}",
            )  # fmt: skip
            for value in values or ():
                check_value(field, value, choices)
        require(
            self.seconds is None or self.post_optimize == 0, "seconds", self.seconds,
            "and post_optimize both refine the Gaussians", "leave one of them out",
        )  # fmt: skip
        for field in OF_IMPROVING:
            require(
                not getattr(self, field) or self.seconds is not None, field, getattr(self, field),
                "belongs to improving for some time", "add e.g. --seconds 30",
            )  # fmt: skip

        require(
            self.poses_checkpoint is None or self.poses == "ttt3r", "poses_checkpoint",
            self.poses_checkpoint, "is TTT3R's", "add --poses ttt3r or leave it out",
        )  # fmt: skip

    def of_improving(self) -> dict[str, Any]:
        """How Gaussians are improved, by the names that `Reconstruction.refine` has."""
        return {name: getattr(self, name) for name in OF_IMPROVING}

    def _check_stream(self) -> None:
        """Options that need or exclude each other."""
        require(
            self.query is None or self.load_state is not None, "query", self.query,
            "needs a saved state", "name it with --load-state",
        )  # fmt: skip
        for each in dataclasses.fields(self) if self.query is not None else ():
            value = getattr(self, each.name)
            require(
                each.name in OF_QUERIES or value == each.default, each.name, value,
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
class ProtocolEvalConfig(SceneOptions):
    """All scenes of a data set, as a paper's table measures them.

    What is not given is as the protocol says, else as the checkpoint was trained.
    """

    protocol: PathText  # configs/tttlrm/NAME.py
    root: PathText | None = None  # directory of the data set
    views: tuple[PositiveInt, ...] = ()  # numbers of input views; (): the protocol's
    # steps that refine the Gaussians on the input views; each number makes a row of the table
    post_optimize: tuple[NonNegativeInt, ...] = (0,)
    scenes: tuple[str, ...] = ()  # names of those to measure; (): all
    baselines: bool = False  # also the nearest input view, the mean colour, the untrained model
    resume: bool = False  # go on in an output that a run with the same settings has begun
    output: PathText | None = None  # None: outputs/<protocol>-<checkpoint>

    def __post_init__(self):
        super().__post_init__()
        for field in ("views", "post_optimize"):
            values = getattr(self, field)
            low = 1 if field == "views" else 0
            require(
                all(type(value) is int and value >= low for value in values), field, values,
                f"are not whole numbers from {low} on", "correct them",
            )  # fmt: skip
            require(
                len(set(values)) == len(values), field, values, "name a number twice",
                "name each once",
            )  # fmt: skip
        require(self.post_optimize != (), "post_optimize", "()", "names no row", "use 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceEvalConfig(ViewerOptions):
    """A sequence, a checkpoint, and what is wanted of them.

    `--rule cut3r|ttt3r|ema` (with options such as `--rule.rate 0.5`) chooses the state rule.
    """

    capture: PathText | None = None  # folder or video
    checkpoint: PathText | None = None  # run or model directory; None: the package's small network
    protocol: PathText | None = None  # configs/ttt3r/NAME.py: settings of a paper's table
    root: PathText | None = None  # directory of the protocol's data set; capture says the same
    length: FrameCount | None = None  # number of frames, one of the protocol's lengths
    kind: str | None = None  # form of the capture; None: recognised
    size: PositiveInt | None = None  # pixels, longer side (224: square); None: trained, or 512
    fit: Fit = "crop"  # middle of the picture, or all of it squeezed
    reset_every: NonNegativeInt = 0  # frames between resets of the state; 0: never
    pose_graph: bool = False  # look for loops, and write a second trajectory that closes them
    # what the network regresses, or of the camera that sees a frame's points where they are
    poses: Literal["regression", "pnp"] = "regression"
    behaviour: Literal["streaming", "batch"] = "streaming"  # after resets and with ray maps
    start: NonNegativeInt = 0  # first frame, from 0
    stride: PositiveInt = 1
    max_frames: FrameCount | None = None
    frames: str | None = None  # in place of start and stride: 0-99,200
    # factor on the file's intrinsics, which are of pictures of another size: 0.5 for halved ones
    intrinsics_scale: Annotated[PositiveFloat, FINITE] | None = None
    skip_bad_poses: bool = False  # leave out frames whose true pose is not rigid or not finite
    min_confidence: float = 1.5  # of points in points.ply; confidence is 1 or more
    max_points: PositiveInt = 2_000_000  # in points.ply; thinned evenly beyond
    depth_format: DepthFormat = "png"  # 16-bit millimetres, or float32 npy
    max_depth: PositiveFloat | None = None  # metres; true depth from here on is not scored
    clip_depth: PositiveFloat | None = None  # metres; limit of aligned predictions in scores
    depth_alignments: tuple[DepthAlignment, ...] = ("metric", "scale", "median")
    reconstruction: bool = False  # score points as the 3D reconstruction table does; takes memory
    write_cameras: tuple[CameraFormat, ...] = ()  # of all frames, in each of these, in cameras/
    view: bool = False  # show it in a browser while it is made; needs the extra `viewer`
    compile_cache: bool = True  # keep compiled programs in the user's cache directory
    seed: int = 0  # of the choice of points
    output: PathText | None = None  # None: outputs/<sequence>-<date>-<time>

    def __post_init__(self):
        check_fields("", self)
        require(
            1 <= self.min_confidence < float("inf"), "min_confidence", self.min_confidence,
            "is not a number from 1 on", "use 1 to keep every point",
        )  # fmt: skip
        require(
            not (self.reconstruction and self.reset_every), "reset_every", self.reset_every,
            "does not go with reconstruction, whose points are all in one world, the first frame's",
            "use --reset-every 0 or leave --reconstruction out",
        )  # fmt: skip
        require(
            self.protocol is not None or self.length is None, "length", self.length,
            "needs a protocol", "use --max-frames, or name one with --protocol",
        )  # fmt: skip
        require(
            self.root is None or (self.protocol is not None and self.capture is None), "root",
            self.root, "is a protocol's data set, and capture says the same",
            "give --protocol FILE and one of the two",
        )  # fmt: skip
