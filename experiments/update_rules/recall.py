"""Associative recall, drift and forgetting: key-value pairs streamed into one fast network.

Keys and values are unit vectors drawn at random, written in chunks with one update each, from
weights drawn as a TTT layer draws them. The error of a pair is `1 - cos(f(k), v)`, since the layer
normalises what it reads: 0 is perfect, 1 is chance. A pair is retrieved if its own value is
the nearest (by angle) among all values of the stream.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.statistics import mean_and_error
from experiments.update_rules.rules import build_with_rate, has_rate
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.ttt import FastWeights, TokenRates, apply_fast_mlp, initial_state, update_state

F32 = jnp.dtype("float32")
CHANCE = 1.0


@dataclasses.dataclass(frozen=True)
class Memory:
    """Sizes of the experiments of this module."""

    d_head: int = 32
    d_hid: int = 64
    chunk: int = 16  # pairs written by one update
    num_chunks: int = 32
    seeds: int = 16
    tuning_seeds: int = 4
    rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    long_stream: int = 1024  # chunks, for drift


def draw_weights(key, memory: Memory) -> FastWeights:
    """As a TTT layer starts: normal, variance 2 over the number of rows; one scene, one head."""
    d_head, d_hid = memory.d_head, memory.d_hid
    shapes = {"gate": (d_head, d_hid), "down": (d_hid, d_head), "up": (d_head, d_hid)}
    keys = jax.random.split(key, 3)
    return FastWeights(
        **{
            name: math.sqrt(2 / shape[0]) * jax.random.normal(k, (1, 1, *shape), F32)
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
    )


def draw_pairs(key, num_chunks: int, memory: Memory):
    """Keys and values `[chunk, pair, d_head]`, unit vectors."""
    shape = (num_chunks, memory.chunk, memory.d_head)
    draws = (jax.random.normal(k, shape, F32) for k in jax.random.split(key))
    return tuple(x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in draws)


def write(state, key, value, rule):
    """One chunk `[pair, d_head]` with equal rates."""
    ones = jnp.ones((1, 1, key.shape[0]), F32)
    rates = TokenRates(ones, ones, ones, gates=tuple(ones * _logit(g.initial) for g in rule.gates))
    return update_state(state, key[None, None], value[None, None], rates, rule, F32)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def recalled(state, key):
    """`f(k)` as unit vectors, for keys `[pair, d_head]`."""
    out = apply_fast_mlp(state.weights, key[None, None], F32)[0, 0]
    return out / jnp.maximum(jnp.linalg.norm(out, axis=-1, keepdims=True), 1e-12)


@functools.partial(jax.jit, static_argnames=("rule", "memory"))
def stream(seed, rate, *, rule: RuleConfig, memory: Memory) -> dict[str, Any]:
    """One stream: `error [written, chunk]` of every chunk after every update, and retrieval."""
    key_weights, key_pairs = jax.random.split(jax.random.key(seed))
    built = build_with_rate(rule, rate)
    keys, values = draw_pairs(key_pairs, memory.num_chunks, memory)
    flat = keys.reshape(-1, memory.d_head)
    targets = values.reshape(-1, memory.d_head)

    def body(state, pair):
        state = write(state, pair[0], pair[1], built)
        cosine = jnp.sum(recalled(state, flat) * targets, axis=-1)
        return state, 1 - jnp.mean(cosine.reshape(memory.num_chunks, memory.chunk), axis=1)

    state = initial_state(draw_weights(key_weights, memory), built)
    state, error = jax.lax.scan(body, state, (keys, values))
    nearest = jnp.argmax(recalled(state, flat) @ targets.T, axis=1)
    return {"error": error, "retrieved": jnp.mean(nearest == jnp.arange(len(flat)))}


def error_by_pairs(error: np.ndarray) -> np.ndarray:
    """Mean error over everything written so far, `[..., written]`."""
    seen = np.tril(np.ones(error.shape[-2:]))
    return (error * seen).sum(-1) / seen.sum(-1)


def error_by_distance(error: np.ndarray) -> np.ndarray:
    """Error at the end of the stream by age: `[..., 0]` is the last chunk."""
    return error[..., -1, ::-1]


def tuned_rate(rule: RuleConfig, memory: Memory) -> float | None:
    """The rate with the least mean error over all pairs at the end, on seeds of their own.

    None for rules without a rate.
    """
    if not has_rate(rule):
        return None
    seeds = 10_000 + jnp.arange(memory.tuning_seeds)
    run = functools.partial(stream, rule=rule, memory=memory)
    over_rates = jax.vmap(jax.vmap(run, (0, None)), (None, 0))
    final = np.asarray(over_rates(seeds, jnp.asarray(memory.rates, F32))["error"])[..., -1, :]
    score = np.nan_to_num(final.mean((1, 2)), nan=np.inf)
    return memory.rates[int(np.argmin(score))]


def _as_array(rate: float | None):
    return jnp.float32(1 if rate is None else rate)  # without a rate, nobody reads it


def measure_recall(rule: RuleConfig, rate: float | None, memory: Memory) -> dict[str, Any]:
    """Curves (mean and standard error over seeds) and final numbers of one rule."""
    run = jax.vmap(functools.partial(stream, rule=rule, memory=memory), (0, None))
    out = jax.tree.map(np.asarray, run(jnp.arange(memory.seeds), _as_array(rate)))
    by_pairs, by_distance = error_by_pairs(out["error"]), error_by_distance(out["error"])
    return {
        "pairs_seen": [memory.chunk * (t + 1) for t in range(memory.num_chunks)],
        "error_by_pairs": mean_and_error(by_pairs),
        "pairs_since": [memory.chunk * t for t in range(memory.num_chunks)],
        "error_by_distance": mean_and_error(by_distance),
        "retrieved": mean_and_error(out["retrieved"]),
    }


# ---- drift --------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("rule", "memory"))
def advance(state, seed, start, stop, rate, *, rule: RuleConfig, memory: Memory):
    """Writes chunks start..stop of an endless stream."""
    built = build_with_rate(rule, rate)

    def body(index, state):
        keys, values = chunk_of(seed, index, memory)
        return write(state, keys, values, built)

    return jax.lax.fori_loop(start, stop, body, state)


def chunk_of(seed, index, memory: Memory):
    """Chunk `index` of an endless stream."""
    key = jax.random.fold_in(jax.random.key(seed), index)
    keys, values = draw_pairs(key, 1, memory)
    return keys[0], values[0]


@functools.partial(jax.jit, static_argnames="memory")
def condition(state, first, seed, stop, *, memory: Memory):
    """How far weights have moved, and what is left of the first and the last chunk."""

    def distance(now, then):
        return jnp.linalg.norm(now - then) / jnp.linalg.norm(then)

    moved = jax.tree.map(distance, state.weights, first)
    size = jax.tree.map(
        lambda now, then: jnp.linalg.norm(now) / jnp.linalg.norm(then), state.weights, first
    )
    rank = memory.d_head // 4
    bases = [jnp.linalg.svd(w.up[0, 0])[0][:, :rank] for w in (first, state.weights)]
    errors = []
    for index in (0, jnp.maximum(stop - 1, 0)):
        keys, values = chunk_of(seed, index, memory)
        errors.append(1 - jnp.mean(jnp.sum(recalled(state, keys) * values, axis=-1)))
    return {
        "moved": (moved.gate + moved.down + moved.up) / 3,
        "norm": (size.gate + size.down + size.up) / 3,
        "overlap": jnp.sum((bases[0].T @ bases[1]) ** 2) / rank,
        "first_chunk_error": errors[0],
        "last_chunk_error": errors[1],
    }


def measure_drift(rule: RuleConfig, rate: float | None, memory: Memory) -> dict[str, Any]:
    """Condition of the weights after 1, 2, 4, ... chunks of a long stream, over seeds."""
    stops = [2**n for n in range(int(math.log2(memory.long_stream)) + 1)]
    seeds = jnp.arange(memory.seeds)
    first = jax.vmap(lambda s: draw_weights(jax.random.fold_in(jax.random.key(s), 2**30), memory))(
        seeds
    )
    state = jax.vmap(lambda w: initial_state(w, build_with_rate(rule, _as_array(rate))))(first)
    step = jax.vmap(functools.partial(advance, rule=rule, memory=memory), (0, 0, None, None, None))
    look = jax.vmap(functools.partial(condition, memory=memory), (0, 0, 0, None))
    rows, start = [], 0
    for stop in stops:
        state = step(state, seeds, start, stop, _as_array(rate))
        rows.append(jax.tree.map(np.asarray, look(state, first, seeds, stop)))
        start = stop
    curves = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    return {"chunks": stops, **{name: mean_and_error(curve) for name, curve in curves.items()}}
