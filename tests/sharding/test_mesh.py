"""Eight simulated devices equal one, in float64."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests.sharding.scene import (
    SCENES,
    arrays_of,
    assert_close,
    images_alone,
    on_mesh,
    parts_of,
    repeated,
    run_config,
    streamed_alike,
)
from tttlrm_jax.config import LossConfig, MeshConfig, RuleConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.types import Chunk, Gaussians
from tttlrm_jax.models import query
from tttlrm_jax.models.global_rank import hide_pruned, largest, opacity_key
from tttlrm_jax.models.streaming import HIDDEN_OPACITY_LOGIT
from tttlrm_jax.parallel.mesh import Layout, make_mesh
from tttlrm_jax.rasterize.exchange import _to_owners, ragged_to_owners
from tttlrm_jax.training.objectives import batch_loss
from tttlrm_jax.training.objectives.batches import batch_from_arrays
from tttlrm_jax.training.tasks.mesh_program import MeshProgram
from tttlrm_jax.training.update import init_train_state, train_step

MESHES = [(1, 1, 1), (1, 8, 1), (2, 4, 1), (2, 2, 2), (1, 2, 4), (8, 1, 1)]
PLANS = ["full", "sequential", "causal"]
STATE_TREES = ("[0]", "[1][0].mu", "[1][0].nu")
NORMS = (
    "['attention_norm']['weight']", "['ttt_norm']['weight']", "['ttt']['o_norm']",
    "['mlp_norm']['weight']",
)  # fmt: skip
CAMERAS = 4 * 3 * 4 * 4, {".targets.cameras.world_from_camera"}  # every device along seq needs them
ROUND_OFF = 1e-9  # of float64, after sums in another order and a Newton-Schulz iteration


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("scenes"))


def configured(directory, plan: str, elastic: float = 0.0):
    """The tiny run, with the elastic rule where `elastic` is not 0."""
    config = run_config(directory, plan)
    if not elastic:
        return config
    rule = RuleConfig.of("elastic", inner=config.model.rule, strength=elastic)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, rule=rule))


@functools.cache
def one_device(directory: str, plan: str, elastic: float = 0.0):
    """(state after a step, metrics) of one device; the first moments are 0.1 x the gradients."""
    config = configured(directory, plan, elastic)
    static, params = parts_of(config)
    batch = batch_from_arrays(arrays_of(directory))
    return jax.jit(functools.partial(train_step, static=static))(
        init_train_state(params, config), batch
    )


def program_of(
    directory, plan, sizes, elastic=0.0, bands=None, **mesh_settings
) -> tuple[MeshProgram, dict]:
    """(program over a mesh, batch as the loader gives it); with `bands` rendering is deferred."""
    config = on_mesh(configured(directory, plan, elastic), sizes, **mesh_settings)
    if bands is not None:
        train = dataclasses.replace(config.train, deferred_rendering=True, rendering_bands=bands)
        config = dataclasses.replace(config, train=train)
    static, _ = parts_of(configured(directory, plan, elastic))
    program = MeshProgram(static._replace(config=config))
    return program, repeated(arrays_of(directory), config.train.batch_size)


def assert_same_step(directory, plan, sizes, elastic=0.0, bands=None, **mesh_settings):
    """Loss, metrics, gradients, parameters and moments after a step; returns what made them."""
    state, metrics = one_device(directory, plan, elastic)
    program, arrays = program_of(directory, plan, sizes, elastic, bands, **mesh_settings)
    train = program.config.train
    batch = program.batch(arrays, train.batch_size, train.chunk_views)
    placed = program.place(
        init_train_state(parts_of(configured(directory, plan, elastic))[1], program.config)
    )
    ours, our_metrics = program.step(placed, batch, None, train.chunk_views)
    assert_close({name: our_metrics[name] for name in metrics}, metrics, ROUND_OFF, "metrics")
    if program.mesh.size > 1:  # one device runs the program without a mesh
        assert int(our_metrics["num_unsent"]) == 0
    adam, our_adam = state.opt_state[0], ours.opt_state[0]
    assert_close(our_adam.mu, adam.mu, ROUND_OFF, "gradient ")
    assert_close(our_adam.nu, adam.nu, ROUND_OFF, "second moment ")
    assert_close(ours.params, state.params, ROUND_OFF, "parameters ")
    return program, ours, batch


@pytest.mark.parametrize("sizes", MESHES)
@pytest.mark.parametrize("plan", PLANS)
def test_mesh_equals_one_device(directory, plan, sizes):
    program, state, batch = assert_same_step(directory, plan, sizes)
    _assert_shardings(program, state, batch)


@pytest.mark.parametrize("sizes", [(2, 4, 1), (1, 2, 4)])
def test_gathered_gaussians_give_the_same(directory, sizes):
    assert_same_step(directory, "full", sizes, exchange="all_gather")


@pytest.mark.parametrize(
    ("plan", "sizes", "exchange"),
    [
        ("full", (2, 4, 1), "all_to_all"),
        pytest.param("full", (1, 8, 1), "all_gather", marks=pytest.mark.extended),
        pytest.param("causal", (2, 2, 2), "all_to_all", marks=pytest.mark.extended),
        pytest.param("sequential", (1, 1, 1), "all_to_all", marks=pytest.mark.extended),
    ],
)
def test_deferred_rendering_over_a_mesh_equals_one_device_without(directory, plan, sizes, exchange):
    """Gaussians are exchanged again in the backward pass; images are composited in two bands."""
    assert_same_step(directory, plan, sizes, bands=2, exchange=exchange)


def test_elastic_rule_equals_one_device(directory):
    """Its Fisher information and its anchor follow from gradients that are summed over tokens, its
    largest value from all scenes; scenes, views and parameters are parted, chunks are two."""
    plan = "sequential"
    assert_same_step(directory, plan, (2, 2, 2), elastic=0.5)
    static, params = parts_of(configured(directory, plan))
    loss = functools.partial(batch_loss, static=static, key=jax.random.key(0))
    batch = batch_from_arrays(arrays_of(directory))
    plain, _ = jax.jit(lambda params: loss(params, batch=batch))(params)
    _, elastic = one_device(directory, plan, 0.5)
    assert abs(float(elastic["loss"]) - float(plain)) > 1e-6  # the rule did something


@pytest.mark.parametrize("plan", ["full", "sequential"])
def test_view_synthesis_over_scenes_equals_one_device(directory, plan):
    """A step of the LVSM, and the images that evaluation draws."""
    base = run_config(directory, plan)
    model = dataclasses.replace(base.model, kind="lvsm", output_norm="merged")
    config = dataclasses.replace(base, model=model, loss=LossConfig(opacity=0.0))
    static, params = parts_of(config)
    whole = batch_from_arrays(arrays_of(directory))
    step_once = jax.jit(functools.partial(train_step, static=static))
    state, metrics = step_once(init_train_state(params, config), whole)
    theirs = images_alone(params, static, whole)

    parted = on_mesh(config, (4, 1, 1))
    train = parted.train
    program = MeshProgram(static._replace(config=parted))
    placed = program.place(init_train_state(params, parted))
    images, lost = program.predict(
        placed.params, arrays_of(directory), train.batch_size, train.chunk_views
    )
    assert_close(images[-1], theirs, ROUND_OFF, "image")
    assert set(lost.values()) == {0}
    batch = program.batch(arrays_of(directory), train.batch_size, train.chunk_views)
    ours, our_metrics = program.step(placed, batch, None, train.chunk_views)
    assert_close({name: our_metrics[name] for name in metrics}, metrics, ROUND_OFF, "metrics")
    assert_close(ours.opt_state[0].mu, state.opt_state[0].mu, ROUND_OFF, "gradient ")
    assert_close(ours.params, state.params, ROUND_OFF, "parameters ")


@pytest.mark.parametrize("plan", ["full", "causal"])
@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)])
def test_images_equal_one_devices(directory, plan, sizes):
    """Three targets over as many devices as there are: in bands, with parts that pad."""
    static, params = parts_of(run_config(directory, plan))
    program, arrays = program_of(directory, plan, sizes)
    train = program.config.train
    batch = batch_from_arrays(arrays_of(directory))
    theirs = images_alone(params, static, batch)
    placed = program.place(init_train_state(params, program.config)).params
    images, lost = program.predict(placed, arrays, train.batch_size, train.chunk_views)
    assert_close(images[-1], theirs, ROUND_OFF, "image")
    assert set(lost.values()) == {0}
    on_devices = program.batch(arrays, train.batch_size, train.chunk_views)
    rgb, _ = program._rendering[train.batch_size](placed, on_devices)
    assert _largest_repeated(rgb, parts=math.prod(sizes)) == (0, set())


def _assert_shardings(program, state, batch):
    """Outputs lie where the table says, moments as their parameters, nothing large is repeated."""
    fsdp, data, seq = (program.mesh.shape[axis] for axis in ("fsdp", "data", "seq"))
    for tree in (state.params, state.opt_state[0].mu, state.opt_state[0].nu):
        for leaf, sharding in zip(
            jax.tree.leaves(tree), jax.tree.leaves(program.state_shardings(state).params),
            strict=True,
        ):  # fmt: skip
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    kernel = state.params["blocks"]["mlp"]["c_fc"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // fsdp
    image = batch.inputs.image
    spread = min(image.shape[0] * image.shape[1], data * seq * fsdp)
    assert image.addressable_shards[0].data.size == image.size // spread
    expected = CAMERAS if seq > 1 else (0, set())
    assert _largest_repeated(batch, parts=data * seq * fsdp) == expected
    if fsdp > 1:
        norms = {f"{tree}['blocks']{norm}" for tree in STATE_TREES for norm in NORMS}
        expected = 2 * 16, norms  # layers x d_model
        assert _largest_repeated((state.params, state.opt_state), parts=fsdp) == expected


def _largest_repeated(tree, parts: int) -> tuple[int, set[str]]:
    """(size, names) of the largest arrays of which a device holds more than one of `parts`."""
    sizes = {
        jax.tree_util.keystr(path): leaf.size
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        if leaf.addressable_shards[0].data.size * parts > leaf.size
    }
    largest_size = max(sizes.values(), default=0)
    return largest_size, {name for name, size in sizes.items() if size == largest_size}


def test_fsdp_takes_views_where_scenes_do_not_divide():
    mesh = make_mesh(MeshConfig(data=1, seq=2, fsdp=4))
    assert Layout.of(mesh, 4, 16).spec("batch", "view") == PartitionSpec(("data", "fsdp"), ("seq",))
    assert Layout.of(mesh, 1, 16).spec("batch", "view") == PartitionSpec(("data",), ("seq", "fsdp"))
    assert Layout.of(mesh, 1, 2).spec("batch", "view") == PartitionSpec(("data",), ("seq",))


@pytest.mark.parametrize(("views", "chunk"), [("seq and fsdp", 8), ("seq alone", 2)])
def test_one_scene_over_all_devices(directory, views, chunk):
    """With one scene, devices along fsdp part its views too, or repeat each other's work."""
    config = run_config(directory, "sequential")
    config = dataclasses.replace(
        config, mesh=MeshConfig(data=1, seq=2, fsdp=4),
        train=dataclasses.replace(config.train, batch_size=1, chunk_views=chunk),
    )  # fmt: skip
    static, params = parts_of(config)
    arrays = repeated(arrays_of(directory), 1)
    loss = functools.partial(
        batch_loss, static=static, batch=batch_from_arrays(arrays), key=jax.random.key(0)
    )
    (value, _), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    program = MeshProgram(static)
    batch = program.batch(arrays, 1, chunk)
    ours = functools.partial(program.loss, batch=batch, key=jax.random.key(0), chunk_views=chunk)
    (our_value, _), our_grads = jax.jit(jax.value_and_grad(ours, has_aux=True))(
        program.place(init_train_state(params, config)).params
    )
    assert_close(our_value, value, ROUND_OFF)
    assert_close(our_grads, grads, ROUND_OFF, "gradient ")


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 8, 1)])
def test_streamed_state_equals_one_devices(directory, sizes):
    static, params = parts_of(run_config(directory))
    views = batch_from_arrays(arrays_of(directory)).inputs
    chunks = [Chunk(jax.tree.map(lambda x, k=k: x[:, 8 * k : 8 * k + 8], views)) for k in range(2)]
    mask = jnp.asarray(np.arange(8)[None] < np.array([[8], [3], [0], [5]]))
    chunks[1] = chunks[1].replace(mask=mask)
    stream, ours, our_read, state = streamed_alike(static, params, chunks, sizes, ROUND_OFF)
    data, seq, fsdp = sizes
    assert isinstance(our_read, Gaussians)
    assert _largest_repeated(our_read, parts=data * seq * fsdp) == (0, set())
    weights = ours.layers.weights.gate
    assert weights.sharding.shard_shape(weights.shape)[1] == SCENES // (data * fsdp)
    if sizes == (2, 2, 2):
        cameras = chunks[0].views.cameras
        theirs = jax.jit(functools.partial(query, graph=static.graph))(params, state, cameras)
        assert_close(stream.query(ours, cameras), theirs, ROUND_OFF, "query ")


def test_sizes_that_do_not_split_are_refused_in_words(directory):
    with pytest.raises(ConfigError, match=r"2x8x1 needs 16 devices, there are 8"):
        make_mesh(MeshConfig(data=2, seq=8))
    with pytest.raises(ConfigError, match="does not divide the 8 devices"):
        make_mesh(MeshConfig(data=3, seq=-1))
    assert make_mesh(MeshConfig(data=2, seq=-1, fsdp=2)).shape == {"data": 2, "seq": 2, "fsdp": 2}
    mesh = make_mesh(MeshConfig(seq=4))
    message = "input views=13 do not split over mesh axis 'seq' of size 4; use 12 or 16"
    with pytest.raises(InputError, match=message):
        Layout.of(mesh, 1, 13)
    with pytest.raises(InputError, match=r"input views=3 .*; use 4, or a smaller mesh\.seq"):
        Layout.of(mesh, 1, 3)
    with pytest.raises(InputError, match="chunk_views=2 do not split over mesh axis 'seq'"):
        Layout.of(mesh, 1, 16, 2)
    config = on_mesh(run_config(directory), (1, 4, 1))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, num_input_views=13))
    with pytest.raises(InputError, match="use 12 or 16"):
        MeshProgram(parts_of(run_config(directory))[0]._replace(config=config), mesh)


def test_pruning_by_global_rank_keeps_what_pruning_one_cloud_keeps():
    """Ties and signed zeros included; as many random others, the same on every mesh."""
    logits = np.random.default_rng(0).normal(size=(2, 8 * 20)).round(1)
    logits[0, ::7] = 0.0
    logits[0, 1::7] = -0.0
    logits[1, 5] = np.nan
    order = np.argsort(-logits, axis=1, kind="stable")  # NaN last
    marks = np.zeros(logits.shape, bool)
    np.put_along_axis(marks, order[:, :48], True, axis=1)
    found = []
    for seq in (1, 8):
        layout = Layout.of(make_mesh(MeshConfig(seq=seq)), 2, 8)

        def local(logits, numbers, layout=layout):
            with layout.region({}):
                cloud = Gaussians(
                    *(jnp.zeros((*logits.shape, n)) for n in (3, 1, 3, 4)), opacity_logit=logits
                )
                exact = largest(opacity_key(logits), 48)
                hidden = hide_pruned(cloud, 0.3, 0.1, jax.random.key(0), numbers)
            return exact, hidden.opacity_logit > HIDDEN_OPACITY_LOGIT

        lie = layout.spec("batch", "view")
        mapped = jax.shard_map(
            local, mesh=layout.mesh, in_specs=lie, out_specs=lie, check_vma=False
        )
        numbers = jnp.broadcast_to(jnp.arange(8), (2, 8))
        exact, shown = jax.jit(mapped)(jnp.asarray(logits, jnp.float32), numbers)
        np.testing.assert_array_equal(exact, marks)
        found.append(np.asarray(shown))
    np.testing.assert_array_equal(*found)
    assert found[0][0].sum() == 48 + 11
    assert found[0][marks].all()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_ragged_exchange_lowers_for_accelerators(platform):
    """CPUs have no ragged exchange, so that it is lowered here but never run."""
    mesh = make_mesh(MeshConfig(seq=8))
    mapped = jax.shard_map(
        lambda buffers, sent: _to_owners(buffers, sent, ("seq",)),
        mesh=mesh, in_specs=PartitionSpec("seq"), out_specs=PartitionSpec("seq"), check_vma=False,
    )  # fmt: skip
    shapes = jax.ShapeDtypeStruct((64, 5, 3), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)

    def both(buffers, sent):
        return jax.vjp(lambda x: mapped(x, sent), buffers)[1](buffers)

    text = jax.jit(both).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert "ragged_all_to_all" in text


def _emulated_ragged(operand, output, starts, sizes, places, received, *, axis_name):
    """What the documentation of `lax.ragged_all_to_all` says, by gathering everything: sender s
    puts rows [starts[r], + sizes[r]) of its operand at places[r] of receiver r."""
    everyone = jax.tree.map(
        lambda x: jax.lax.all_gather(x, axis_name), (operand, starts, sizes, places)
    )
    me, row = jax.lax.axis_index(axis_name), jnp.arange(output.shape[0])
    for rows, start, size, place in zip(*everyone, strict=True):
        here = (row >= place[me]) & (row < place[me] + size[me])
        moved = rows.at[start[me] + row - place[me]].get(mode="fill", fill_value=jnp.nan)
        output = jnp.where(here[:, None], moved, output)
    agreed = jnp.all(received == everyone[2][:, me])
    return jnp.where(agreed, output, jnp.nan)


def test_ragged_exchange_is_the_padded_one(monkeypatch):
    """With rows past the counts set to zero; its gradient returns the same way."""
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", _emulated_ragged)
    rng = np.random.default_rng(0)
    sent = rng.integers(0, 6, size=(8, 8))
    sent[2], sent[:, 5], sent[3, 3] = 0, 0, 5
    buffers = rng.normal(size=(8, 8, 5, 3))
    buffers *= np.arange(5)[:, None] < sent[..., None, None]
    mesh, lie = make_mesh(MeshConfig(seq=8)), PartitionSpec("seq")

    def outcome(exchange):
        mapped = jax.shard_map(exchange, mesh=mesh, in_specs=lie, out_specs=lie, check_vma=False)
        flat = buffers.reshape(64, 5, 3)
        out, pull = jax.vjp(lambda x: mapped(x, sent.reshape(64)), flat)
        return out, pull(jnp.asarray(cotangent))

    cotangent = rng.normal(size=(64, 5, 3))
    ours, our_bar = jax.jit(lambda: outcome(lambda x, n: ragged_to_owners(x, n, "seq")))()
    theirs, their_bar = jax.jit(lambda: outcome(lambda x, n: _to_owners(x, n, ("seq",))))()
    np.testing.assert_array_equal(ours, theirs)
    used = (np.arange(5) < sent[..., None]).reshape(64, 5, 1)  # others carry nothing
    np.testing.assert_array_equal(our_bar * used, their_bar * used)
    np.testing.assert_array_equal(ours.reshape(8, 8, 5, 3), buffers.swapaxes(0, 1))


def test_exchange_counts_what_it_cannot_send(directory):
    """With room for few Gaussians the count is above 0, and the picture changes."""
    program, arrays = program_of(directory, "full", (1, 8, 1), exchange_capacity=0.02)
    _, params = parts_of(run_config(directory))
    placed = program.place(init_train_state(params, program.config)).params
    _, lost = program.predict(placed, arrays, SCENES, 8)
    assert lost["num_unsent"] > 0
