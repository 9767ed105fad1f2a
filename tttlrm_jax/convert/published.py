"""Published tensors to parameters and back, strict both ways."""

from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from tttlrm_jax.convert.names import IGNORED_PREFIXES, Entry, canonical_name, table
from tttlrm_jax.errors import InputError

Model = TypeVar("Model", bound=nnx.Module)


def published_shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every published tensor of a (possibly abstract) model."""
    params = _flat(nnx.state(model, nnx.Param))
    return {entry.published: _published_shape(entry, params) for entry in table(model)}


def params_from_published(tensors: dict[str, np.ndarray], model: Model) -> Model:
    """`model` with the published tensors as its parameters, cast to its parameter dtypes.

    The model may be abstract; it is not changed. Wrapper prefixes of the names are stripped and
    the frozen auxiliary networks (`IGNORED_PREFIXES`) left out. Raises one InputError that
    names every missing, unexpected, duplicated and misshapen tensor.
    """
    tensors = _canonical(tensors)
    _check_complete(tensors, published_shapes(model))
    graph, state = nnx.split(model)
    flat = _flat(state)
    stacks: dict[tuple[str, ...], list[np.ndarray]] = {}
    for entry in table(model):  # in layer order
        tensor = np.asarray(tensors[entry.published])
        stacks.setdefault(entry.path, []).append(tensor.T if entry.transposed else tensor)
    stacked = {entry.path for entry in table(model) if entry.layer is not None}
    for path, parts in stacks.items():
        array = np.stack(parts) if path in stacked else parts[0]
        flat[path] = jnp.asarray(array, dtype=flat[path].dtype)
    nnx.replace_by_pure_dict(state, unflatten_dict(flat))
    return nnx.merge(graph, state)


def published_from_params(params: Any, model: nnx.Module) -> dict[str, np.ndarray]:
    """Published tensors of an `nnx.State` shaped like the parameters of `model`.

    `params` may hold parameters, gradients or optimizer moments; dtypes are kept.
    """
    flat = {path: np.asarray(value) for path, value in _flat(params).items()}
    entries = table(model)
    leftover = sorted(".".join(path) for path in flat.keys() - {e.path for e in entries})
    if leftover:
        raise InputError(f"parameters without a published name: {', '.join(leftover)}")
    return {entry.published: _published_tensor(entry, flat) for entry in entries}


def _flat(state) -> dict[tuple[str, ...], Any]:
    return flatten_dict(nnx.to_pure_dict(state))


def _published_tensor(entry: Entry, flat) -> np.ndarray:
    array = flat[entry.path]
    if entry.layer is not None:
        array = array[entry.layer]
    return array.T if entry.transposed else array


def _published_shape(entry: Entry, flat) -> tuple[int, ...]:
    shape = tuple(flat[entry.path].shape)
    if entry.layer is not None:
        shape = shape[1:]
    return shape[::-1] if entry.transposed else shape


def _canonical(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    renamed: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        canonical = canonical_name(name)
        if canonical.startswith(tuple(IGNORED_PREFIXES)):
            continue
        if canonical in renamed:
            raise InputError(f"checkpoint has {canonical} twice, once as {name}; remove one")
        renamed[canonical] = tensor
    return renamed


def _check_complete(tensors, shapes: dict[str, tuple[int, ...]]) -> None:
    problems = {
        "missing": sorted(shapes.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - shapes.keys()),
        "misshapen": [
            f"{name} {tuple(np.shape(tensors[name]))} (expected {shape})"
            for name, shape in shapes.items()
            if name in tensors and tuple(np.shape(tensors[name])) != shape
        ],
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if found:
        raise InputError(f"published tensors do not fit the model; {'; '.join(found)}")
