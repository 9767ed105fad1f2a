"""One scene of a protocol: read, shown by the model, drawn and scored; what all have in common."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.api.models import SceneModel
from tttlrm_jax.api.request import Request, resolve, trained_chunk
from tttlrm_jax.api.scenes import (
    BASELINES,
    PosedScene,
    Scores,
    baseline_pictures,
    pose_scene,
    score,
)
from tttlrm_jax.api.view_synthesis import ViewSynthesisModel
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.protocols.scene_models import Shower, Shown, shower_of
from tttlrm_jax.apps.protocols.scene_table import OURS
from tttlrm_jax.apps.protocols.scenes import SceneProtocol
from tttlrm_jax.checkpoints.directories import without_host_choices
from tttlrm_jax.checkpoints.streams import fingerprint
from tttlrm_jax.config import EvalConfig, RunConfig, config_to_dict
from tttlrm_jax.config.evaluation import ProtocolEvalConfig, SceneOptions
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.metrics.lpips import LPIPS

TARGETS_AT_ONCE = 8  # that are drawn and scored: one program, whatever number a scene has
SCORED = ("psnr", "ssim", "lpips")
OPTIONS = tuple(each for each in dataclasses.fields(SceneOptions))
NOT_SETTINGS = ("checkpoint", "compile_cache")  # options that change no number
# numbers of targets and their cameras [TARGETS_AT_ONCE] to their pictures, and seconds
Draw = Callable[[np.ndarray, Cameras], tuple[np.ndarray, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """All that the scenes of a protocol have in common."""

    config: ProtocolEvalConfig
    protocol: SceneProtocol
    run: RunConfig
    model: SceneModel | ViewSynthesisModel
    shower: Shower
    lpips: LPIPS | None
    lpips_note: str

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width as given, else as in the protocol."""
        return self.config.resolution or self.protocol.resolution

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Method and steps of every row that a scene gets."""
        baselines = BASELINES.values() if self.config.baselines else ()
        return [
            *((OURS, steps) for steps in self.config.post_optimize),
            *((name, 0) for name in baselines),
        ]

    def wishes(self, views: int) -> EvalConfig:
        """What is asked of a scene with so many input views."""
        return dataclasses.replace(
            scene_wishes(self.config), views=views, resolution=self.resolution
        )

    def settings(self) -> dict[str, Any]:
        """What a run that goes on must have alike. Views, scenes and rows may be more."""
        config = without_host_choices(config_to_dict(self.run))
        options = config_to_dict(scene_wishes(self.config))
        return {
            "protocol": Path(self.config.protocol).name,
            "dataset": self.protocol.dataset,
            "resolution": list(self.resolution),
            "lpips": self.lpips is not None,  # else its mean would be over some scenes only
            "checkpoint_sha256": fingerprint(self.model.params),
            "options": {
                each.name: options[each.name] for each in OPTIONS if each.name not in NOT_SETTINGS
            },
            **{part: config[part] for part in ("model", "raster", "data", "train")},
        }

    def described(self) -> str:
        """Which model the rows are of, and how it reads a scene."""
        plan = self.config.plan or self.run.train.plan
        chunk = self.config.chunk_views or trained_chunk(self.run, plan)
        updates = "" if plan == "full" else f", {chunk} views per update"
        name = Path(self.config.checkpoint or "").resolve().name
        kind, dtype = self.run.model.kind, self.run.model.compute_dtype
        return f"{name} ({kind}), plan {plan}{updates}, products in {dtype}"

    def given(self) -> dict[str, Any]:
        """Options that were not left to the protocol and the checkpoint."""
        values = {each.name: getattr(self.config, each.name) for each in OPTIONS}
        return {
            each.name: values[each.name] for each in OPTIONS
            if each.name not in (*NOT_SETTINGS, "resolution") and values[each.name] != each.default
        }  # fmt: skip


def scene_wishes(config: ProtocolEvalConfig) -> EvalConfig:
    """The options that one capture has, too."""
    return EvalConfig(**{each.name: getattr(config, each.name) for each in OPTIONS})


def measure_scene(common: Measurement, name: str, path: Path, views: int) -> dict[str, Any]:
    """The record of one scene with so many input views. Raises InputError where it cannot be
    read."""
    capture = common.protocol.read(path, common.config)
    request = resolve(common.wishes(views), common.run, capture)
    with announced(f"reading {len(request.inputs)} + {len(request.targets)} views"):
        scene = pose_scene(capture, request, common.run.data)
    with announced("reconstructing, drawing and scoring"):
        found = [
            (shown, *score_targets(scene, common.lpips, _by_cameras(shown)))
            for shown in common.shower.show(scene, request, common.config.post_optimize)
        ]
    rows = [_row(OURS, scores, shown, seconds) for shown, scores, seconds in found]
    if common.config.baselines:
        rows += _baseline_rows(common, scene, request)
    return {
        "scene": name, "folder": path.name, "path": str(path), "views": views,
        "prescribed": views in capture.folds, "plan": request.plan, "inputs": scene.input_names,
        "notes": [*capture.notes, *scene.notes], "rows": rows,
        "targets": _target_scores(scene, found[0][1]),
    }  # fmt: skip


def score_targets(
    scene: PosedScene,
    lpips: LPIPS | None,
    draw: Draw,
) -> tuple[Scores, float]:
    """Scores of all targets, a portion after the other, and seconds to draw one."""
    parts, seconds = [], 0.0
    for where, part in _portions(scene):
        pictures, took = draw(where, part.target_cameras)
        parts.append(score(pictures, part, lpips))
        seconds += took
    return _joined(parts, len(scene.target_names)), seconds / (len(parts) * TARGETS_AT_ONCE)


def _by_cameras(shown: Shown) -> Draw:
    return lambda _, cameras: shown.draw(cameras)


def _by_number(pictures: np.ndarray) -> Draw:
    return lambda where, _: (pictures[where], 0.0)


def _portions(scene: PosedScene) -> Iterator[tuple[np.ndarray, PosedScene]]:
    """The scene with `TARGETS_AT_ONCE` of its targets; the last one fills up the last portion."""
    count, mask, valid = len(scene.target_names), scene.target_mask, scene.target_valid
    targets: Views = jax.tree.map(np.asarray, scene.targets)
    for first in range(0, count, TARGETS_AT_ONCE):
        where = np.minimum(np.arange(first, first + TARGETS_AT_ONCE), count - 1)
        yield where, dataclasses.replace(
            scene, targets=jax.tree.map(lambda x, w=where: on_device(x[:, w]), targets),
            target_mask=None if mask is None else mask[where],
            target_valid=None if valid is None else valid[where],
            target_names=[scene.target_names[index] for index in where],
        )  # fmt: skip


def _joined(parts: list[Scores], count: int) -> Scores:
    """The first `count` scores of all parts."""

    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)[:count]

    return Scores(**{each.name: joined(each.name) for each in dataclasses.fields(Scores)})


def _row(
    method: str, scores: Scores, shown: Shown | None = None, draw_seconds: float | None = None
) -> dict[str, Any]:
    return {
        "method": method, "steps": shown.steps if shown else 0,
        **{name: scores.mean(name) for name in SCORED},
        "seconds": shown.seconds if shown else None, "render_seconds_per_view": draw_seconds,
        "num_gaussians": shown.num_gaussians if shown else None,
    }  # fmt: skip


def _baseline_rows(
    common: Measurement, scene: PosedScene, request: Request
) -> list[dict[str, Any]]:
    """Rows of what needs no weights: the nearest input, the mean colour, the untrained model."""
    draws: dict[str, Draw] = {
        name: _by_number(np.asarray(made)) for name, made in baseline_pictures(scene).items()
    }
    untrained = shower_of(common.model.untrained(request.seed))
    draws["untrained"] = _by_cameras(next(untrained.show(scene, request, (0,))))
    return [
        _row(text, score_targets(scene, common.lpips, draws[name])[0])
        for name, text in BASELINES.items()
    ]


def _target_scores(scene: PosedScene, scores: Scores) -> list[dict[str, Any]]:
    values = {name: getattr(scores, name) for name in SCORED}
    return [
        {"name": target}
        | {name: None if x is None else float(x[index]) for name, x in values.items()}
        for index, target in enumerate(scene.target_names)
    ]
