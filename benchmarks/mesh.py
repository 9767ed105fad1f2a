"""Bytes moved and peak memory per device of loss and gradient over a mesh; nothing is run.

    python -m benchmarks.mesh [--views 16] [--height 64] [--width 64] [--json]

Loss and gradient are compiled from abstract arrays for 1, 2, 4 and 8 simulated CPU devices along
`seq`, with both exchanges of Gaussians (MESH_DEVICES=64 simulates more). Working memory is XLA's
own analysis of the compiled program: temporaries (activations, Gaussians, exchange buffers) and
outputs, the gradient of the parameters, which temporaries may use before. Parameters, moments and
their update are left out: `benchmarks.memory` has them. Bytes are what one device puts into
collectives (`benchmarks.collectives`), by kind; a padded `all_to_all` counts with its padding.
"""

import dataclasses
import functools
import itertools
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import tyro

DEVICES = int(os.environ.get("MESH_DEVICES", "8"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={DEVICES}"
)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

from benchmarks.collectives import collective_bytes  # noqa: E402
from tttlrm_jax.config import (  # noqa: E402
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    RunConfig,
    SyntheticConfig,
    TrainConfig,
)
from tttlrm_jax.metrics.convolutions import Convolution  # noqa: E402
from tttlrm_jax.models import abstract_model, split_model  # noqa: E402
from tttlrm_jax.parallel.mesh import make_mesh  # noqa: E402
from tttlrm_jax.training.losses.vgg_weights import CHANNELS  # noqa: E402
from tttlrm_jax.training.objectives.batches import StaticParts  # noqa: E402
from tttlrm_jax.training.tasks.mesh_program import MeshProgram  # noqa: E402
from tttlrm_jax.training.update import init_train_state  # noqa: E402


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """One scene of so many views and targets."""

    views: int = 16
    targets: int = 8
    height: int = 64
    width: int = 64
    d_model: int = 64
    num_layers: int = 4
    patch_size: int = 8
    num_ttt_heads: int = 1
    remat: str = "block"
    compute_dtype: str = "float32"
    exchanges: tuple[str, ...] = ("all_to_all", "all_gather")
    exchange_capacity: float = 1.0  # share of a device's Gaussians that one image part may take
    devices: tuple[int, ...] = (1, 2, 4, 8)
    json: bool = False


def run_config(options: Options, mesh: MeshConfig) -> RunConfig:
    """The step that is compiled."""
    views = options.views + options.targets
    return RunConfig(
        name="benchmark",
        model=ModelConfig(
            d_model=options.d_model, num_layers=options.num_layers, patch_size=options.patch_size,
            attention_head_dim=min(64, options.d_model), num_ttt_heads=options.num_ttt_heads,
            remat=options.remat, compute_dtype=options.compute_dtype,  # type: ignore[arg-type]
        ),
        data=DataConfig(
            synthetic=SyntheticConfig(num_views=views, height=options.height, width=options.width),
            num_input_views=options.views, num_target_views=options.targets,
        ),
        loss=LossConfig(opacity=0.01, depth=0.0),
        train=TrainConfig(batch_size=mesh.data if mesh.data > 0 else 1),
        mesh=mesh,
    )  # fmt: skip


def compiled_step(config: RunConfig, devices: Any | None = None) -> Any:
    """The training step for a mesh, compiled from shapes alone; it uses up the state.

    Its perceptual term, if it has one, is that of VGG-19.
    """
    program, state, batch = _abstract(config, devices)
    vgg19 = _abstract_vgg19(program.mesh) if config.loss.perceptual else None
    return program.lower_step(state, batch, config.train.chunk_views, vgg19).compile()


def _abstract_vgg19(mesh: Mesh) -> tuple[Convolution, ...]:
    """Shapes of the network's weights, whole on every device."""

    def whole(*shape: int) -> Any:
        sharding = NamedSharding(mesh, PartitionSpec())
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    pairs = itertools.pairwise(CHANNELS)
    return tuple(Convolution(whole(3, 3, *pair), whole(pair[1])) for pair in pairs)


def compiled_gradient(config: RunConfig, devices: Any | None = None) -> Any:
    """Loss and gradient alone: what there is beside parameters, moments and their update."""
    program, state, batch = _abstract(config, devices)
    loss = functools.partial(program.loss, chunk_views=config.train.chunk_views)
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return step.lower(state.params, batch=batch, key=jax.random.key(0)).compile()


def _abstract(config: RunConfig, devices: Any | None):
    """(program, state, batch) over a mesh, as shapes."""
    graph, params = split_model(abstract_model(config.model))
    program = MeshProgram(StaticParts(graph, config), make_mesh(config.mesh, devices))
    state = jax.eval_shape(lambda p: init_train_state(p, config), params)
    state = jax.tree.map(_placed, state, program.state_shardings(state))
    chunk = config.train.chunk_views
    return program, state, program.abstract_batch(config.train.batch_size, chunk)


def _placed(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def memory_of(compiled: Any) -> dict[str, int]:
    """Bytes of one device: `state`, arguments that outputs replace; `batch`, the other arguments;
    `working`, temporaries and the other outputs, which temporaries may use before; their sum."""
    analysis = compiled.memory_analysis()
    state = analysis.alias_size_in_bytes
    batch = analysis.argument_size_in_bytes - state
    working = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - state
    return {"state": state, "batch": batch, "working": working, "peak": state + batch + working}


def measure(options: Options) -> Iterator[dict[str, Any]]:
    """One record per number of devices and exchange."""
    for devices in sorted(options.devices):
        for exchange in options.exchanges:
            if devices == 1 and exchange != options.exchanges[0]:
                continue
            mesh = MeshConfig(
                seq=devices,
                exchange=exchange,  # type: ignore[arg-type]
                exchange_capacity=options.exchange_capacity,
            )
            compiled = compiled_gradient(run_config(options, mesh), jax.devices()[:devices])
            moved = collective_bytes(compiled.as_text()) if devices > 1 else {}
            yield {
                "devices": devices, "exchange": exchange, "memory": memory_of(compiled),
                "moved": moved,
            }  # fmt: skip


def main() -> None:
    options = tyro.cli(Options)
    records = []
    for record in measure(options):
        records.append(record)
        if not options.json:
            working = record["memory"]["working"]
            share = ""  # of one device's, if that was measured
            if records[0]["devices"] == 1:
                ratio = working / records[0]["memory"]["working"] * record["devices"]
                share = f" ({ratio:.2f} of an equal share)"
            moved = ", ".join(f"{k} {v / 2**20:.2f}" for k, v in record["moved"].items() if v)
            print(
                f"{record['devices']} devices, {record['exchange']}: working memory "
                f"{working / 2**20:.1f} MiB a device{share}, moved MiB: {moved or 'nothing'}",
                flush=True,
            )
    if options.json:
        gaussians = options.views * math.prod((options.height, options.width))
        print(json.dumps({"options": dataclasses.asdict(options), "gaussians": gaussians,
                          "jax": jax.__version__, "numpy": np.__version__, "records": records},
                         indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
