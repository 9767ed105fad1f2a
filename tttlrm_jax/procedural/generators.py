"""The table of procedural generators: which kind of scene a seed becomes.

A generator takes a scene seed and a `SyntheticConfig` and returns `image` uint8
[view, height, width, 4] (RGB, straight alpha), `depth` float32 [view, height, width] (z in world
units along pixel-centre rays, 0 where they miss), `world_from_camera` float64 [view, 4, 4] and
`intrinsics` float64 [view, 4] in pixels; the same arguments give the same bits.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.procedural.furnished_rooms import ROOM_VERSION, render_furnished_room
from tttlrm_jax.procedural.model_files import MODEL_VERSION, render_drawn_model
from tttlrm_jax.procedural.objects import RENDER_VERSION, render_object
from tttlrm_jax.procedural.sculptures import SCULPTURE_VERSION, render_sculpture


class Generator(NamedTuple):
    """A renderer of scenes, and the number that changes with its pixels."""

    render: Callable[[int, SyntheticConfig], dict[str, np.ndarray]]
    version: int


GENERATORS: dict[str, Generator] = {
    "primitives": Generator(render_object, RENDER_VERSION),
    "sculptures": Generator(render_sculpture, SCULPTURE_VERSION),
    "rooms": Generator(render_furnished_room, ROOM_VERSION + SCULPTURE_VERSION),
    "models": Generator(render_drawn_model, MODEL_VERSION),
}


def render_scene(seed: int, config: SyntheticConfig) -> dict[str, np.ndarray]:
    """All views of the scene with this seed, by the generator that `config` names."""
    return GENERATORS[config.generator].render(seed, config)
