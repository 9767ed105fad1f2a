"""Parameters that a run starts from, taken from another one."""

import logging
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from tttlrm_jax.training.checkpoint import load_parameters, saved_names

GATES = "rule_gates"  # parameters that an update rule adds to a TTT layer


def initial_parameters(path: Path | str, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of `path` in the shape of `params`, a model's fresh ones.

    Gates of the update rule which the checkpoint does not have keep the values of `params`, the
    rule's initial ones; that is logged. All else is strict: InputError as `load_parameters`.
    """
    fresh = flatten_dict(params)
    saved = saved_names(path)
    new = {key for key in fresh if GATES in key and "/".join(map(str, key)) not in saved}
    loaded = load_parameters(
        path, unflatten_dict({key: value for key, value in fresh.items() if key not in new})
    )
    if not new:
        return loaded
    names = ", ".join(sorted("/".join(map(str, key)) for key in new))
    logging.getLogger(__name__).warning(
        "%s has no gates of the update rule; they start at the rule's initial value: %s",
        path,
        names,
    )
    return unflatten_dict(flatten_dict(loaded) | {key: fresh[key] for key in new})


def with_gates(params: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """`params` with the gates of `fresh` in place of its own; everything else as it is."""
    kept = {key: value for key, value in flatten_dict(params).items() if GATES not in key}
    gates = {key: value for key, value in flatten_dict(fresh).items() if GATES in key}
    return unflatten_dict(kept | gates)
