"""Modules and models with recorded parameters."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from tttlrm_jax.convert import params_from_published
from tttlrm_jax.parity.recording import Recording, quick_jit
from tttlrm_jax.parity.report import Row

Shapes = Mapping[str, tuple[int, ...]]


def published_module(tensors: Mapping[str, Any], make: Callable, *arguments, **options) -> Any:
    """`make(*arguments, **options, rngs=...)` with the published tensors as its parameters."""
    abstract = nnx.eval_shape(lambda: make(*arguments, **options, rngs=nnx.Rngs(0)))
    return params_from_published(tensors, abstract)


def call(module: nnx.Module, function: Callable, *arguments) -> Any:
    """`function(module, *arguments)`, compiled."""
    graph, params = nnx.split(module)
    return quick_jit(lambda p, *a: function(nnx.merge(graph, p), *a))(params, *arguments)


def compare_shapes(
    recording: Recording, ours: Shapes, expected: Shapes, prefix: str = ""
) -> Iterator[Row]:
    """Names that one side lacks, and shapes that differ from the expected ones."""
    wrong = sum(ours.get(name) != shape for name, shape in expected.items())
    yield recording.row(f"{prefix}names", len(ours.keys() ^ expected.keys()))
    yield recording.row(f"{prefix}shapes", wrong)


def listed_shapes(listed: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in listed.items()}


def num_parameters(shapes: Shapes) -> int:
    return int(sum(np.prod(shape) for shape in shapes.values()))
