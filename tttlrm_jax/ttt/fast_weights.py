"""The fast network of a TTT layer and the gradient of its inner objective.

Per head, `f(x) = (silu(x W0) * (x W2)) W1` with `gate = W0`, `up = W2` of shape
`[d_head, d_hid]` and `down = W1` of shape `[d_hid, d_head]`. The inner objective of a chunk is
`-sum_t eta_t <f(k_t), v_t>`; its negative gradient, with one rate per token and per matrix, is
closed-form. Another objective `-sum_t eta_t L(f(k_t), v_t)` differs only in the cotangent that
takes the place of `v_t`.
"""

from collections.abc import Callable

import flax.struct
import jax
from jaxtyping import Array, Float

from tttlrm_jax.core.precision import einsum, safe_norm
from tttlrm_jax.core.types import typechecked

RENORM_EPS = 1e-5


@flax.struct.dataclass
class FastWeights:
    """One SwiGLU network per scene and head, or one array per matrix of the same structure."""

    gate: Float[Array, "*batch d_head d_hid"]  # W0
    down: Float[Array, "*batch d_hid d_head"]  # W1
    up: Float[Array, "*batch d_head d_hid"]  # W2


@flax.struct.dataclass
class TokenRates:
    """Learning rate of each token for each of the three matrices."""

    gate: Float[Array, "batch head token"]
    down: Float[Array, "batch head token"]
    up: Float[Array, "batch head token"]
    gates: tuple[Float[Array, "batch head token"], ...] = ()  # logits, if the rule learns gates


# (f(k), v) -> gradient of the objective's terms with respect to f(k)
Objective = Callable[[Array, Array], Array]


def inner_product(prediction: Array, value: Array) -> Array:
    """Cotangent of `<f(k), v>`, the published objective."""
    del prediction
    return value


def least_squares(prediction: Array, value: Array) -> Array:
    """Cotangent of `-1/2 |f(k) - v|^2`."""
    return value - prediction


@typechecked
def apply_fast_mlp(
    weights: FastWeights, query: Float[Array, "batch head token d_head"], dtype
) -> Float[Array, "batch head token d_head"]:
    """Reads the fast network: `(silu(q W0) * (q W2)) W1`, matrix operands in `dtype`."""
    gate = einsum("bhti,bhif->bhtf", query, weights.gate, dtype=dtype)
    up = einsum("bhti,bhif->bhtf", query, weights.up, dtype=dtype)
    return einsum("bhtf,bhfo->bhto", jax.nn.silu(gate) * up, weights.down, dtype=dtype)


@typechecked
def ascent_direction(
    weights: FastWeights,
    key: Float[Array, "batch head token d_head"],
    value: Float[Array, "batch head token d_head"],
    rates: TokenRates,
    dtype,
    objective: Objective = inner_product,
) -> FastWeights:
    """Gradient of the objective w.r.t. each matrix, with that matrix's rates."""
    gate = einsum("bhti,bhif->bhtf", key, weights.gate, dtype=dtype)
    up = einsum("bhti,bhif->bhtf", key, weights.up, dtype=dtype)
    sigmoid = jax.nn.sigmoid(gate)
    activated = gate * sigmoid
    if objective is not inner_product:
        recalled = einsum("bhtf,bhfo->bhto", activated * up, weights.down, dtype=dtype)
        value = objective(recalled, value)
    pulled = einsum("bhto,bhfo->bhtf", value, weights.down, dtype=dtype)
    d_gate = pulled * up * sigmoid * (1 + gate * (1 - sigmoid))

    def outer(left, right):
        return einsum("bhti,bhtf->bhif", left, right, dtype=dtype)

    # Rates scale the narrower side: their derivative then is a sum over d_head, not d_hid.
    return FastWeights(
        gate=outer(key * rates.gate[..., None], d_gate),
        down=outer(activated * up, value * rates.down[..., None]),
        up=outer(key * rates.up[..., None], pulled * activated),
    )


def column_norms(weights: FastWeights) -> FastWeights:
    """L2 norm of each output unit's weights, as `[..., 1, unit]` arrays."""
    return jax.tree.map(lambda matrix: safe_norm(matrix, axis=-2), weights)


def renormalise(weights: FastWeights, target_norm: FastWeights) -> FastWeights:
    """Scales each output unit's weights to its target norm: `W / (|W| + 1e-5) * n`."""

    def rescaled(matrix, norm, target):
        return matrix / (norm + RENORM_EPS) * target

    return jax.tree.map(rescaled, weights, column_norms(weights), target_norm)
