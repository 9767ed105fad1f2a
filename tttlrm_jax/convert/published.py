"""Published tensors to parameters and back, strict both ways."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from tttlrm_jax.convert.entries import Entry
from tttlrm_jax.convert.names import IGNORED_PREFIXES, canonical_name, table
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError

Model = TypeVar("Model", bound=nnx.Module)


def published_shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every published tensor of a (possibly abstract) model."""
    params = _flat(nnx.state(model, nnx.Param))
    return {entry.published: _published_shape(entry, params) for entry in table(model)}


def params_from_published(tensors: Mapping[str, Any], model: Model) -> Model:
    """`model` with the published tensors as its parameters, cast to its parameter dtypes.

    The model may be abstract; it is not changed. Tensors are arrays, or anything with a `shape`
    that NumPy makes an array of: it is asked for one parameter at a time. Raises InputError as
    `checked_tensors` does.
    """
    tensors = checked_tensors(tensors, model)
    graph, state = nnx.split(model)
    flat = _flat(state)
    by_path: dict[tuple[str, ...], list[Entry]] = {}
    for entry in table(model):  # in layer order
        by_path.setdefault(entry.path, []).append(entry)
    for path, members in by_path.items():  # one parameter at a time: tensors may be on disk
        parts = [entry.layout.to_ours(np.asarray(tensors[entry.published])) for entry in members]
        array = parts[0] if members[0].layer is None else np.stack(parts)
        flat[path] = on_device(array, flat[path].dtype)
    nnx.replace_by_pure_dict(state, unflatten_dict(flat))
    return nnx.merge(graph, state)


def checked_tensors(tensors: Mapping[str, Any], model: nnx.Module) -> dict[str, Any]:
    """The tensors by their names in the table of `model`, one for each.

    Wrapper prefixes of the names are stripped and the frozen auxiliary networks
    (`IGNORED_PREFIXES`) left out. Raises one InputError that names every missing, unexpected,
    duplicated and misshapen tensor.
    """
    tensors = canonical_tensors(tensors, tuple(IGNORED_PREFIXES))
    _check_complete(tensors, published_shapes(model))
    return tensors


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
    return entry.layout.to_published(array if entry.layer is None else array[entry.layer])


def _published_shape(entry: Entry, flat) -> tuple[int, ...]:
    shape = tuple(flat[entry.path].shape)
    return entry.layout.published_shape(shape if entry.layer is None else shape[1:])


def canonical_tensors(tensors: Mapping[str, Any], left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """By their names without wrappers' prefixes, less those that begin so; InputError for twins."""
    renamed: dict[str, Any] = {}
    for name, tensor in tensors.items():
        canonical = canonical_name(name)
        if canonical.startswith(left_out):
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
