"""What models of posed images have in common at the front door."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.api.captures import as_capture
from tttlrm_jax.api.request import choose_resolution
from tttlrm_jax.captures.capture import Capture, load_views
from tttlrm_jax.config import ModelConfig, RunConfig
from tttlrm_jax.core.types import Views
from tttlrm_jax.models import build_model, merge_model, split_model
from tttlrm_jax.rasterize.eager import Renderers


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PosedImageModel:
    """What tttLRM and LVSM have in common: they read posed images into fast weights.

    `graph` (static) and `params` (a nested dict of arrays) are those of `split_model`; `run` is
    the configuration the weights were trained with. Compiled programs are kept, so one model is
    used for many scenes.
    """

    run: RunConfig
    graph: Any = dataclasses.field(repr=False)
    params: Any = dataclasses.field(repr=False)
    path: Path  # directory the weights were read from
    programs: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)
    renderers: Renderers = dataclasses.field(default_factory=Renderers, repr=False)

    @property
    def config(self) -> ModelConfig:
        """Width, layers, patch size, update rule of the network."""
        return self.run.model

    def network(self) -> Any:
        """The Flax module with its parameters."""
        return merge_model(self.graph, self.params)

    def untrained(self, seed: int = 0) -> Any:
        """The same network with random parameters, sharing this model's compiled programs."""
        params = split_model(build_model(self.run.model, seed))[1]
        return dataclasses.replace(self, params=params)

    def compiled(self, name: Any, function: Callable, *arguments: Any) -> tuple[Callable, float]:
        """The function for arguments of these shapes, compiled once, and how long that took."""
        if name not in self.programs:
            start = time.perf_counter()
            compiled = jax.jit(function).lower(*arguments).compile()
            self.programs[name] = compiled, time.perf_counter() - start
        return self.programs[name]

    def views(
        self,
        capture: Capture | str | Path,
        frames: Sequence[int] | np.ndarray,
        *,
        resolution: tuple[int, int] | None = None,
        background: tuple[float, float, float] | None = None,
    ) -> Views:
        """Frames of a capture (positions from 0), as `stream().step` takes them.

        Images float32 [1, view, height, width, 3] in [0, 1] over the background (RGB in [0, 1];
        None: that of training), and cameras in the capture's frame. `resolution` is height and
        width; None: about as many pixels as in training, in the capture's aspect. Raises
        InputError for frames that are not there, images that cannot be read or a resolution that
        is no multiple of the patch size.
        """
        capture, data = as_capture(capture), self.run.data
        size = choose_resolution(resolution, self.run, capture)
        image, cameras = load_views(
            capture, frames, *size, resize_mode=data.capture_resize,
            background=data.background if background is None else background,
        )  # fmt: skip
        return Views(image[None], cameras[None])  # type: ignore[arg-type]
