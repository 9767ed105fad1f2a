"""Parameters that a run starts from, taken from another one."""

import logging
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from tttlrm_jax.checkpoints.checks import check_same_shapes
from tttlrm_jax.checkpoints.models import load_parameters, saved_arrays
from tttlrm_jax.checkpoints.runs import load_optimizer_state
from tttlrm_jax.checkpoints.train_state import TrainState

GATES = "rule_gates"  # parameters that an update rule adds to a TTT layer
DECODERS = {"decoder", "decoder_norm", "decoder_linear"}  # what the kinds of model do not share

_Path = tuple[str, ...]


def initial_parameters(path: Path | str, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of `path` in the shape of `params`, a model's fresh ones.

    Gates of the update rule which the checkpoint does not have keep the values of `params`, the
    rule's initial ones. From a model of the other kind (LVSM to Gaussians, or back) all but the
    decoder is taken, which keeps the values of `params`. Both are logged. All else is strict:
    InputError as `load_parameters`.
    """
    fresh: dict[_Path, Any] = flatten_dict(params)  # type: ignore[assignment]
    saved: dict[_Path, Any] = flatten_dict(saved_arrays(path))  # type: ignore[assignment]
    gates = {key for key in fresh if GATES in key and key not in saved}
    decoder, unused = _other_decoder(fresh, saved)
    expected = {key: value for key, value in fresh.items() if key not in gates | decoder}
    expected |= {key: saved[key] for key in unused}
    loaded: dict[_Path, Any] = flatten_dict(  # type: ignore[assignment]
        load_parameters(path, unflatten_dict(expected))
    )
    _say(path, "no gates of the update rule; they start at the rule's initial value", gates)
    _say(path, "another kind of decoder; this one's parameters start afresh", decoder)
    taken = {key: value for key, value in loaded.items() if key not in unused}
    return unflatten_dict(taken | {key: fresh[key] for key in gates | decoder})


def with_gates(params: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """`params` with the gates of `fresh` in place of its own; everything else as it is."""
    kept = {key: value for key, value in flatten_dict(params).items() if GATES not in key}
    gates = {key: value for key, value in flatten_dict(fresh).items() if GATES in key}
    return unflatten_dict(kept | gates)


def with_moments_of(path: Path | str, state: TrainState) -> TrainState:
    """The state with Adam's moments and their count from a run's newest checkpoint.

    The schedule of the learning rate starts anew. Raises InputError where the run is of another
    model or a directory without optimizer state.
    """
    check_same_shapes(saved_arrays(path), state.params)
    saved_adam, *_ = load_optimizer_state(path, state)
    return state.replace(opt_state=(saved_adam, *state.opt_state[1:]))


def _other_decoder(
    fresh: dict[_Path, Any], saved: dict[_Path, Any]
) -> tuple[set[_Path], set[_Path]]:
    """Names of the model's decoder and of the checkpoint's, where their modules differ."""
    ours, theirs = ({key for key in of if key[0] in DECODERS} for of in (fresh, saved))
    if {key[0] for key in ours} == {key[0] for key in theirs}:
        return set(), set()
    return ours, theirs


def _say(path: Path | str, what: str, names: set[_Path]) -> None:
    if names:
        listed = ", ".join(sorted("/".join(map(str, key)) for key in names))
        logging.getLogger(__name__).warning("%s has %s: %s", path, what, listed)
