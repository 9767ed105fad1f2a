"""Work of a device where one scene lies over several, from compiled programs; nothing is run.

    python -m benchmarks.scene_mesh [--views 16] [--devices 1 2 4 8] [--json]
    python -m benchmarks.scene_mesh --published --views 128 --devices 8 64

What `eval.py --mesh.seq N` runs is compiled from abstract arrays for simulated CPU devices
(MESH_DEVICES=64 simulates more): views to pruned Gaussians, and the Gaussians to pictures of the
targets. Counted are, of one device, the FLOPs of the matrix products (loop bodies times their
trips), the bytes that it puts into collectives (`benchmarks.collectives`), and the memory that XLA
plans. Time is not taken: simulated devices share one processor.

`--published` is the published model on 960x536 with bfloat16 products; its sizes can be changed.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import tyro

os.environ.setdefault("MESH_DEVICES", "64" if "--published" in sys.argv else "8")
# Buffers are assigned before machine code is made: no need to optimise that.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"


import benchmarks.mesh  # noqa: F401 - sets the number of devices

import jax  # isort: skip
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.collectives import collective_bytes
from tttlrm_jax.config import MeshConfig, ModelConfig, RasterConfig, published_ratios
from tttlrm_jax.core.types import Cameras, Splats, Views
from tttlrm_jax.models import abstract_model, split_model
from tttlrm_jax.models.mesh_scene import reconstruction, scene_layout
from tttlrm_jax.models.tttlrm import keep_counts
from tttlrm_jax.parallel.mesh import device_bytes, make_mesh
from tttlrm_jax.rasterize.mesh_renderer import MeshRenderer
from tttlrm_jax.training.watching.flops import unrolled_flops

WIDTHS = {"mean": (3,), "quaternion": (4,), "scale": (3,), "opacity": ()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """One scene of so many input views, and pictures of so many targets."""

    views: int = 16
    targets: int = 8
    devices: tuple[int, ...] = (1, 2, 4, 8)
    height: int | None = None  # None: 64, or 536 of the published setting
    width: int | None = None
    num_layers: int | None = None  # None: 4, or the published number
    published: bool = False
    json: bool = False

    @property
    def size(self) -> tuple[int, int]:
        height, width = (536, 960) if self.published else (64, 64)
        return self.height or height, self.width or width

    @property
    def model(self) -> ModelConfig:
        if self.published:
            config = ModelConfig(compute_dtype="bfloat16")
        else:
            config = ModelConfig(d_model=64, num_layers=4)
        return dataclasses.replace(config, num_layers=self.num_layers or config.num_layers)


def abstract(mesh: Mesh, spec: PartitionSpec, *shape: int) -> Any:
    """A float32 array that lies so."""
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))


def reconstruct_program(options: Options, mesh: Mesh) -> tuple[Any, tuple]:
    """Views to the kept Gaussians: (function, arguments)."""
    graph, params = split_model(abstract_model(options.model))
    layout = scene_layout(mesh, options.views, "full", 1)
    run = reconstruction(graph, mesh, "full", 1, *published_ratios(options.views))

    def keyed(params, inputs):
        return run(params, inputs, jax.random.key(0))

    placed = jax.tree.map(
        lambda x, lie: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lie),
        params, layout.parameter_shardings(params),
    )  # fmt: skip
    lie, (height, width) = layout.spec("batch", "view"), options.size
    cameras = Cameras(
        abstract(mesh, lie, 1, options.views, 4, 4), abstract(mesh, lie, 1, options.views, 4),
        height, width,
    )  # fmt: skip
    image = abstract(mesh, lie, 1, options.views, height, width, 3)
    return keyed, (placed, Views(image, cameras))


def render_program(options: Options, mesh: Mesh, settings: MeshConfig) -> tuple[Any, tuple]:
    """The kept Gaussians to pictures of the targets: (function, arguments)."""
    raster = RasterConfig(near=0.1, max_alpha=0.999, backend="balanced")
    renderer = MeshRenderer(mesh, settings, background=(1.0, 1.0, 1.0), config=raster)
    height, width = options.size
    kept = sum(keep_counts(options.views * height * width, *published_ratios(options.views)))
    devices, coefficients = settings.seq, (options.model.sh_degree + 1) ** 2
    kept = -(-kept // devices) * devices
    lie = PartitionSpec("seq")
    shapes = WIDTHS | {"features": (coefficients, 3)}
    splats = Splats(**{name: abstract(mesh, lie, kept, *rest) for name, rest in shapes.items()})
    poses, lenses = (
        abstract(mesh, PartitionSpec(), options.targets, *rest) for rest in ((4, 4), (4,))
    )
    drawing, _ = renderer.drawing(options.targets, height)
    return drawing, (splats, Cameras(poses, lenses, height, width))


def measure(options: Options) -> Iterator[dict[str, Any]]:
    """One record per number of devices and program."""
    for devices in sorted(options.devices):
        settings = MeshConfig(seq=devices)
        over = make_mesh(settings, jax.devices()[:devices])
        programs = {
            "reconstruct": reconstruct_program(options, over),
            "render": render_program(options, over, settings),
        }
        for name, (function, arguments) in programs.items():
            start = time.perf_counter()
            compiled = jax.jit(function).lower(*arguments).compile()
            moved = collective_bytes(compiled.as_text() or "") if devices > 1 else {}
            yield {
                "devices": devices, "program": name, "views": options.views,
                "tokens": options.views * int(np.prod(options.size)) // options.model.patch_size**2,
                "tflop": unrolled_flops(function, arguments) / 1e12,
                "moved": sum(moved.values()), "moved_by_kind": moved, **device_bytes(compiled),
                "compile_seconds": round(time.perf_counter() - start, 1),
            }  # fmt: skip


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    records = []
    for record in measure(options):
        records.append(record)
        if not options.json:
            print(
                f"{record['devices']} devices, {record['program']}: {record['tflop']:.4g} TFLOP, "
                f"puts {record['moved'] / 1e6:.1f} MB into collectives, holds "
                f"{record['peak'] / 1e9:.3f} GB at most ({record['working'] / 1e9:.3f} working); "
                f"compiled in {record['compile_seconds']} s",
                flush=True,
            )
    if options.json:
        about = {"options": dataclasses.asdict(options), "jax": jax.__version__}
        print(json.dumps(about | {"records": records}, indent=2))


if __name__ == "__main__":
    main()
