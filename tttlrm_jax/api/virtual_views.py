"""Virtual views: those whose pixels carry the Gaussians, where they are not the input views."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.captures.other_views import read_other_views
from tttlrm_jax.captures.view_selection import select_virtual
from tttlrm_jax.config import DataConfig, EvalConfig, Plan, RunConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models.trunk import cameras_of

FIELD = "virtual_views"


def wanted_virtual(
    wishes: EvalConfig, run: RunConfig, plan: Plan, num_inputs: int
) -> int | Path | None:
    """How many of the inputs, or the file with others; None: all inputs.

    Without a wish as many as the model was trained with. Raises InputError for more than there are
    inputs, and for a stream: it reads the views of each chunk.
    """
    wish = wishes.virtual_views
    if wish is None:
        trained = None if plan == "causal" else run.data.num_virtual_views
        return trained if trained is not None and trained < num_inputs else None
    if plan == "causal":
        raise InputError.of(
            FIELD, wish, "is not read by a stream, which reads the views of each chunk",
            "leave it out, or use --plan full",
        )  # fmt: skip
    if not wish.isdecimal():
        return Path(wish)
    if not 1 <= int(wish) <= num_inputs:
        raise InputError.of(
            FIELD, wish, f"is not in 1..{num_inputs}, the number of input views",
            "choose fewer of them, or name a camera file with others",
        )  # fmt: skip
    return None if int(wish) == num_inputs else int(wish)


def read_virtual(
    wanted: int | Path | None,
    input_poses: np.ndarray,
    similarity: PoseNormalisation,
    size: tuple[int, int],
    data: DataConfig,
    background: tuple[float, float, float],
) -> np.ndarray | Views | Cameras | None:
    """Places [virtual] among the inputs, or other views or bare cameras [1, virtual, ...].

    A number is chosen as published: k-means over the normalised float32 `input_poses`
    [input, 4, 4], in the order of clusters. Views of a file lie in the frame of the capture, which
    `similarity` leads from.
    """
    if wanted is None:
        return None
    if isinstance(wanted, int):
        return select_virtual(np.asarray(input_poses, np.float32), wanted).astype(np.int32)
    found = read_other_views(wanted, FIELD, size, data.capture_resize, background)
    cameras = found.cameras if isinstance(found, Views) else found
    poses = on_device(similarity.apply_poses(np.asarray(cameras.world_from_camera)), np.float32)
    posed = Cameras(poses, on_device(cameras.intrinsics, np.float32), *size)
    views = Views(on_device(found.image), posed) if isinstance(found, Views) else posed
    return jax.tree.map(lambda x: x[None], views)


def of_virtual(virtual: np.ndarray | Views | Cameras | None) -> dict[str, Any]:
    """The argument of tttLRM that says so, for one scene."""
    if virtual is None or isinstance(virtual, Views | Cameras):
        return {"virtual": virtual}
    return {"virtual_indices": virtual[None]}


def number_of(virtual: np.ndarray | Views | Cameras | None, num_inputs: int) -> int:
    """How many views carry the Gaussians."""
    if virtual is None:
        return num_inputs
    if isinstance(virtual, np.ndarray):
        return len(virtual)
    return cameras_of(virtual).intrinsics.shape[1]


def described(wanted: int | Path | None, virtual: np.ndarray | Views | Cameras | None) -> str:
    """Which views carry the Gaussians, for people."""
    if isinstance(wanted, int):
        return f"{wanted} of the input views, by k-means"
    if virtual is None:
        return "the input views"
    count = number_of(virtual, 0)
    if isinstance(virtual, Views):
        return f"{count} pictures of {wanted}"
    return f"{count} cameras of {wanted} without pictures; tttLRM is trained with pictures"
