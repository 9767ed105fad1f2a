"""What a run starts from: fresh parameters, or those of another one."""

import logging
import math
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from tttlrm_jax.checkpoints.checks import check_same_shapes
from tttlrm_jax.checkpoints.models import load_parameters, saved_arrays
from tttlrm_jax.checkpoints.runs import load_optimizer_state
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config.run import AnyRun
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD
from tttlrm_jax.models.nn.point_heads import POINT_CHANNELS
from tttlrm_jax.training.patches import patch_factor, with_larger_patches
from tttlrm_jax.training.update import init_train_state

GATES = "rule_gates"  # parameters that an update rule adds to a TTT layer
DECODERS = {"decoder", "decoder_norm", "decoder_linear"}  # what the kinds of model do not share
STACKED_KERNEL_AXES = 3  # layer, in, out; kernels of convolutions have four
START_DEPTH = 3.0  # metres

_Path = tuple[str, ...]


def fresh_state(config: AnyRun, *, resumes: bool) -> tuple[Any, TrainState]:
    """The model's structure and the state before the first step.

    What the run starts from is read unless it `resumes`: its own checkpoint then follows.
    """
    graph, params = split_model(build_model(config.model, config.train.seed))
    source = None if resumes else config.train.init_from
    if source is not None:
        params = initial_parameters(source, params, config.model.patch_size)
    elif config.model.kind == "ttt3r":
        params = starting_parameters(params)
    state = init_train_state(params, config)
    if source is not None and config.train.init_moments:
        state = with_moments_of(source, state)
    return graph, state


def starting_parameters(params: Any) -> Any:
    """Fresh parameters of TTT3R made fit for training a narrow network.

    Linear kernels get the spread of Glorot and Bengio (2010), eq. 16, in place of 0.02 whatever
    the width; only the last ones of the heads stay small. Biases of the heads say a wall
    `START_DEPTH` away and a camera that has not moved. Otherwise the first hundreds of steps go
    into that constant, and the picture's share in the features dies meanwhile.
    """

    def started(path, leaf):
        names = [key.key for key in path]
        last = names[0] == "head" and "fc2" in names
        if names[-1] == "kernel" and leaf.ndim <= STACKED_KERNEL_AXES and not last:
            return leaf * (math.sqrt(2 / sum(leaf.shape[-2:])) / LINEAR_INIT_STD)
        if names == ["head", "pose", "fc2", "bias"]:
            return leaf.at[3].set(1.0)  # w of the quaternion
        if last and names[-1] == "bias" and names[1] in ("self_view", "world"):
            channels = leaf.reshape(POINT_CHANNELS, -1)
            return channels.at[2].set(math.log1p(START_DEPTH)).reshape(leaf.shape)
        return leaf

    return jax.tree_util.tree_map_with_path(started, params)


def initial_parameters(
    path: Path | str, params: dict[str, Any], patch_size: int | None = None
) -> dict[str, Any]:
    """Parameters of `path` in the shape of `params`, a model's fresh ones.

    Gates of the update rule which the checkpoint does not have keep the values of `params`, the
    rule's initial ones. From a model with another decoder (LVSM to Gaussians, or back) all but the
    decoder is taken, which keeps the values of `params`. From a model whose patches are smaller by
    a whole number than `patch_size`, the layers of patches are widened (`patches`). All of this is
    logged. All else is strict: InputError as `load_parameters`.
    """
    fresh: dict[_Path, Any] = flatten_dict(params)  # type: ignore[assignment]
    saved: dict[_Path, Any] = flatten_dict(saved_arrays(path))  # type: ignore[assignment]
    gates = {key for key in fresh if GATES in key and key not in saved}
    decoder, unused = _other_decoder(fresh, saved)
    expected = {key: value for key, value in fresh.items() if key not in gates | decoder}
    grown = {} if patch_size is None else _grown_patches(saved, expected)
    expected |= {key: saved[key] for key in unused | grown.keys()}
    loaded: dict[_Path, Any] = flatten_dict(  # type: ignore[assignment]
        load_parameters(path, unflatten_dict(expected))
    )
    _say(path, "no gates of the update rule; they start at the rule's initial value", gates)
    _say(path, "another kind of decoder; this one's parameters start afresh", decoder)
    _say(path, "smaller patches; its layers of patches are widened", set(grown))
    taken = {key: value for key, value in loaded.items() if key not in unused}
    for key, factor in grown.items():
        assert patch_size is not None
        taken[key] = with_larger_patches(key, taken[key], patch_size // factor, factor)
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
    """Names of the model's decoder and of the checkpoint's, where these differ."""
    ours, theirs = ({key for key in of if key[0] in DECODERS} for of in (fresh, saved))
    if ours == theirs:
        return set(), set()
    return ours, theirs


def _grown_patches(saved: dict[_Path, Any], expected: dict[_Path, Any]) -> dict[_Path, int]:
    """Names of kernels whose patches have grown since they were saved, and how many times."""
    factors = {
        key: patch_factor(key, saved[key].shape, leaf.shape)
        for key, leaf in expected.items()
        if key in saved
    }
    return {key: factor for key, factor in factors.items() if factor is not None}


def _say(path: Path | str, what: str, names: set[_Path]) -> None:
    if names:
        listed = ", ".join(sorted("/".join(map(str, key)) for key in names))
        logging.getLogger(__name__).warning("%s has %s: %s", path, what, listed)
