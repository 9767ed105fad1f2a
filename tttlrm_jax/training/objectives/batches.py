"""The records that a training step reads: a batch of scenes, and what is fixed for a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.metrics.convolutions import Convolution


@flax.struct.dataclass
class DepthOfPart:
    """Depth of some of a batch's scenes, with what the loss needs to know of the others."""

    z: Float[Array, "batch view height width"]  # 0 where there is none
    valid_share: Float[Array, "batch view"]  # of this view's pixels in all scenes of the batch


@flax.struct.dataclass
class Batch:
    """Scenes with posed inputs and supervision; depth and mask where the source has them.

    On a mesh, images and masks of the targets are cut into `Parts`; their cameras are whole.
    """

    inputs: Views
    targets: Views
    target_mask: Float[Array, "batch view height width"] | None = None  # foreground coverage
    # z of the views that carry the Gaussians; 0 where none
    input_depth: Float[Array, "batch view height width"] | DepthOfPart | None = None
    input_number: Int[Array, "batch view"] | None = None  # of each input, where a mesh moved it
    virtual_index: Int[Array, "batch virtual"] | None = None  # inputs that carry the Gaussians
    background: Float[Array, "batch 3"] | None = None  # of each scene, where it is not the run's


VGG19 = tuple[Convolution, ...]


class StaticParts(NamedTuple):
    """What a step needs beside arrays: hashable, fixed for a run."""

    graph: Any  # structure of the model
    config: RunConfig


class Rendered(NamedTuple):
    """A batch's targets as a model shows them, after one chunk or after each."""

    rgb: Float[Array, "chunk batch view height width 3"]  # on a mesh: this device's parts
    lost: dict[str, Array]  # counts of what was left out, by name


def batch_from_arrays(arrays: dict[str, Any], convert: Callable[..., Any] = jnp.asarray) -> Batch:
    """The loader's dictionary as records of arrays that `convert` makes."""

    def views(prefix: str) -> Views:
        image = convert(arrays[f"{prefix}_image"])
        poses, lenses = arrays[f"{prefix}_world_from_camera"], arrays[f"{prefix}_intrinsics"]
        return Views(image, Cameras(convert(poses), convert(lenses), *image.shape[2:4]))

    if "virtual_index" in arrays and "input_depth" in arrays:
        places = np.asarray(arrays["virtual_index"])[..., None, None]
        depth = np.take_along_axis(np.asarray(arrays["input_depth"]), places, axis=1)
        arrays = arrays | {"input_depth": depth}
    optional = ("target_mask", "input_depth", "background", "virtual_index")
    given = {name: convert(arrays[name]) for name in optional if name in arrays}
    return Batch(inputs=views("input"), targets=views("target"), **given)
