"""Methods of `experiments.quality`: a posed scene in, pictures of its targets and seconds out."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.api.scenes import PosedScene, baseline_pictures
from tttlrm_jax.captures.view_selection import select_virtual
from tttlrm_jax.checkpoints.models import load_model
from tttlrm_jax.checkpoints.streams import fingerprint
from tttlrm_jax.config import Plan, RuleConfig, RunConfig
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.models import build_model, merge_model, prune, split_model
from tttlrm_jax.per_scene import refine
from tttlrm_jax.per_scene.scratch import fit_scene
from tttlrm_jax.per_scene.settings import FitConfig, RefineConfig
from tttlrm_jax.rasterize import Renderer
from tttlrm_jax.ttt.rules import override_rule

FULL, CAUSAL = "ours, full", "ours, causal"
NOTHING = "3DGS from nothing"
NEAREST, MEAN, UNTRAINED = "nearest view", "mean colour", "untrained"
ATTENTION, CONTROL = "softmax attention", "TTT, trained as the attention"
ELASTIC, FEWER = "ours, causal, elastic", "ours, half the virtual views"


def fit_name(steps: int) -> str:
    """The method that fits from nothing for so many steps."""
    return f"{NOTHING}, {steps} steps"


@dataclasses.dataclass(frozen=True)
class Answer:
    """Pictures [target, height, width, 3], and seconds to make what they show of the inputs,
    without compiling; None where there is nothing to time."""

    pictures: np.ndarray
    seconds: float | None


Method = Callable[[PosedScene], Answer]


class Network:
    """Feed-forward reconstruction by a model, compiled once for every number of views and size."""

    def __init__(
        self, run: RunConfig, graph: Any, params: Any, plan: Plan, chunk_views: int = 1, *,
        half_virtual: bool = False,
    ):  # fmt: skip
        self.run, self._graph, self._params = run, graph, params
        self._plan, self._chunk_views, self._half = plan, chunk_views, half_virtual
        self._reconstruct = jax.jit(self._gaussians)
        self._warm: set[tuple] = set()
        self._renderer = Renderer(background=run.data.background, config=run.raster)

    def _gaussians(self, params, inputs, key, virtual) -> Gaussians:
        model = merge_model(self._graph, params)
        keep_ratio, random_ratio = self.run.pruning_ratios(inputs.image.shape[1])
        made = model(
            inputs, virtual_indices=virtual, plan=self._plan, chunk_views=self._chunk_views
        )
        if keep_ratio < 1:
            made = prune(made, keep_ratio, random_ratio, key)
        return jax.tree.map(lambda x: x[0], made)

    def gaussians(self, scene: PosedScene) -> tuple[Gaussians, float]:
        """Gaussians of a scene and the seconds they took."""
        virtual = None
        if self._half:
            poses = np.asarray(scene.inputs.cameras.world_from_camera[0])
            virtual = jnp.asarray([select_virtual(poses, max(len(poses) // 2, 1))])
        arguments = (self._params, scene.inputs, jax.random.key(self.run.train.seed), virtual)
        kind = scene.inputs.image.shape
        if kind not in self._warm:
            self._warm.add(kind)
            jax.block_until_ready(self._reconstruct(*arguments))
        start = time.perf_counter()
        made = jax.block_until_ready(self._reconstruct(*arguments))
        return made, time.perf_counter() - start

    def pictures(self, scene: PosedScene, gaussians: Gaussians) -> np.ndarray:
        """Renderings of Gaussians from the targets' cameras."""
        return np.asarray(self._renderer(gaussians, scene.target_cameras).rgb)

    def __call__(self, scene: PosedScene) -> Answer:
        made, seconds = self.gaussians(scene)
        return Answer(self.pictures(scene, made), seconds)


def refined(network: Network, steps: int) -> Method:
    """The network's Gaussians after steps on the input views; seconds with the network's."""
    warm: set[tuple] = set()

    def once(made: Gaussians, scene: PosedScene) -> tuple[Gaussians, float]:
        start = time.perf_counter()
        result = refine(
            made, scene.inputs[0], RefineConfig(steps=steps),
            raster=network.run.raster, background=network.run.data.background,
        )  # fmt: skip
        return result.gaussians, time.perf_counter() - start - result.compile_seconds

    def answer(scene: PosedScene) -> Answer:
        made, seconds = network.gaussians(scene)
        kind = scene.inputs.image.shape
        if kind not in warm:  # what surrounds the steps compiles at its first use
            warm.add(kind)
            once(made, scene)
        gaussians, more = once(made, scene)
        return Answer(network.pictures(scene, gaussians), seconds + more)

    return answer


def fitted(network: Network, steps: int) -> Method:
    """3D Gaussian Splatting from nothing on the input views."""

    def answer(scene: PosedScene) -> Answer:
        result = fit_scene(
            scene.inputs[0], FitConfig(steps=steps),
            raster=network.run.raster, background=network.run.data.background,
        )  # fmt: skip
        return Answer(network.pictures(scene, result.gaussians), result.seconds)

    return answer


def optimisers() -> dict[str, dict]:
    """Settings of refinement and of fits from nothing, but for the number of steps."""
    configs = {"refinement": RefineConfig(steps=1), "fit": FitConfig(steps=1)}
    found = {name: dataclasses.asdict(config) for name, config in configs.items()}
    for settings in found.values():
        del settings["steps"]
    return found


def digest_of(directory: Path | str) -> str:
    """The fingerprint of a run's or model's parameters."""
    return fingerprint(split_model(load_model(directory)[1])[1])


def baseline(name: str) -> Method:
    """An answer that needs no model, by its name in `baseline_pictures`."""
    return lambda scene: Answer(baseline_pictures(scene)[name], None)


def methods_of(
    checkpoint: Path | str,
    *,
    causal: str | None,
    attention: str | None,
    control: str | None,
    chunk_views: int,
    post_optimize: tuple[int, ...],
    fit: tuple[int, ...],
) -> dict[str, Callable[[], Method]]:
    """All methods by name, each made (its weights loaded) when called for. `causal`, `attention`
    and `control` are runs of their own; without `causal` the checkpoint itself is streamed, without
    the others there are no such rows."""
    loaded = functools.cache(load_model)

    @functools.cache
    def ours() -> Network:
        run, model = loaded(checkpoint)
        return Network(run, *split_model(model), "full")

    def streamed(rule: RuleConfig | None) -> Network:
        run, model = loaded(checkpoint if causal is None else causal)
        graph, _ = split_model(build_model(override_rule(run.model, rule)))
        return Network(run, graph, split_model(model)[1], "causal", chunk_views)

    def fewer() -> Network:
        run, model = loaded(checkpoint)
        return Network(run, *split_model(model), "full", half_virtual=True)

    def trained(directory: str) -> Network:
        run, model = loaded(directory)
        return Network(run, *split_model(model), "full")

    def untrained() -> Network:
        run, _ = loaded(checkpoint)
        return Network(run, *split_model(build_model(run.model, seed=0)), "full")

    makers: dict[str, Callable[[], Method]] = {
        FULL: ours,
        CAUSAL: lambda: streamed(None),
        ELASTIC: lambda: streamed(RuleConfig.of("elastic")),
        FEWER: fewer,
    }
    for steps in post_optimize:
        makers[f"{FULL}, + {steps} steps"] = lambda steps=steps: refined(ours(), steps)
    for steps in fit:
        makers[fit_name(steps)] = lambda steps=steps: fitted(ours(), steps)
    for name, directory in ((ATTENTION, attention), (CONTROL, control)):
        if directory is not None:
            makers[name] = lambda directory=directory: trained(directory)
    makers[UNTRAINED] = untrained
    makers[NEAREST] = lambda: baseline("nearest_input")
    makers[MEAN] = lambda: baseline("mean_colour")
    return makers
