"""What models refuse of views and frames, and the operations of a plan."""

from typing import Any

import numpy as np
from jaxtyping import Array

from tttlrm_jax.config import Plan
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models.nn.block import initial_states, run_blocks
from tttlrm_jax.ttt import LayerState, Operation, full_plan, sequential_plan


def cameras_of(views: Views | Cameras) -> Cameras:
    """The cameras of views, which may be without images."""
    return views.cameras if isinstance(views, Views) else views


def check_views(views: Views | Cameras, patch_size: int) -> None:
    """Raises InputError unless axes are `[batch, view]`, both sides multiples of the patch, and
    images those of their cameras."""
    cameras = cameras_of(views)
    if cameras.intrinsics.ndim != 3:
        raise InputError.of(
            "cameras.intrinsics shape", cameras.intrinsics.shape, "is not (batch, view, 4)",
            "add the missing axis, e.g. x[None] for one scene",
        )  # fmt: skip
    check_side("views.height", cameras.height, patch_size)
    check_side("views.width", cameras.width, patch_size)
    expected = (*cameras.intrinsics.shape[:-1], cameras.height, cameras.width, 3)
    if isinstance(views, Views) and views.image.shape != expected:
        raise InputError.of(
            "views.image shape", views.image.shape, f"does not match its cameras' {expected}",
            "give one image of the cameras' size per camera",
        )  # fmt: skip


def check_side(field: str, value: int, patch_size: int) -> None:
    """Raises InputError unless the side of an image, in px, is a multiple of the patch."""
    if value % patch_size or value <= 0:
        raise InputError.of(
            field, value, f"is not a multiple of patch_size={patch_size}",
            f"resize or crop to {max(value // patch_size, 1) * patch_size}",
        )  # fmt: skip


def check_pixels(name: str, pixels: Array, channels: int, patch_size: int) -> None:
    """Raises InputError unless pixels are [batch, height, width, channel] in whole patches."""
    shape = tuple(pixels.shape)
    if len(shape) != 4 or shape[-1] != channels or shape[0] == 0:
        raise InputError.of(
            f"{name} shape", shape, f"is not (batch, height, width, {channels})",
            "add the missing axis, e.g. x[None] for one scene",
        )  # fmt: skip
    check_side(f"{name} height", shape[1], patch_size)
    check_side(f"{name} width", shape[2], patch_size)


def not_finite(values: Any, num_axes: int) -> np.ndarray:
    """Which entries along the first axes hold a value that is not finite."""
    values = np.asarray(values)
    return ~np.isfinite(values).all(axis=tuple(range(num_axes, values.ndim)))


def refuse(broken: np.ndarray, mask: Any, field: str, value: str, item: str = "view") -> None:
    """Raises InputError for the first `[scene]` or `[scene, view]` that is broken and in the mask
    (None: all)."""
    broken = broken if mask is None else broken & np.asarray(mask)
    if broken.any():
        axes = zip(("scene", "view"), np.argwhere(broken)[0], strict=False)
        raise InputError.of(
            f"{field} of {', '.join(f'{axis} {index}' for axis, index in axes)}", value,
            "would spoil the state for good", f"leave the {item} out or mask it",
        )  # fmt: skip


def check_same_frame(inputs: Cameras, others: Cameras, name: str) -> None:
    """Raises InputError unless `others` has the batch and image size of the input views."""
    found = (others.intrinsics.shape[0], others.height, others.width)
    expected = (inputs.intrinsics.shape[0], inputs.height, inputs.width)
    if found != expected:
        raise InputError.of(
            f"{name} views' batch, height, width", found,
            f"differ from the input views' {expected}",
            f"resize the {name} views, or give as many scenes",
        )  # fmt: skip


def write_views(
    model: Any, inputs: Views, plan: Plan = "full", chunk_views: int = 1, state: Any | None = None
) -> LayerState:
    """The fast weights, with a leading layer axis, after the input views of the full or sequential
    plan; before them those of `state` or the learned ones."""
    tokens = model.tokenize(inputs)
    operations = plan_operations(plan, tokens.shape[1], tokens.shape, chunk_views)
    state = initial_states(model.blocks, tokens.shape[0]) if state is None else state
    return run_blocks(model.blocks, tokens, operations, state, model.config.remat)[1]


def plan_operations(
    plan: Plan, num_input_views: int, token_shape: tuple[int, ...], chunk_views: int
) -> tuple[Operation, ...]:
    """Operations of the full or sequential plan over tokens `[batch, view, token, d_model]`."""
    _, num_views, tokens_per_view, _ = token_shape
    num_input, num_token = num_input_views * tokens_per_view, num_views * tokens_per_view
    if plan == "full":
        return full_plan(num_input, num_token)
    if plan != "sequential":
        raise InputError.of(
            "plan", plan, "is not one pass over the tokens", "use full or sequential"
        )
    if chunk_views <= 0 or num_input_views % chunk_views:
        raise InputError.of(
            "chunk_views", chunk_views, f"does not divide the {num_input_views} input views",
            "use a divisor",
        )  # fmt: skip
    return sequential_plan(num_input, num_token, chunk_views * tokens_per_view)
