"""What is asked of one capture: which frames, in what size and frame, read how.

Wishes come from `eval.py`'s options or from Python; what they leave open comes from a saved stream,
else from what the model was trained with. `resolve` is pure: it looks at cameras and at headers of
images, never at pixels or weights.
"""

import collections
import dataclasses
import math
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tttlrm_jax.api.virtual_views import wanted_virtual
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.pictures.images import round_to_patch
from tttlrm_jax.captures.view_selection import TARGET_STRIDE, select_kmeans, split_every
from tttlrm_jax.checkpoints.streams import StreamRecord
from tttlrm_jax.config import Accumulate, EvalConfig, Fit, Plan, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation, first_chunk_normalisation
from tttlrm_jax.models import gives

PART = re.compile("([0-9]{1,7})(?:-([0-9]{1,7}))?")
MAX_IMPROVED_PIXELS = 512 * 512  # unless more are asked for
# Within 0.4 dB of reading all views again, either way, on three captures; its cost stays flat.
DEFAULT_ACCUMULATE: Accumulate = "append"
# fields of EvalConfig that take the place of fields of the same name in these parts of a run
REPLACED = {
    "model": ("compute_dtype",),
    "raster": ("max_alpha", "near"),
    "data": ("pose_normalisation", "normalise_over"),
}
# options that do something with Gaussians, which some models have none of
OF_GAUSSIANS = (
    "save", "save_mesh", "seconds", "post_optimize", "keep_ratio", "random_ratio", "min_opacity",
    "max_alpha", "near", "accumulate", "save_state", "load_state", "query", "virtual_views",
)  # fmt: skip
RESIZE_MODES: dict[Fit, Literal["lact", "tttlrm"]] = {"crop": "lact", "resize": "tttlrm"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """How a scene is read and reconstructed; nothing is left open."""

    inputs: np.ndarray  # positions of frames in the capture, in the order the model sees them
    targets: np.ndarray  # positions of held-out frames
    virtual: int | Path | None = None  # see `virtual_views`; None: the inputs carry the Gaussians
    resolution: tuple[int, int]  # height, width of what the model sees
    shown: tuple[int, int]  # of what is shown and scored: larger where Gaussians are improved
    similarity: PoseNormalisation | None  # a stream's frame; None: from these frames' cameras
    has_scale: bool  # the cameras of a stream's first chunk had an extent to take the scale from
    background: tuple[float, float, float]
    plan: Plan
    chunk_views: int
    keep_ratio: float
    random_ratio: float
    accumulate: Accumulate
    seed: int
    background_asked: bool = False  # it is a wish; else Gaussians may be fitted on another one


def as_wished(run: RunConfig, wishes: EvalConfig) -> RunConfig:
    """The run with what `wishes` say of products, pictures, cameras and drawing in place of what
    the model was trained with."""
    changes = {
        part: {name: value for name in names if (value := getattr(wishes, name)) is not None}
        for part, names in REPLACED.items()
    }
    if wishes.fit is not None:
        changes["data"]["capture_resize"] = RESIZE_MODES[wishes.fit]
    parts = {part: dataclasses.replace(getattr(run, part), **new) for part, new in changes.items()}
    return dataclasses.replace(run, **parts)


def resolve(
    wishes: EvalConfig, run: RunConfig, capture: Capture, saved: StreamRecord | None = None
) -> Request:
    """The request that `wishes` make of a capture, for the model of `run`.

    With `saved` a stream goes on: what its first chunk fixed stays. Raises InputError for frames
    and options that do not go together.
    """
    held = {} if saved is None else saved.settings()

    def chosen(name: str, trained):
        wished = getattr(wishes, name)
        return held.get(name, trained) if wished is None else wished

    plan = chosen("plan", run.train.plan)
    check_stream_options(wishes, plan, saved)
    inputs, targets = choose_frames(capture, wishes, run, plan, saved)
    keep_ratio, random_ratio = run.pruning_ratios(len(inputs))
    chunk_views = chosen("chunk_views", trained_chunk(run, plan))
    if plan == "causal":
        chunk_views = _fitted_chunk(wishes, chunk_views, len(inputs), saved)
    improves = wishes.seconds is not None
    if saved is not None:
        resolution, similarity, has_scale = saved.resolution, saved.similarity, saved.has_scale
    else:
        resolution = choose_resolution(None if improves else wishes.resolution, run, capture)
        first = inputs[:chunk_views] if plan == "causal" else None
        similarity, has_scale = stream_frame(capture, first, wishes, run)
    return Request(
        inputs=inputs, targets=targets, resolution=resolution, similarity=similarity,
        virtual=wanted_virtual(wishes, run, plan, len(inputs)),
        shown=improved_resolution(wishes.resolution, capture) if improves else resolution,
        has_scale=has_scale, background=chosen("background", run.data.background), plan=plan,
        background_asked=wishes.background is not None,
        chunk_views=chunk_views, keep_ratio=chosen("keep_ratio", keep_ratio),
        random_ratio=chosen("random_ratio", random_ratio),
        accumulate=chosen("accumulate", DEFAULT_ACCUMULATE), seed=wishes.seed,
    )  # fmt: skip


def check_has_gaussians(wishes: EvalConfig, run: RunConfig) -> None:
    """Raises InputError for an option of `OF_GAUSSIANS` that is set for a model without them."""
    if gives(run.model) == "gaussians":
        return
    who = "=".join(named(run.model))
    unset = EvalConfig()
    for field in OF_GAUSSIANS:
        value = getattr(wishes, field)
        if value != getattr(unset, field):
            raise InputError.of(
                field, value, f"needs Gaussians, which {who} has not", "leave it out",
            )  # fmt: skip


def named(model: Any) -> tuple[str, str]:
    """The field that says what a model gives, and its value."""
    if getattr(model, "kind", "ttt3r") == "tttlrm":
        return "model.decoder", model.decoder
    return "model.kind", getattr(model, "kind", "ttt3r")


def check_stream_options(wishes: EvalConfig, plan: Plan, saved: StreamRecord | None) -> None:
    """Raises InputError for options that only a stream has, and ones a saved stream has fixed."""
    for field in ("accumulate", "first_distance", "save_state", "load_state"):
        value = getattr(wishes, field)
        if value is not None and plan != "causal":
            raise InputError.of(
                field, value, f"belongs to a stream, and the plan is {plan}", "add --plan causal"
            )
    if wishes.normalise_over is not None and plan == "causal":
        raise InputError.of(
            "normalise_over", wishes.normalise_over,
            "is not read by a stream, whose frame its first chunk fixes", "leave it out",
        )  # fmt: skip
    resolution = ("resolution",) if wishes.seconds is None else ()  # improving has its own
    for field in (
        *resolution, "background", "accumulate", "first_distance", "pose_normalisation",
    ):  # fmt: skip
        value, fixed = getattr(wishes, field), None if saved is None else getattr(saved, field, "")
        if saved is not None and value is not None and value != fixed:
            what = f"is not the {fixed}" if fixed else "cannot change what was fixed by the start"
            raise InputError.of(
                field, value, f"{what} of the state {wishes.load_state}", "leave it out"
            )


def choose_resolution(
    wanted: tuple[int, int] | None, run: RunConfig, capture: Capture
) -> tuple[int, int]:
    """Height and width as asked for, else about as many pixels as in training; those of training
    themselves where pictures are squeezed into them.

    Raises InputError for what is no multiple of the patch size.
    """
    patch = run.model.patch_size
    if wanted is None:
        trained = run.data.image_size
        squeezed = run.data.capture_resize == RESIZE_MODES["resize"]
        return trained if squeezed else fitted_resolution(capture.image_size(), trained, patch)
    if wanted[0] % patch or wanted[1] % patch:
        nearest = [max(1, round(side / patch)) * patch for side in wanted]
        raise InputError.of(
            "resolution", f"{wanted[0]} {wanted[1]}",
            f"is not a multiple of the patch size {patch}", f"use {nearest[0]} {nearest[1]}",
        )  # fmt: skip
    return wanted


def improved_resolution(wanted: tuple[int, int] | None, capture: Capture) -> tuple[int, int]:
    """Height and width that Gaussians are improved at: as asked for, else the capture's own.

    Without being asked for, no more than `MAX_IMPROVED_PIXELS`. Raises InputError for more pixels
    than there are.
    """
    own = capture.image_size()
    if wanted is None:
        scale = min(1.0, math.sqrt(MAX_IMPROVED_PIXELS / (own[0] * own[1])))
        return max(1, round(own[0] * scale)), max(1, round(own[1] * scale))
    if wanted[0] > own[0] or wanted[1] > own[1]:
        raise InputError.of(
            "resolution", f"{wanted[0]} {wanted[1]}",
            f"has more pixels than the pictures of {capture.name}, {own[0]} {own[1]}",
            f"use at most {own[0]} {own[1]}",
        )  # fmt: skip
    return wanted


def fitted_resolution(
    capture_size: tuple[int, int], trained_size: tuple[int, int], patch_size: int
) -> tuple[int, int]:
    """Height and width with the aspect of the capture and about as many pixels as in training.

    Both are multiples of the patch size.
    """
    height, width = capture_size
    scale = math.sqrt(trained_size[0] * trained_size[1] / (height * width))
    return round_to_patch(height * scale, width * scale, patch_size)


def stream_frame(
    capture: Capture, first_chunk: np.ndarray | None, wishes: EvalConfig, run: RunConfig
) -> tuple[PoseNormalisation | None, bool]:
    """The similarity from the first chunk's frames, and whether these gave it a scale."""
    if first_chunk is None:
        return None, True
    poses = capture.world_from_camera[first_chunk]
    distance = 1.0 if wishes.first_distance is None else wishes.first_distance
    return first_chunk_normalisation(poses, run.data.pose_normalisation, distance)


def choose_frames(
    capture: Capture, wishes: EvalConfig, run: RunConfig, plan: Plan, saved: StreamRecord | None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of inputs and targets.

    Every 8th frame is a target. Inputs are those that `--frames` names, in its order, else those
    that the capture lists for their number, or chosen by k-means: plans in chunks take these in
    the order of the capture. Frames that a saved stream has seen are left out. Raises InputError
    where there are too few.
    """
    views = run.data.num_input_views if wishes.views is None else wishes.views
    if wishes.frames is not None:
        return _named_frames(capture, wishes.frames, saved)
    if saved is not None:
        inputs, targets = _unseen_frames(capture, views, saved)
    else:
        inputs, targets = _split(capture, views)
    return (inputs if plan == "full" else np.sort(inputs)), targets


def trained_chunk(run: RunConfig, plan: Plan) -> int:
    """Views per update. A model that was not trained in chunks is streamed in chunks of as many
    views as it was trained with: what it learned to take in by one update."""
    streams_whole = plan == "causal" and run.train.plan == "full"
    return run.data.num_input_views if streams_whole else run.train.chunk_views


def _fitted_chunk(
    wishes: EvalConfig, chunk_views: int, num_views: int, saved: StreamRecord | None
) -> int:
    """Views per chunk: as asked for, as in the saved stream, or no more than there are."""
    if saved is not None and chunk_views == saved.chunk_views:
        return chunk_views
    if wishes.chunk_views is not None and chunk_views > num_views:
        raise InputError.of(
            "chunk_views", chunk_views, f"is larger than the stream of {num_views} views",
            "use smaller chunks or more views",
        )  # fmt: skip
    return min(chunk_views, num_views)


def _split(capture: Capture, num_inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Input and target frames of the every-8th protocol."""
    if num_inputs >= len(capture):
        raise InputError.of(
            "views", num_inputs, f"needs more than the {len(capture)} frames of {capture.name}, "
            "of which every 8th is a target", "use fewer input views or a longer capture",
        )  # fmt: skip
    return capture.split(num_inputs)


def _named_frames(
    capture: Capture, text: str, saved: StreamRecord | None
) -> tuple[np.ndarray, np.ndarray]:
    """Frames such as 1-7,9 by their numbers in the camera file."""
    position = {int(number): place for place, number in enumerate(capture.frame_numbers)}
    numbers: list[int] = []
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        if match is None:
            raise InputError.of("frames", text, "is not a list of numbers", "write e.g. 1-7,9")
        first, last = int(match[1]), int(match[2] or match[1])
        numbers += range(first, last + 1) if first <= last else range(first, last - 1, -1)
    seen = _seen_places(capture, saved)
    for wrong, limit, remedy in (
        ([n for n in numbers if n not in position], f"are not in {capture.name}", "correct them"),
        (
            [n for n in numbers if n % TARGET_STRIDE == 0],
            f"are targets (every {TARGET_STRIDE}th), on which scores are taken", "leave them out",
        ),
        (
            sorted(n for n, count in collections.Counter(numbers).items() if count > 1),
            "come twice", "name each once",
        ),
        (
            [n for n in numbers if position.get(n) in seen],
            "are in the state already", "leave them out",
        ),
    ):  # fmt: skip
        if wrong:
            raise InputError.of("frames", ",".join(map(str, wrong)), limit, remedy)
    return np.array([position[number] for number in numbers]), candidates_and_targets(capture)[1]


def _unseen_frames(
    capture: Capture, num_inputs: int, saved: StreamRecord
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs by k-means among the frames that a stream has not seen; targets as ever."""
    candidates, targets = candidates_and_targets(capture)
    seen = _seen_places(capture, saved)
    new = [n for n in candidates if n not in seen]
    if num_inputs > len(new):
        raise InputError.of(
            "views", num_inputs, f"exceeds the {len(new)} frames of {capture.name} that the state "
            "has not seen and that are no targets", "use fewer views or another capture",
        )  # fmt: skip
    return np.array(new)[select_kmeans(capture.world_from_camera[new], num_inputs)], targets


def candidates_and_targets(capture: Capture) -> tuple[np.ndarray, np.ndarray]:
    """Frames that may be inputs, and the targets. Raises InputError where there is no target."""
    candidates, targets = split_every(len(capture), frame_numbers=capture.frame_numbers)
    if not len(targets):
        raise InputError(
            f"capture {capture.name} has none of its frames 0, {TARGET_STRIDE}, ..., which are "
            "the targets; restore their images"
        )
    return candidates, targets


def _seen_places(capture: Capture, saved: StreamRecord | None) -> set[int]:
    """Positions of the capture's frames that a saved stream holds, by capture and name."""
    held = set() if saved is None else set(saved.frames)
    return {n for n, frame in enumerate(capture.frames) if (capture.name, frame.name) in held}
