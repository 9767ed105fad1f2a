"""Which tokens update the fast weights and which read them, in what order.

The models' plans are lists of operations over one token sequence: input tokens first, then
query tokens.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.parallel.mesh import total
from tttlrm_jax.ttt.fast_weights import (
    FastWeights,
    TokenRates,
    apply_fast_mlp,
    ascent_direction,
    column_norms,
    renormalise,
)
from tttlrm_jax.ttt.rules.base import UpdateRule

MAX_UNROLLED = 2  # adjacent updates that are not worth a loop: it stacks what gradients need


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation on the tokens `[start, end)`.

    `update` derives new weights from the range; with `persist` they become the persistent ones,
    otherwise they live inside this operation only. `apply` emits `f(q)` of the range, with the
    weights current in this operation.
    """

    start: int
    end: int
    update: bool = False
    persist: bool = False
    apply: bool = False


@flax.struct.dataclass
class LayerState:
    """What one TTT layer hands from one operation to the next."""

    weights: FastWeights  # the persistent fast weights
    target_norm: FastWeights  # unit norms of the initial weights, constant
    rule_state: Any  # owned by the update rule


def initial_state(weights: FastWeights, rule: UpdateRule) -> LayerState:
    """State before any update. The target norms are constants of differentiation."""
    return LayerState(
        weights=weights,
        target_norm=jax.lax.stop_gradient(column_norms(weights)),
        rule_state=rule.init(weights),
    )


def full_plan(num_input: int, num_token: int) -> tuple[Operation, ...]:
    """Updates once with all `num_input` tokens, then reads all `num_token`."""
    return Operation(0, num_input, update=True, persist=True), Operation(0, num_token, apply=True)


def sequential_plan(num_input: int, num_token: int, chunk: int) -> tuple[Operation, ...]:
    """Updates chunk by chunk, then every token reads the final weights (not causal).

    Raises InputError if `num_input` is not a multiple of `chunk`.
    """
    if chunk <= 0 or num_input % chunk:
        raise InputError(
            f"chunk tokens={chunk} do not divide input tokens={num_input}; use a divisor of the "
            f"number of input views"
        )
    updates = (
        Operation(start, start + chunk, update=True, persist=True)
        for start in range(0, num_input, chunk)
    )
    return (*updates, Operation(0, num_token, apply=True))


@typechecked
def update_state(
    state: LayerState,
    key: Float[Array, "batch head token d_head"],
    value: Float[Array, "batch head token d_head"],
    rates: TokenRates,
    rule: UpdateRule,
    dtype,
    *,
    persist: bool = True,
    mask: Bool[Array, "batch token"] | None = None,
) -> LayerState:
    """One chunk's update. Without `persist`, only `rule_state` of the result is to be kept.

    Tokens outside `mask` have rate 0; a scene without any token in it keeps its state.
    """
    if mask is not None:
        rates = jax.tree.map(lambda rate: jnp.where(mask[:, None], rate, 0), rates)
    grad = ascent_direction(state.weights, key, value, rates, dtype, rule.objective)
    grad = total(grad, "token")
    rule_state = rule.observe(state.rule_state, gate_values(rates))
    delta, rule_state = rule.update(grad, rule_state, state.weights)
    weights = jax.tree.map(jnp.add, state.weights, delta)
    weights = renormalise(weights, state.target_norm)
    if persist:
        rule_state = rule.commit(rule_state, weights)
    updated = state.replace(weights=weights, rule_state=rule_state)
    if mask is None:
        return updated
    return select_scenes(total(jnp.sum(mask, axis=1), "token") > 0, updated, state)


def select_scenes(chosen: Bool[Array, " batch"], new: LayerState, old: LayerState) -> LayerState:
    """`new` for the chosen scenes, `old` for the others.

    Entries carry the batch axis first; those without axes (a rule's counter) belong to all scenes
    and are new once any scene is chosen.
    """

    def pick(new, old):
        where = chosen.reshape(-1, *(1,) * (new.ndim - 1)) if new.ndim else jnp.any(chosen)
        return jnp.where(where, new, old)

    return jax.tree.map(pick, new, old)


def gate_values(rates: TokenRates) -> tuple[Float[Array, "batch head"], ...]:
    """Each gate of a chunk: sigmoid of its mean logit over the tokens that write; 1 without any."""
    writes = (rates.gate > 0).astype(rates.gate.dtype)
    count = total(jnp.sum(writes, axis=-1), "token")
    sums = [total(jnp.sum(writes * x, axis=-1), "token") for x in rates.gates]
    means = (each / jnp.maximum(count, 1) for each in sums)
    return tuple(jnp.where(count > 0, jax.nn.sigmoid(mean), 1) for mean in means)


@typechecked
def run_operations(
    state: LayerState,
    query: Float[Array, "batch head token d_head"],
    key: Float[Array, "batch head token d_head"],
    value: Float[Array, "batch head token d_head"],
    rates: TokenRates,
    operations: tuple[Operation, ...],
    rule: UpdateRule,
    dtype,
    mask: Bool[Array, "batch token"] | None = None,
) -> tuple[Float[Array, "batch head out d_head"], LayerState]:
    """Runs the operations in order; outputs of applying ones are concatenated in that order.

    Updates leave out tokens outside `mask`; reading ignores it. Runs of more than `MAX_UNROLLED`
    persistent updates over adjacent chunks of one length are scanned, so that compile time does
    not grow with their number. Raises InputError for an operation outside the sequence.
    """
    _check_ranges(operations, query.shape[2])
    outputs = []
    for op, *others in _steps(operations):
        if others:
            state = _scan_updates(state, key, value, rates, [op, *others], rule, dtype, mask)
            continue
        tokens = slice(op.start, op.end)
        current = state
        if op.update:
            k, v, r = jax.tree.map(lambda x, t=tokens: x[:, :, t], (key, value, rates))
            m = None if mask is None else mask[:, tokens]
            current = update_state(state, k, v, r, rule, dtype, persist=op.persist, mask=m)
            state = current if op.persist else state.replace(rule_state=current.rule_state)
        if op.apply:
            outputs.append(apply_fast_mlp(current.weights, query[:, :, tokens], dtype))
    if not outputs:
        return query[:, :, :0], state
    return jnp.concatenate(outputs, axis=2), state


def _check_ranges(operations: tuple[Operation, ...], num_token: int) -> None:
    for op in operations:
        if not 0 <= op.start < op.end <= num_token:
            raise InputError.of(
                "operation tokens", f"[{op.start}, {op.end})",
                f"is empty or leaves the sequence of {num_token}", "give a range inside it",
            )  # fmt: skip


def _steps(operations: tuple[Operation, ...]) -> Iterator[list[Operation]]:
    """Operations one by one, those of a run to scan together."""
    for group in _scannable_groups(operations):
        yield from [group] if len(group) > MAX_UNROLLED else ([op] for op in group)


def _scannable_groups(operations: tuple[Operation, ...]) -> list[list[Operation]]:
    groups: list[list[Operation]] = []
    for op in operations:
        previous = groups[-1][-1] if groups else None
        joins = (
            previous is not None
            and all(o.update and o.persist and not o.apply for o in (previous, op))
            and op.start == previous.end
            and op.end - op.start == previous.end - previous.start
        )
        if joins:
            groups[-1].append(op)
        else:
            groups.append([op])
    return groups


def _scan_updates(state, key, value, rates, group, rule, dtype, mask) -> LayerState:
    start, end, count = group[0].start, group[-1].end, len(group)

    def by_chunk(x, axis):
        x = jax.lax.slice_in_dim(x, start, end, axis=axis)
        x = x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    def body(state, chunk):
        (k, v, r), m = chunk
        return update_state(state, k, v, r, rule, dtype, mask=m), None

    chunks = jax.tree.map(lambda x: by_chunk(x, 2), (key, value, rates))
    masks = None if mask is None else by_chunk(mask, 1)
    state, _ = jax.lax.scan(body, state, (chunks, masks))
    return state
