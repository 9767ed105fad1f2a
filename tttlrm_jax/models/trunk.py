"""What both models say about views and plans."""

from tttlrm_jax.config import Plan
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.ttt import Operation, full_plan, sequential_plan


def check_cameras(cameras: Cameras, patch_size: int) -> None:
    """Raises InputError unless axes are `[batch, view]` and both sides multiples of the patch."""
    if cameras.intrinsics.ndim != 3:
        raise InputError.of(
            "cameras.intrinsics shape", cameras.intrinsics.shape, "is not (batch, view, 4)",
            "add the missing axis, e.g. x[None] for one scene",
        )  # fmt: skip
    for side in ("height", "width"):
        value = getattr(cameras, side)
        if value % patch_size or value <= 0:
            raise InputError.of(
                f"views.{side}", value, f"is not a multiple of patch_size={patch_size}",
                f"resize or crop to {max(value // patch_size, 1) * patch_size}",
            )  # fmt: skip


def check_views(views: Views, patch_size: int) -> None:
    """Raises InputError unless images `[batch, view, ...]` match their cameras and the patch."""
    check_cameras(views.cameras, patch_size)
    expected = (*views.cameras.intrinsics.shape[:-1], views.cameras.height, views.cameras.width, 3)
    if views.image.shape != expected:
        raise InputError.of(
            "views.image shape", views.image.shape, f"does not match its cameras' {expected}",
            "give one image of the cameras' size per camera",
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
