"""Records that cross module borders, and the glossary of their axes.

Axes: `batch` scenes, `view` images of one scene, `token` patches in view-major order, `head`,
`gaussian` splats of one scene, `coefficient` spherical harmonics, `layer`, `chunk`.

Frames: OpenCV cameras (x right, y down, z forward); `point_world = world_from_camera @
point_camera`. Pixel centres lie at +0.5; intrinsics are (fx, fy, cx, cy) in pixels. Quaternions
are (w, x, y, z). Images are RGB in [0, 1], channels last.

A stored quantity carries its transform in its name (`log_scale`, `opacity_logit`); an activated
one does not (`scale`, `opacity`). `Gaussians.activate` is the one place that converts.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, jaxtyped

_Function = TypeVar("_Function", bound=Callable)


def typechecked(function: _Function) -> _Function:
    """Checks annotated shapes while tracing when TTTLRM_TYPECHECK=1 (the tests set it)."""
    if os.environ.get("TTTLRM_TYPECHECK") != "1":
        return function
    from beartype import beartype

    return jaxtyped(function, typechecker=beartype)  # type: ignore[return-value]


@flax.struct.dataclass
class Cameras:
    """Pinhole cameras of one image size; leading axes are shared by both arrays."""

    world_from_camera: Float[Array, "... 4 4"]
    intrinsics: Float[Array, "... 4"]  # fx, fy, cx, cy in pixels of (height, width)
    height: int = flax.struct.field(pytree_node=False)
    width: int = flax.struct.field(pytree_node=False)

    def __getitem__(self, index) -> "Cameras":
        """Indexes the leading axes, e.g. `cameras[:, 0]`."""
        return Cameras(
            self.world_from_camera[index], self.intrinsics[index], self.height, self.width
        )


@flax.struct.dataclass
class Views:
    """Posed images of a batch of scenes or, without that axis, of one."""

    image: Float[Array, "*batch view height width 3"]
    cameras: Cameras  # the same leading axes
    # of pixels that show the scene, for what compares pictures with them; None: all do
    valid: Bool[Array, "*batch view height width"] | None = None

    def __getitem__(self, index) -> "Views":
        """Indexes the leading axes."""
        return jax.tree.map(lambda x: x[index], self)


@flax.struct.dataclass
class Chunk:
    """Consecutive views of a stream; stacked chunks have a leading chunk axis on every array.

    Views outside `mask` do not exist: whatever their pixels and cameras hold changes nothing.
    Where `virtual` is given its views are read after the chunk in place of the chunk's own;
    `Cameras` are views without image. Those outside `virtual_mask` show nothing.
    """

    views: Views
    mask: Bool[Array, "batch view"] | None = None
    virtual: Views | Cameras | None = None
    virtual_mask: Bool[Array, "batch virtual"] | None = None


@flax.struct.dataclass
class Splats:
    """Activated Gaussians, as the rasterizer takes them.

    `scale` are standard deviations along local axes in world units, `opacity` lies in [0, 1],
    `quaternion` has any non-zero length. `features` are spherical-harmonics coefficients
    `[gaussian, coefficient, 3]` or plain channels `[gaussian, channel]`.
    """

    mean: Float[Array, "*batch gaussian 3"]
    quaternion: Float[Array, "*batch gaussian 4"]
    scale: Float[Array, "*batch gaussian 3"]
    opacity: Float[Array, "*batch gaussian"]
    features: Float[Array, "..."]  # *batch gaussian channel, or *batch gaussian coefficient 3


@flax.struct.dataclass
class Gaussians:
    """Stored Gaussians: what decoders emit, checkpoints and PLY files hold."""

    mean: Float[Array, "*batch gaussian 3"]
    sh: Float[Array, "*batch gaussian coefficient 3"]
    log_scale: Float[Array, "*batch gaussian 3"]
    quaternion: Float[Array, "*batch gaussian 4"]
    opacity_logit: Float[Array, "*batch gaussian"]

    def activate(self) -> Splats:
        """Applies exp to scales and the logistic function to opacities."""
        return Splats(
            mean=self.mean,
            quaternion=self.quaternion,
            scale=jnp.exp(self.log_scale),
            opacity=jax.nn.sigmoid(self.opacity_logit),
            features=self.sh,
        )
