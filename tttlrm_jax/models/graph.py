"""A model as structure and parameters, so that everything is a function of arrays."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.parallel.mesh import current_layout


@dataclasses.dataclass(frozen=True)
class ModelGraph:
    """The structure of a model: static and hashable, an argument that `jit` may be given."""

    graphdef: Any
    shapes: tuple[tuple[str, tuple[int, ...]], ...]  # of the parameters by name, in their order
    structure: Any  # of their nested dict


def split_model(model: nnx.Module) -> tuple[ModelGraph, dict[str, Any]]:
    """Structure (static, hashable) and parameters (a plain nested dict of arrays)."""
    graphdef, state = nnx.split(model, nnx.Param)
    params = nnx.to_pure_dict(state)
    return ModelGraph(graphdef, _shapes(_by_name(params)), jax.tree.structure(params)), params


def merge_model(graph: ModelGraph, params: dict[str, Any]) -> Any:
    """Inverse of `split_model`; inside `jit` it makes everything a function of arrays.

    Parameters go by name: the order of a dict does not count, nor whether layers are numbers or
    text, as in a file. Raises InputError, naming them, for parameters that are missing, unknown or
    of other shapes; on a mesh, where a device holds parts of them, of another number of axes.
    """
    leaves = _by_name(params)
    wanted, given = dict(graph.shapes), dict(_shapes(leaves))
    if current_layout() is not None and wanted.keys() == given.keys():
        given = {n: s if len(given[n]) == len(s) else given[n] for n, s in wanted.items()}
    if given != wanted:
        raise InputError(_difference(wanted, given))
    ordered = jax.tree.unflatten(graph.structure, [leaves[name] for name in wanted])
    return nnx.merge(graph.graphdef, ordered)


def _by_name(params: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _shapes(leaves: dict[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, np.shape(leaf)) for name, leaf in leaves.items())


def _difference(wanted: dict[str, Any], given: dict[str, Any]) -> str:
    """What is wrong with parameters, in a sentence."""
    found = {
        "are missing": [name for name in wanted if name not in given],
        "are unknown": [name for name in given if name not in wanted],
        "have another shape": [
            f"{name} {given[name]} in place of {wanted[name]}"
            for name in wanted
            if name in given and given[name] != wanted[name]
        ],
    }
    parts = [f"{listed(names, 3)} {what}" for what, names in found.items() if names]
    return f"params do not fit the model: {'; '.join(parts)}; take those that split_model gave"
