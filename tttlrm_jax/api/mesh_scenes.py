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
    settings = wishes.mesh
    if not is_parted(settings):
        return
    one, leave_out = "one device alone", "leave mesh out"
    for field, value, refused, limit, remedy in (
        (
            "mesh.data", settings.data, settings.data != 1, "parts scenes, and there is one",
            "use mesh.seq and mesh.fsdp alone",
        ),
        ("model.kind", run.model.kind, run.model.kind != "tttlrm", f"draws on {one}", leave_out),
        (
            "model.across_views", run.model.across_views, run.model.across_views != "ttt",
            f"joins views on {one}", leave_out,
        ),
        (
            "plan", request.plan, request.plan == "causal", f"is streamed on {one}",
            f"use --plan full, or {leave_out}",
        ),
        (
            "virtual_views", request.virtual, request.virtual is not None,
            "are not parted over devices",
            f"use all {len(request.inputs)} inputs (--virtual-views {len(request.inputs)}), or "
            + leave_out,
        ),
        (
            "post_optimize", wishes.post_optimize, wishes.post_optimize > 0,
            f"refines on {one}", "leave it or mesh out",
        ),
        (
            "seconds", wishes.seconds, wishes.seconds is not None, f"are of improving on {one}",
            "leave it or mesh out",
        ),
    ):  # fmt: skip
        if refused:
            raise InputError.of(field, value, limit, remedy)
    mesh = make_mesh(settings)
    scene_layout(mesh, len(request.inputs), request.plan, request.chunk_views)
