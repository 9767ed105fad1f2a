"""Learned tokens to three planes of features, a field of density and colour (tttLRM section 3).

The planes span the box [-extent, extent]^3 of the normalised frame; in order they hold (x, y),
(x, z) and (y, z), the second of the two along rows. A point's features are those of its three
projections, between the middles of cells bilinearly, one after another.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.geometry.rays import camera_rays
from tttlrm_jax.core.precision import accumulation_dtype
from tttlrm_jax.core.types import Cameras, Views, typechecked
from tttlrm_jax.models.nn.layers import LayerNorm, linear
from tttlrm_jax.models.nn.tokens import unpatchify
from tttlrm_jax.volume import Field, Marched, march

NUM_PLANES = 3
PLANE_AXES = ((0, 1), (0, 2), (1, 2))  # of (column, row)
# density = DENSITY_SCALE * softplus(raw + DENSITY_OFFSET): a thin fog before training
DENSITY_SCALE, DENSITY_OFFSET = 10.0, -3.0


@typechecked
def plane_features(
    planes: Float[Array, "3 side side channel"], points: Float[Array, "point 3"]
) -> Float[Array, "point features"]:
    """Features of points in [-1, 1]^3; outside of it those of the border."""
    _, side, _, channel = planes.shape
    uv = points[:, jnp.array(PLANE_AXES)]  # [point, plane, (column, row)]
    place = jnp.clip((uv + 1) / 2 * side - 0.5, 0, side - 1)
    low = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0, max(side - 2, 0))
    share = place - low
    low = low.astype(jnp.int32)
    flat = planes.reshape(-1, channel)
    first = side * side * jnp.arange(NUM_PLANES)[None]
    found = jnp.zeros((*uv.shape[:2], channel), planes.dtype)
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
        corner = jnp.minimum(low + jnp.array([[[column, row]]]), side - 1)
        index = first + corner[..., 1] * side + corner[..., 0]
        weight = (share if column else 1 - share)[..., 0] * (share if row else 1 - share)[..., 1]
        found = found + weight[..., None] * flat[index]
    return found.reshape(len(points), NUM_PLANES * channel)


class TriplaneDecoder(nnx.Module):
    """Learned tokens of the planes; LayerNorm and a linear layer to cells; a network of one hidden
    layer from features to density and colour."""

    gives = "scenes"

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        triplane = config.triplane
        count = (triplane.side // triplane.token_side) ** 2
        shape = (NUM_PLANES, count, config.d_model)
        # as large as tokens of views are after their norm
        tokens = jax.random.normal(rngs.params(), shape, jnp.dtype(config.param_dtype))
        self.tokens = nnx.Param(tokens)
        self.norm = LayerNorm(config.d_model, config)
        cells = triplane.token_side**2 * triplane.channels
        self.linear = linear(config.d_model, cells, config, rngs=rngs)
        features, hidden = NUM_PLANES * triplane.channels, triplane.hidden

        def layer(fan_in: int, fan_out: int):
            return linear(
                fan_in, fan_out, config, rngs=rngs, init_std=fan_in**-0.5, use_bias=True,
                dtype="float32" if config.compute_dtype == "bfloat16" else None,
            )  # fmt: skip

        self.hidden, self.out = layer(features, hidden), layer(hidden, 4)
        self.config = config

    def queries(self, batch: int) -> Float[Array, "batch plane token d_model"]:
        """The learned tokens, the same for every scene; window attention joins those of a plane."""
        return jnp.broadcast_to(self.tokens[...], (batch, *self.tokens.shape))

    def __call__(
        self, tokens: Float[Array, "batch plane token d_model"], views: Views | None = None
    ) -> Float[Array, "batch plane side side channel"]:
        """Planes of features, at least float32."""
        del views
        triplane = self.config.triplane
        raw = self.linear(self.norm(tokens))
        raw = raw.astype(accumulation_dtype(raw.dtype))
        return unpatchify(raw, triplane.side, triplane.side, triplane.token_side)

    def field(self, planes: Float[Array, "plane side side channel"]) -> Field:
        """Density and colour of points [..., 3] in one scene."""

        def look(points: Array) -> tuple[Array, Array]:
            flat = points.reshape(-1, 3) / self.config.triplane.extent
            raw = self.out(jax.nn.silu(self.hidden(plane_features(planes, flat))))
            raw = raw.reshape(*points.shape[:-1], 4)
            density = DENSITY_SCALE * jax.nn.softplus(raw[..., 0] + DENSITY_OFFSET)
            return density, jax.nn.sigmoid(raw[..., 1:])

        return look

    def march(
        self,
        scene: Float[Array, "batch plane side side channel"],
        cameras: Cameras,
        background: Float[Array, "batch 3"],
        keys: Array | None = None,
    ) -> Marched:
        """Colour, alpha and depth [batch, view, height, width, ...] of cameras [batch, view]."""
        origin, direction = camera_rays(cameras)
        shape = origin.shape[1:-1]

        def one_scene(one):
            planes, origin, direction, background, key = one
            seen = march(
                self.field(planes), origin.reshape(-1, 3), direction.reshape(-1, 3), background,
                self.config.triplane, key,
            )  # fmt: skip
            return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), seen)

        return jax.lax.map(one_scene, (scene, origin, direction, background, keys))

    def render(
        self,
        scene: Float[Array, "batch plane side side channel"],
        cameras: Cameras,
        background: Float[Array, "batch 3"],
        keys: Array | None = None,
    ) -> Float[Array, "batch view height width 3"]:
        """Pictures of cameras [batch, view] over `background`."""
        return self.march(scene, cameras, background, keys).rgb
