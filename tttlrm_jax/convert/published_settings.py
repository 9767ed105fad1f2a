"""What published weights are evaluated with: tensors tell sizes, and nothing of this.

Sources, by line of the guide's table (docs/guides/published_weights.md): the recordings' README
("spec", with its section), the papers' training stages ("paper"), LaCT's page of checkpoints
("LaCT"), or nothing, and then it is said that it is assumed.
"""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any, Literal

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    Plan,
    RasterConfig,
    RunConfig,
    TrainConfig,
)
from tttlrm_jax.core.errors import InputError

Level = Literal["object", "scene"]
SCENE_RESOLUTION = (536, 960)  # height, width; spec 8, paper, LaCT
OBJECT_RESOLUTION = (512, 512)  # of 256, 512 and 1024
SCENE_VIEWS, OBJECT_VIEWS, TARGET_VIEWS = 32, 8, 8
AUTOREGRESSIVE_CHUNK = 8  # views per update
SCENE_INNER_FACTOR = 4.0  # LaCT's networks for scenes have fast weights of this width, or more
DATA_SETS: dict[tuple[str, Level], str] = {
    ("tttlrm", "scene"): "DL3DV-10K", ("tttlrm", "object"): "Objaverse",
    ("lvsm", "scene"): "DL3DV-10K", ("lvsm", "object"): "Objaverse",
}  # fmt: skip
NOT_SAID = "data of its authors (converted from a published checkpoint, which does not say)"
CUT3R_SIZES = {"dpt": (384, 512), "linear": (224, 224)}  # height, width of cut3r_512_dpt and _224
RESOLUTION_IN_NAME = re.compile(r"res(\d{2,4})(?:x(\d{2,4}))?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What was settled, and a sentence about everything that was not asked for."""

    level: Level
    plan: Plan
    chunk_views: int
    views: int
    resolution: tuple[int, int]  # height, width
    said: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a user says of the weights; None: as the file's name says, or assumed."""

    level: Level | None = None
    plan: Plan | None = None
    chunk_views: int | None = None
    views: int | None = None
    resolution: tuple[int, int] | None = None


def settle_settings(model: ModelConfig, file: Path, wishes: Wishes) -> Settings:
    """The settings of tttLRM or LaCT view-synthesis weights.

    What is asked for wins, then what the file's name says, then what was published. Raises
    InputError for a plan that the model has not.
    """
    if model.kind == "lvsm" and wishes.plan not in (None, "full"):
        raise InputError.of(
            "plan", wishes.plan, "is not one of LaCT's view synthesis", "use full, or leave it out"
        )
    words = set(re.split(r"[^a-z0-9]+", file.stem.lower()))
    chosen = _Choice(wishes)
    level = chosen("level", _level_in_name(words), *_usual_level(model))
    scene = level == "scene"
    plan = _plan(model, words, chosen)
    views = chosen("views", None, SCENE_VIEWS if scene else OBJECT_VIEWS)
    usual = SCENE_RESOLUTION if scene else OBJECT_RESOLUTION
    resolution = chosen("resolution", _resolution_in_name(file.stem), usual)
    chunk = 1
    if plan != "full":
        chunk = chosen("chunk_views", None, math.gcd(AUTOREGRESSIVE_CHUNK, views))
    return Settings(
        level=level, plan=plan, chunk_views=chunk, views=views, resolution=tuple(resolution),
        said=tuple(chosen.said),
    )  # fmt: skip


class _Choice:
    """What is asked for, else what the file's name says, else what is assumed: and then said."""

    def __init__(self, wishes: Wishes):
        self._wishes = wishes
        self.said: list[str] = []

    def __call__(
        self, field: str, in_name: Any, assumed: Any, reason: str = "the tensors do not tell"
    ) -> Any:
        asked = getattr(self._wishes, field)
        if asked is not None:
            return asked
        value, source = (assumed, reason) if in_name is None else (in_name, "the file's name")
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        self.said.append(f"assumed --{field.replace('_', '-')} {shown}: {source}")
        return value


def published_run(model: ModelConfig, settings: Settings, name: str) -> RunConfig:
    """The configuration that goes with the weights.

    Raises ConfigError for a resolution that is no multiple of the patch size, and for a chunk that
    does not divide the views.
    """
    ours = model.kind == "tttlrm"
    height, width = settings.resolution
    data = DataConfig(
        source="captures",
        capture_directories=(DATA_SETS[model.kind, settings.level],),
        capture_height=height,
        capture_width=width,
        capture_resize="tttlrm" if ours else "lact",  # spec 6
        num_input_views=settings.views,
        num_target_views=TARGET_VIEWS,
        view_selection="range" if settings.level == "scene" else "random",
        pose_normalisation="mean_cam" if settings.plan == "full" else "first_cam",  # spec 6, 8.7
        normalise_over="all",  # spec 6
    )
    return RunConfig(
        name=name,
        # spec 8.14 and 8.15: tttLRM runs in bfloat16, LaCT in float32
        model=dataclasses.replace(model, compute_dtype="bfloat16" if ours else "float32"),
        raster=RasterConfig(max_alpha=0.999, near=0.1),  # spec 3.6; the clamp of gsplat to 1.5.3
        data=data,
        loss=LossConfig(
            perceptual=0.5, opacity=0.01, depth=0.01, vgg19_weights="auto"
        ) if ours else LossConfig(opacity=0.0, depth=0.0),
        train=TrainConfig(
            plan=settings.plan, chunk_views=settings.chunk_views, published_pruning=ours
        ),
        provenance=NOT_SAID,
    )  # fmt: skip


def _plan(model: ModelConfig, words: set[str], chosen: _Choice) -> Plan:
    """Full weights and autoregressive ones have the same tensors."""
    if model.kind == "lvsm":
        return "full"
    in_name = "sequential" if words & {"ar", "autoregressive"} else None
    in_name = "full" if in_name is None and "full" in words else in_name
    reason = "the tensors of autoregressive weights (--plan sequential) are the same"
    return chosen("plan", in_name, "full", reason)


def _level_in_name(words: set[str]) -> Level | None:
    found = {"obj": "object", "object": "object", "objects": "object", "scene": "scene",
             "dl3dv": "scene"}  # fmt: skip
    levels = {found[word] for word in words & found.keys()}
    return levels.pop() if len(levels) == 1 else None  # type: ignore[return-value]


def _usual_level(model: ModelConfig) -> tuple[Level, str]:
    """What is published of a model, and why it is taken for that."""
    if model.kind == "tttlrm":
        return "scene", "no others are published"
    wide = model.ttt_inner_factor >= SCENE_INNER_FACTOR
    reason = f"fast weights {model.ttt_inner_factor:g} times as wide as the heads"
    return ("scene" if wide else "object"), reason


def _resolution_in_name(stem: str) -> tuple[int, int] | None:
    """Height and width of names such as `obj_res256` and `scene_res536x960`."""
    found = RESOLUTION_IN_NAME.search(stem.lower())
    return None if found is None else (int(found[1]), int(found[2] or found[1]))
