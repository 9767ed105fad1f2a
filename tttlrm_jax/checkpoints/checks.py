"""By what a checkpoint is known to hold what was saved, and to fit the model it is loaded into."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.core.errors import InputError, listed


def fingerprints(tree: Any) -> dict[str, int]:
    """A checksum of every array's bits by its path, the same however it lies on devices."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    marks = _fingerprints([leaf for _, leaf in leaves])
    return {
        jax.tree_util.keystr(path): int(mark) for (path, _), mark in zip(leaves, marks, strict=True)
    }


@jax.jit
def _fingerprints(arrays: list[jax.Array]) -> list[jax.Array]:
    """Sum modulo 2^32 of each word times an odd number of its place: no single change escapes."""

    def of_array(x: jax.Array) -> jax.Array:
        bits = x.astype(jnp.uint32) if x.dtype == bool else _words(x)
        place, stride = jnp.zeros(bits.shape, jnp.uint32), 1
        for axis in reversed(range(bits.ndim)):
            index = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
            place += index * np.uint32(stride % 2**32)
            stride *= bits.shape[axis]
        return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)

    return [of_array(x) for x in arrays]


def _words(x: jax.Array) -> jax.Array:
    """The bits as uint32; 64-bit numbers become two along a new axis."""
    kind = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, kind).astype(jnp.uint32)


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its own checksum under `seal`."""
    return {**record, "seal": seal(record)}


def seal(record: dict[str, Any]) -> int:
    """Checksum of a record that JSON can hold."""
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every array by its path, `a/b/c`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        "/".join(str(getattr(k, "key", k)) for k in path): tuple(leaf.shape)
        for path, leaf in leaves
    }


def check_same_shapes(saved: Any, expected: Any) -> None:
    """Raises InputError naming how the parameters differ."""
    saved, expected = shapes(saved), shapes(expected)
    differing = [
        f"{name}: checkpoint {saved.get(name, 'absent')}, model {expected.get(name, 'absent')}"
        for name in sorted(saved.keys() | expected.keys())
        if saved.get(name) != expected.get(name)
    ]
    if differing:
        raise InputError(
            f"checkpoint is of another model: {listed(differing, 3, '; ')}; "
            f"use the configuration it was trained with, or another run name"
        )
