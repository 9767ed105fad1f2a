"""What per-scene optimisation minimises: rendered views against their photographs.

The loss of a view is `(1 - w) mean |difference| + w (1 - SSIM)` (Kerbl et al. 2023, equation 7;
SSIM here has its uniform 7x7 window). The pull on a Gaussian's position on the screen is the
derivative of the loss by it, in halves of the image.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.metrics.images import ssim
from tttlrm_jax.per_scene.corrections import Corrections, corrected, exposed
from tttlrm_jax.rasterize import Rendering, ScreenSplats, composite, project_and_colour


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """Static: how the photographs were taken and how much room the renderer has."""

    background: tuple[float, float, float]
    raster: RasterConfig
    capacity: int  # Gaussian-tile intersections of a view
    ssim_weight: float

    def with_more_room(self, most: int) -> "RenderSettings":
        """With twice the capacity, but no more than `most`."""
        return dataclasses.replace(self, capacity=min(2 * self.capacity, most))


@flax.struct.dataclass
class ViewSlopes:
    """Sums over views; `pull` and `seen` by Gaussian, seen counting the views that draw it."""

    loss: Float[Array, ""]
    gaussians: Gaussians  # derivative of the loss
    pull: Float[Array, " gaussian"]
    seen: Int[Array, " gaussian"]
    num_dropped: Int[Array, ""]  # most intersections beyond the capacity in a view
    corrections: Corrections | None = None  # of each view's own loss by its own [view, ...]


def draw_view(
    gaussians: Gaussians,
    shift: Float[Array, "gaussian 2"] | float,
    camera: Cameras,
    settings: RenderSettings,
    own: Corrections | None = None,
) -> tuple[Rendering, Bool[Array, " gaussian"]]:
    """What one camera sees of Gaussians moved by `shift` px on its screen, and which it draws.

    The camera is corrected by its `own` correction; exposure plays no part.
    """
    screen = see_view(gaussians, shift, camera, settings, own)
    rendering = composite(
        screen, camera.height, camera.width,
        background=jnp.asarray(settings.background, gaussians.mean.dtype),
        config=settings.raster, capacity=settings.capacity,
    )  # fmt: skip
    return rendering, jnp.all(screen.radius > 0, axis=-1)


def see_view(
    gaussians: Gaussians,
    shift: Float[Array, "gaussian 2"] | float,
    camera: Cameras,
    settings: RenderSettings,
    own: Corrections | None = None,
) -> ScreenSplats:
    """What of `draw_view` comes before compositing."""
    camera = corrected(camera, own)
    screen = project_and_colour(
        gaussians.activate(), rigid_inverse(camera.world_from_camera), camera.intrinsics,
        camera.height, camera.width, settings.raster,
    )  # fmt: skip
    return screen.replace(mean=screen.mean + shift)


def view_loss(
    gaussians: Gaussians,
    shift: Float[Array, "gaussian 2"],
    view: Views,
    settings: RenderSettings,
    own: Corrections | None = None,
) -> tuple[Float[Array, ""], tuple[Bool[Array, " gaussian"], Int[Array, ""]]]:
    """Loss of one view (no view axis), which Gaussians it draws, and what did not fit.

    `shift` moves Gaussians on the screen, in pixels: zeros, there for their derivative. `own` is
    what the view's camera and exposure are corrected by.
    """
    rendering, drawn = draw_view(gaussians, shift, view.cameras, settings, own)
    return loss_of(rendering, view, settings, own), (drawn, rendering.num_dropped)


def loss_of(
    rendering: Rendering, view: Views, settings: RenderSettings, own: Corrections | None = None
) -> Float[Array, ""]:
    """Loss of a view that was drawn."""
    made, photograph = compared(exposed(rendering, settings.background, own), view)
    loss = (1 - settings.ssim_weight) * jnp.mean(jnp.abs(made - photograph))
    if settings.ssim_weight:
        loss += settings.ssim_weight * (1 - ssim(made, photograph))
    return loss


def compared(
    picture: Float[Array, "height width 3"], view: Views
) -> tuple[Float[Array, "height width 3"], Float[Array, "height width 3"]]:
    """The picture and the photograph of a view, equal where this does not show the scene.

    Both are the picture there, without derivative: such pixels neither cost nor pull anything,
    and windows of SSIM that reach them see no edge of a mask.
    """
    if view.valid is None:
        return picture, view.image
    valid, same = view.valid[..., None], jax.lax.stop_gradient(picture)
    return jnp.where(valid, picture, same), jnp.where(valid, view.image, same)


def slopes_of_views(
    gaussians: Gaussians, views: Views, settings: RenderSettings, own: Corrections | None = None
) -> ViewSlopes:
    """Mean loss over the views and its derivative; one view's workspace is live at a time.

    `own` [view, ...] are corrections of these views.
    """
    count = views.image.shape[0]
    shift = jnp.zeros_like(gaussians.mean[:, :2])

    def add(
        total: ViewSlopes, each: tuple[Views, Corrections | None]
    ) -> tuple[ViewSlopes, Corrections | None]:
        view, own = each
        value, slope = jax.value_and_grad(view_loss, argnums=(0, 1, 4), has_aux=True)(
            gaussians, shift, view, settings, own
        )
        loss, (drawn, dropped) = value
        new = slopes_of_view(loss, slope[0], slope[1], drawn, dropped, view.cameras)
        return ViewSlopes(
            loss=total.loss + new.loss / count,
            gaussians=jax.tree.map(lambda t, s: t + s / count, total.gaussians, new.gaussians),
            pull=total.pull + new.pull,
            seen=total.seen + new.seen,
            num_dropped=jnp.maximum(total.num_dropped, dropped),
        ), slope[2]

    nothing = ViewSlopes(
        loss=jnp.zeros((), shift.dtype),
        gaussians=jax.tree.map(jnp.zeros_like, gaussians),
        pull=jnp.zeros_like(gaussians.opacity_logit),
        seen=jnp.zeros(gaussians.opacity_logit.shape, jnp.int32),
        num_dropped=jnp.zeros((), jnp.int32),
    )
    total, corrections = jax.lax.scan(add, nothing, (views, own))
    return total.replace(corrections=corrections)


def slopes_of_view(
    loss: Float[Array, ""],
    gaussians: Gaussians,
    shift: Float[Array, "gaussian 2"],
    drawn: Bool[Array, " gaussian"],
    num_dropped: Int[Array, ""],
    camera: Cameras,
) -> ViewSlopes:
    """Of one view, without corrections: from the derivatives by Gaussians and by their shifts."""
    halves = jnp.asarray([[0.5 * camera.width, 0.5 * camera.height]], shift.dtype)
    pull = jnp.linalg.norm(shift * halves, axis=1)
    return ViewSlopes(
        loss=loss,
        # of Gaussians with values that are not finite nothing moves
        gaussians=jax.tree.map(lambda s: jnp.where(jnp.isfinite(s), s, 0), gaussians),
        pull=jnp.where(drawn & jnp.isfinite(pull), pull, 0),
        seen=drawn.astype(jnp.int32),
        num_dropped=num_dropped,
    )
