"""Reconstruction by chunk: a shipped or given model, its update rule replaced, not retrained.

Held-out procedural objects stream in chunks of views; after each chunk all views so far are read
with the current weights, and the targets rendered from those Gaussians. PSNR is per image, clipped
to [0, 1]. The shipped model was trained with one update over all its views (plan `full`, Muon).
"""

import dataclasses
import functools
import tempfile
from typing import Any

import jax
import numpy as np

from experiments.statistics import mean_and_error
from tttlrm_jax.checkpoints.models import load_model
from tttlrm_jax.config import RuleConfig, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.pipeline import evaluation_loader
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.models import abstract_model, build_model, split_model
from tttlrm_jax.models.streaming import init_stream, scan_stream, split_into_chunks
from tttlrm_jax.training.initial import with_gates
from tttlrm_jax.training.objectives.batches import Batch, batch_from_arrays
from tttlrm_jax.training.objectives.gaussians import render_scenes
from tttlrm_jax.ttt.rules import RULES, build_rule, override_rule


@dataclasses.dataclass(frozen=True)
class Streams:
    """Scenes and how they arrive."""

    scenes: int = 8
    input_views: int = 8
    target_views: int = 2
    chunk_views: int = 2


def load_batch(config: RunConfig, streams: Streams) -> Batch:
    """All scenes as one batch, views chosen as the run's evaluation does."""
    with tempfile.TemporaryDirectory() as cache:
        data = dataclasses.replace(
            config.data, source="synthetic", cache_directory=cache, render_workers=1,
            num_input_views=streams.input_views, num_target_views=streams.target_views,
        )  # fmt: skip
        return batch_from_arrays(
            next(iter(evaluation_loader(data, streams.scenes, streams.scenes)))
        )


class Reconstructions:
    """A model, its scenes and the program that renders them, shared by all rules.

    Raises InputError for a checkpoint that cannot be read or holds another kind of model.
    """

    def __init__(self, checkpoint: str, streams: Streams):
        self.config, model = load_model(checkpoint)
        if self.config.model.kind != "tttlrm":
            raise InputError.of(
                "checkpoint", checkpoint, f"holds a model of kind {self.config.model.kind}",
                "give one of kind tttlrm",
            )  # fmt: skip
        self.params = split_model(model)[1]
        self.streams, self.batch = streams, load_batch(self.config, streams)
        self._render = jax.jit(functools.partial(render_scenes, config=self.config))

    @functools.cached_property
    def own_rule(self) -> RuleConfig:
        """The rule that the model was trained with."""
        return RULES.complete(self.config.model.rule)

    @functools.cached_property
    def own_scores(self) -> np.ndarray:
        return self._scores(self.own_rule)

    def measure(self, rule: RuleConfig) -> dict[str, Any]:
        """PSNR after each chunk: mean and standard error over scenes, and scene by scene.

        `gain` is the difference to the model's own rule, paired by scene. `gates` tells where
        gates that the rule learns come from; None without any.
        """
        scores = self.own_scores if rule == self.own_rule else self._scores(rule)
        views = [self.streams.chunk_views * (n + 1) for n in range(scores.shape[1])]
        return {
            "views": [min(v, self.streams.input_views) for v in views],
            "psnr": mean_and_error(scores),
            "psnr_by_scene": scores.tolist(),
            "gain": mean_and_error(scores - self.own_scores),
            "gates": self._parameters(rule)[1],
        }

    def _scores(self, rule: RuleConfig) -> np.ndarray:
        """PSNR `[scene, chunk]`, mean over targets."""
        graph = split_model(abstract_model(override_rule(self.config.model, rule)))[0]

        @jax.jit
        def reconstruct(params, inputs):
            state = init_stream(params, inputs.image.shape[0], graph=graph)
            chunks = split_into_chunks(inputs, self.streams.chunk_views)
            return scan_stream(params, state, chunks, graph=graph, remat=False, accumulate="all")[1]

        gaussians = reconstruct(self._parameters(rule)[0], self.batch.inputs)
        cameras, images = self.batch.targets.cameras, self.batch.targets.image
        scores = []
        for chunk in range(-(-self.streams.input_views // self.streams.chunk_views)):
            shown = jax.tree.map(lambda x, c=chunk: x[c], gaussians)
            scores.append(np.asarray(psnr(self._render(shown, cameras).rgb, images)).mean(axis=1))
        return np.stack(scores, axis=1)

    def _parameters(self, rule: RuleConfig) -> tuple[dict[str, Any], str | None]:
        """The model's parameters with the gates of the rule, and where these come from.

        Gates that were trained serve their own rule only; another one starts at its initial
        values, as training from a checkpoint without gates does.
        """
        gated = bool(build_rule(rule).gates)
        if rule == self.own_rule:
            return self.params, "trained with the model" if gated else None
        if not gated:
            return with_gates(self.params, {}), None
        fresh = split_model(build_model(override_rule(self.config.model, rule)))[1]
        return with_gates(self.params, fresh), "the rule's initial values"
