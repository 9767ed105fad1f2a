"""Which scenes have enough frames for every item that a configuration can draw from them.

Some folder of clips has a short one: it is left out in one line of warning, unless the
configuration says to refuse. The others keep their order, so that draws depend on them alone.
"""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.scenes import Scene, SceneSource, Split
from tttlrm_jax.parallel.processes import is_first_process


@dataclasses.dataclass(frozen=True)
class Offer:
    """What a scene offers to any item, whichever window of frames this is confined to."""

    name: str
    free: int  # frames that are not held out
    held_out: int | None  # frames that are; None where the scene as a whole is or is not


@dataclasses.dataclass(frozen=True)
class ChosenScenes:
    """Some scenes of a source, in its order; a `SceneSource`."""

    source: SceneSource
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Scene:
        return self.source[self.indices[index]]


def usable_scenes(
    source: SceneSource, config: DataConfig, split: Split, limit: int | None = None
) -> SceneSource:
    """The scenes, or the first `limit` of them, that have enough frames; the source if all have.

    Names the others on standard error. Raises InputError if none is left or, with
    `data.short_scenes=refuse`, at the first one that is short.
    """
    if config.source == "synthetic" and source[0].held_out is None:  # all alike, and checked
        return source if limit is None else ChosenScenes(source, range(min(limit, len(source))))
    kept: list[int] = []
    short: list[Offer] = []
    for index in range(len(source)):
        if len(kept) == limit:
            break
        offer = offer_of(source[index], config)
        if _suffices(offer, config, split):
            kept.append(index)
            continue
        short.append(offer)
        if config.short_scenes == "refuse":
            raise _refusal(short, config, split)
    if not kept:
        raise _refusal(short, config, split)
    if short and is_first_process():
        print(_warning(short, len(source), config, split), file=sys.stderr)
    return source if len(kept) == len(source) else ChosenScenes(source, kept)


def views_needed(config: DataConfig, apart: bool) -> tuple[str, int]:
    """The setting, and how many frames that are not held out an item needs.

    `apart`: targets are drawn from held-out frames.
    """
    if config.num_pool_views is not None:
        return "data.num_pool_views", config.num_pool_views
    if apart:
        return "data.num_input_views", config.num_input_views
    inputs, targets = config.num_input_views, config.num_target_views
    if config.targets_include_inputs:
        return "max(data.num_input_views, data.num_target_views)", max(inputs, targets)
    return "data.num_input_views + data.num_target_views", inputs + targets


def offer_of(scene: Scene, config: DataConfig) -> Offer:
    """Counts the frames of a scene in the window that has the fewest of them."""
    marked = scene.held_out
    if marked is None:
        frames = np.ones(len(scene.world_from_camera), bool)
        return Offer(scene.name, _fewest_in_window(frames, config), None)
    return Offer(scene.name, _fewest_in_window(~marked, config), _fewest_in_window(marked, config))


def _fewest_in_window(marked: np.ndarray, config: DataConfig) -> int:
    """The smallest number of marked frames in any window that a draw may be confined to."""
    width = len(marked)
    if config.view_selection == "range":
        width = min(width, config.min_frame_range)
    return int(np.convolve(marked.astype(np.int64), np.ones(width, np.int64), "valid").min())


def _suffices(offer: Offer, config: DataConfig, split: Split) -> bool:
    apart = split == "eval" and offer.held_out is not None
    return offer.free >= views_needed(config, apart)[1] and not (apart and offer.held_out == 0)


def _refusal(short: list[Offer], config: DataConfig, split: Split) -> InputError:
    """Why none of these scenes can be used."""
    apart = split == "eval" and short[0].held_out is not None
    field, needed = views_needed(config, apart)
    most = max(short, key=lambda offer: offer.free)
    which = f"scene {most.name}" if len(short) == 1 else f"any of {len(short)} scenes"
    if most.free >= needed:
        return InputError.of(
            "data.holdout_every", config.holdout_every,
            f"leaves {which} or some window of its frames without a frame to evaluate on",
            "lower it, raise data.min_frame_range or use longer captures",
        )  # fmt: skip
    return InputError.of(
        field, needed, f"exceeds the {most.free} frames of {which} that are not held out",
        "draw fewer views or use longer captures",
    )  # fmt: skip


def _warning(short: list[Offer], num_scenes: int, config: DataConfig, split: Split) -> str:
    apart = split == "eval" and short[0].held_out is not None
    field, needed = views_needed(config, apart)
    names = listed([f"{offer.name} ({offer.free})" for offer in short])
    what = f"scenes with fewer than {field}={needed} frames that are not held out"
    if split == "eval":
        nothing = " or none that is" if apart else ""
        return f"WARNING: evaluation passes over {len(short)} {what}{nothing}: {names}"
    return (
        f"WARNING: left out {len(short)} of {num_scenes} {what}: {names}; "
        "data.short_scenes=refuse stops instead"
    )
