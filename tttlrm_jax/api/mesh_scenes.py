"""One scene over several devices: what `eval.py --mesh.seq N` does with a model.

Views, tokens, Gaussians and pixels lie over the devices; what is kept of the Gaussians is the same
as on one device but for round-off. Files are written by the first process.
"""

import dataclasses
import functools
import time
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from tttlrm_jax.api.models import SceneModel
from tttlrm_jax.api.request import Request
from tttlrm_jax.api.scenes import PosedScene
from tttlrm_jax.config import EvalConfig, MeshConfig, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.models.mesh_scene import collected, placed_inputs, reconstruction, scene_layout
from tttlrm_jax.parallel.mesh import device_bytes, make_mesh, put_whole
from tttlrm_jax.rasterize.eager import Renderers
from tttlrm_jax.rasterize.mesh_renderer import MeshRenderer

ONE, LEAVE_OUT = "one device alone", "leave mesh out"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MeshSceneModel(SceneModel):
    """A `SceneModel` whose scenes lie over `mesh`; `over_devices` makes one."""

    mesh: Mesh
    # bytes that the newest program plans on each device, see `parallel.mesh.device_bytes`
    bytes_per_device: dict[str, int] = dataclasses.field(default_factory=dict)

    def gaussians_of(self, scene: PosedScene, request: Request) -> tuple[Gaussians, float]:
        """As `SceneModel`; collecting them on the host is not in the seconds."""
        params, inputs, key = self.placed(scene, request)
        run, _ = self.program(scene, request)
        start = time.perf_counter()
        made = jax.block_until_ready(run(params, inputs, key))
        seconds = time.perf_counter() - start
        return jax.tree.map(jnp.asarray, collected(*made)), seconds

    def program(self, scene: PosedScene, request: Request) -> tuple[Any, float]:
        """Placed parameters and inputs and a key to what `mesh_scene.reconstruction` gives."""
        static = (request.plan, request.chunk_views, request.keep_ratio, request.random_ratio)
        name = ("mesh", static, scene.inputs.image.shape)
        if name not in self.programs:
            make = reconstruction(self.graph, self.mesh, *static)
            run, _ = self.compiled(name, make, *self.placed(scene, request))
            self.bytes_per_device.update(device_bytes(run))
        return self.programs[name]

    def placed(self, scene: PosedScene, request: Request) -> tuple[Any, Any, jax.Array]:
        """Parameters, dealt inputs and key of the pruning, as they lie over the mesh.

        Raises InputError for a scene whose Gaussians other views than the inputs carry.
        """
        if scene.virtual is not None:
            raise InputError.of(
                "virtual_views", request.virtual, "are not parted over devices",
                "use all inputs, or a model on one device",
            )  # fmt: skip
        plan, chunk, inputs = request.plan, request.chunk_views, scene.inputs
        layout = scene_layout(self.mesh, inputs.image.shape[1], plan, chunk)
        params = jax.tree.map(put_whole, self.params, layout.parameter_shardings(self.params))
        views = placed_inputs(inputs, self.mesh, plan, chunk)
        key = jax.random.wrap_key_data(
            put_whole(jax.random.key_data(jax.random.key(request.seed)), layout.sharding())
        )
        return params, views, key

    def stream(self, **options: Any) -> NoReturn:
        """Raises InputError: streams run on one device, or as `models.mesh_stream.MeshStream`."""
        del options
        raise InputError.of(
            "mesh", "several devices", "are for scenes that are reconstructed at once",
            "stream with a model on one device",
        )  # fmt: skip


def over_devices(model: SceneModel, settings: MeshConfig) -> MeshSceneModel:
    """The same weights over the devices that `settings` name: scenes of `reconstruct` are parted.

        model = over_devices(tj.load(), MeshConfig(seq=8))

    Raises ConfigError where there are fewer devices.
    """
    mesh = make_mesh(settings)
    fields = {each.name: getattr(model, each.name) for each in dataclasses.fields(model)}
    make = functools.partial(MeshRenderer, mesh, settings)
    return MeshSceneModel(**fields | {"renderers": Renderers(make), "programs": {}}, mesh=mesh)


def is_parted(settings: MeshConfig) -> bool:
    """Whether more than one device is asked for."""
    return (settings.data, settings.seq, settings.fsdp) != (1, 1, 1)


def check_mesh(wishes: EvalConfig, run: RunConfig, request: Request) -> None:
    """Raises InputError for what one scene over several devices cannot be, naming the option."""
    if not is_parted(wishes.mesh):
        return
    for field, value, usual, limit, remedy in (
        *_of_the_model(wishes, run), *_of_the_scene(request), *_of_refining(wishes),
    ):  # fmt: skip
        if value != usual:
            raise InputError.of(field, value, limit, remedy)
    mesh = make_mesh(wishes.mesh)
    scene_layout(mesh, len(request.inputs), request.plan, request.chunk_views)


# Field, its value, the only one it may have over several devices, why, and what to do.
_Limit = tuple[str, Any, Any, str, str]


def _of_the_model(wishes: EvalConfig, run: RunConfig) -> tuple[_Limit, ...]:
    """A mesh that parts one scene, and a model that has Gaussians and joins views by TTT."""
    return (
        (
            "mesh.data", wishes.mesh.data, 1, "parts scenes, and there is one",
            "use mesh.seq and mesh.fsdp alone",
        ),
        ("model.kind", run.model.kind, "tttlrm", f"draws on {ONE}", LEAVE_OUT),
        ("model.decoder", run.model.decoder, "gaussians", f"draws on {ONE}", LEAVE_OUT),
        (
            "model.across_views", run.model.across_views, "ttt", f"joins views on {ONE}",
            LEAVE_OUT,
        ),
    )  # fmt: skip


def _of_the_scene(request: Request) -> tuple[_Limit, ...]:
    """A scene whose input views carry the Gaussians, all at once."""
    count = len(request.inputs)
    plan = "causal" if request.plan == "causal" else None
    return (
        ("plan", plan, None, f"is streamed on {ONE}", f"use --plan full, or {LEAVE_OUT}"),
        (
            "virtual_views", request.virtual, None, "are not parted over devices",
            f"use all {count} inputs (--virtual-views {count}), or {LEAVE_OUT}",
        ),
    )  # fmt: skip


def _of_refining(wishes: EvalConfig) -> tuple[_Limit, ...]:
    """Gaussians as they are predicted."""
    remedy = "leave it or mesh out"
    return (
        ("post_optimize", wishes.post_optimize, 0, f"refines on {ONE}", remedy),
        ("seconds", wishes.seconds, None, f"are of improving on {ONE}", remedy),
    )
