"""Models as Python objects: `load` a checkpoint, then `reconstruct` or `stream`.

Poses of captures and whatever comes back are in the frame and scale of the capture; each model
works in a normalised frame of its own and the door converts. `model.graph` and `model.params` lead
to the pure functions behind (`tttlrm_jax.models`), for `jit`, `vmap` and `grad`.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from tttlrm_jax.api.captures import as_capture
from tttlrm_jax.api.decoded_scenes import DecodedSceneModel
from tttlrm_jax.api.posed_images import PosedImageModel
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.request import Request, named, resolve, trained_chunk
from tttlrm_jax.api.scenes import PosedScene, pose_scene
from tttlrm_jax.api.sequences import SequenceModel
from tttlrm_jax.api.streams import SceneStream
from tttlrm_jax.api.view_synthesis import ViewSynthesisModel
from tttlrm_jax.api.virtual_views import of_virtual
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.checkpoints.directories import read_config, read_config_values
from tttlrm_jax.checkpoints.models import load_parameters, load_ttt3r
from tttlrm_jax.checkpoints.streams import StreamRecord, read_record, read_stream
from tttlrm_jax.config import Accumulate, EvalConfig, Plan, RuleConfig, RunConfig
from tttlrm_jax.config.ttt3r import is_ttt3r
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import QUICKSTART, TTT3R_SMALL, packaged
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.models import abstract_model, gives, merge_model, prune, split_model
from tttlrm_jax.ttt.rules import override_rule

SHIPPED = (QUICKSTART, TTT3R_SMALL)  # weights in the package, by the names that `load` takes


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SceneModel(PosedImageModel):
    """tttLRM (arXiv 2602.20160): posed images of a scene in, Gaussians out.

    An example:

        model = tj.load()
        scene = model.reconstruct(tj.open_capture(), views=4)
    """

    def reconstruct(
        self,
        capture: Capture | str | Path,
        views: int | None = None,
        *,
        frames: str | None = None,
        plan: Plan | None = None,
        chunk_views: int | None = None,
        resolution: tuple[int, int] | None = None,
        background: tuple[float, float, float] | None = None,
        keep_ratio: float | None = None,
        random_ratio: float | None = None,
        virtual_views: int | str | Path | None = None,
        seed: int = 0,
    ) -> Reconstruction:
        """Reconstructs a capture (or the one in a directory) from some of its frames.

        Every 8th frame is held out for `scores`. Inputs are `views` of the others, spread by
        k-means over camera positions and directions, or those that `frames` names, such as
        "1-7,9". Poses are normalised as in training. What is None is as in training: the number
        of views, the plan (full, sequential, causal), the views per update, height and width (as
        many pixels, the capture's aspect), the background under transparent pixels (RGB in
        [0, 1]), the share of Gaussians kept by opacity and that of the others kept at random.
        `virtual_views` carry the Gaussians: so many of the inputs, or those of another capture or
        camera file in the same frame, with images or without. `eval.py` has options of the same
        names.

        Raises InputError for a capture with too few frames, images that cannot be read, values
        out of range, and weights whose Gaussians are not finite.
        """
        capture = as_capture(capture)
        wishes = EvalConfig(
            views=views, frames=frames, plan=plan, chunk_views=chunk_views, resolution=resolution,
            background=background, keep_ratio=keep_ratio, random_ratio=random_ratio, seed=seed,
            virtual_views=None if virtual_views is None else str(virtual_views),
        )  # fmt: skip
        request = resolve(wishes, self.run, capture)
        return self.reconstruct_scene(pose_scene(capture, request, self.run.data), request)

    def reconstruct_scene(self, scene: PosedScene, request: Request) -> Reconstruction:
        """`reconstruct` of a scene that is read and posed already."""
        _, compile_seconds = self.program(scene, request)
        gaussians, seconds = self.gaussians_of(scene, request)
        if not np.isfinite(gaussians.mean).all(axis=-1).any():
            raise InputError(
                "the model's Gaussians are not finite; use another checkpoint or update rule"
            )
        return Reconstruction(
            posed=scene, predicted=gaussians, background=request.background,
            made_at=scene.resolution, raster=self.run.raster, renderers=self.renderers,
            seconds=seconds, compile_seconds=compile_seconds,
        )  # fmt: skip

    def gaussians_of(self, scene: PosedScene, request: Request) -> tuple[Gaussians, float]:
        """The pruned Gaussians, and the seconds they took."""
        run, _ = self.program(scene, request)
        key = jax.random.key(request.seed)
        start = time.perf_counter()
        gaussians = jax.block_until_ready(run(self.params, scene.inputs, scene.virtual, key))
        return gaussians, time.perf_counter() - start

    def program(
        self, scene: PosedScene, request: Request
    ) -> tuple[Callable[..., Gaussians], float]:
        """Parameters, inputs, virtual views and a key to the pruned Gaussians of the only scene.

        Compiled once; the second value says how many seconds that took.
        """
        inputs, virtual = scene.inputs, scene.virtual
        static = (request.plan, request.chunk_views, request.keep_ratio, request.random_ratio)
        shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), (inputs, virtual))
        leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
        name = ("reconstruct", static, structure, tuple(leaves))

        def run(params, inputs, virtual, key) -> Gaussians:
            network = merge_model(self.graph, params)
            gaussians = network(
                inputs, **of_virtual(virtual), plan=request.plan, chunk_views=request.chunk_views
            )
            if request.keep_ratio < 1:
                gaussians = prune(gaussians, request.keep_ratio, request.random_ratio, key)
            return jax.tree.map(lambda x: x[0], gaussians)

        return self.compiled(name, run, self.params, inputs, virtual, jax.random.key(request.seed))

    def stream(
        self,
        *,
        chunk_views: int | None = None,
        accumulate: Accumulate = "append",
        keep_ratio: float | None = None,
        random_ratio: float | None = None,
        background: tuple[float, float, float] | None = None,
        first_distance: float = 1.0,
        seed: int = 0,
    ) -> SceneStream:
        """A stream of one scene before its first view: every chunk is written once, read at once.

        A chunk holds at most `chunk_views` (None: as many as were trained into one update). After
        it the scene shows the Gaussians of its views (`chunk`), of all chunks as each was read
        (`append`), or of all views read again (`all`). The first chunk's cameras fix the frame;
        where these stand in one place the scene is taken to lie at `first_distance`, in the
        capture's units. The other arguments are those of `reconstruct`.
        """
        wishes = EvalConfig(
            plan="causal", chunk_views=chunk_views, accumulate=accumulate, keep_ratio=keep_ratio,
            random_ratio=random_ratio, background=background, first_distance=first_distance,
        )  # fmt: skip
        kept, lucky = self.run.pruning_ratios()
        return SceneStream(
            self, accumulate=accumulate, first_distance=first_distance, seed=seed,
            chunk_views=wishes.chunk_views or trained_chunk(self.run, "causal"),
            keep_ratio=kept if keep_ratio is None else keep_ratio,
            random_ratio=lucky if random_ratio is None else random_ratio,
            background=self.run.data.background if background is None else background,
        )  # fmt: skip


Model = SceneModel | ViewSynthesisModel | SequenceModel
OF_WHAT_THEY_GIVE: dict[str, type[SceneModel] | type[ViewSynthesisModel]] = {
    "gaussians": SceneModel, "scenes": DecodedSceneModel, "images": ViewSynthesisModel,
}  # fmt: skip


def load(path: str | Path | None = None, *, rule: RuleConfig | str | None = None) -> Model:
    """A model with its weights: tttLRM, LVSM or TTT3R, as its directory says.

    `path` is a run of train.py (its newest complete checkpoint, averaged weights where there are
    any), a model directory (`export_model`), one converted from published weights
    (`python -m tttlrm_jax.convert`), or the name of shipped weights: "quickstart" (tttLRM, what
    None gives) or "ttt3r_small" (TTT3R on procedural rooms). A directory of such a name is
    reached as "./ttt3r_small". `rule` takes the place of the update rule of tttLRM and LVSM.

    Raises InputError for a directory without a complete checkpoint, damaged files, or a rule
    that is not known.

        model = tj.load()                  # shipped weights of tttLRM
        model = tj.load("runs/mine")       # your own
    """
    directory = checkpoint_directory(path)
    if is_ttt3r(read_config_values(directory)):
        if rule is not None:
            raise InputError.of(
                "rule", rule, "is an update rule of fast weights, and the model is TTT3R",
                "give its state rule to model.stream(rule=...)",
            )  # fmt: skip
        return load_sequence_model(directory)
    return load_run(directory, with_rule(read_config(directory), rule))


def load_run(directory: Path, run: RunConfig) -> SceneModel | ViewSynthesisModel:
    """The weights in a directory as a model of the configuration `run`."""
    graph, expected = split_model(abstract_model(run.model))
    params = load_parameters(directory, expected)
    return OF_WHAT_THEY_GIVE[gives(run.model)](run=run, graph=graph, params=params, path=directory)


def load_sequence_model(directory: Path) -> SequenceModel:
    """TTT3R with the weights in a directory. Raises InputError where there are none."""
    config, network = load_ttt3r(directory)
    graph, params = split_model(network)
    return SequenceModel(config=config, graph=graph, params=params, path=directory)


def load_state(directory: str | Path, model: Model | str | Path | None = None) -> SceneStream:
    """A stream as `stream.save` (or `eval.py --save-state`) left it; the files are not changed.

    `model` is the model that made it, or what `load` takes; None: the shipped weights. Raises
    InputError for a state of another model, other weights or another rule, and for damaged files.

        stream = tj.load_state("desk")
        stream.step(model.views(capture, [5, 7]))
    """
    directory = Path(directory)
    if model is None or isinstance(model, str | Path):
        record, checkpoint = read_record(directory), checkpoint_directory(model)
        model = load_run(checkpoint, with_rule(read_config(checkpoint), None, record))
    maker = as_scene_model(model)
    saved = read_stream(directory, maker.run.model, maker.params, maker.graph)
    return SceneStream.resumed(maker, saved)


def as_scene_model(model: Model) -> SceneModel:
    """The model, which must give Gaussians. Raises InputError."""
    if not isinstance(model, SceneModel):
        raise InputError.of(
            *named(model.config), "gives no Gaussians", "use a tttlrm checkpoint of Gaussians",
        )  # fmt: skip
    return model


def with_rule(
    run: RunConfig, rule: RuleConfig | str | None, saved: StreamRecord | None = None
) -> RunConfig:
    """The run with the wanted update rule; that of a saved stream where none is named."""
    if rule is None and saved is not None:
        return dataclasses.replace(run, model=dataclasses.replace(run.model, rule=saved.model.rule))
    rule = RuleConfig.of(rule) if isinstance(rule, str) else rule
    return dataclasses.replace(run, model=override_rule(run.model, rule))


def checkpoint_directory(path: str | Path | None) -> Path:
    """Where the weights lie that `load(path)` reads."""
    if path is None or path in SHIPPED:
        return packaged(QUICKSTART if path is None else str(path))
    return Path(path)
