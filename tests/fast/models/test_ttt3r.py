"""TTT3R's recurrence on a tiny network: scans, resets, masks, batches, sizes."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fast.cutting import cut
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import params_from_published, published_shapes
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.models import abstract_model, merge_model, split_model
from tttlrm_jax.models.ttt3r import (
    Frame,
    frame_tokens,
    init_state,
    live_step,
    query,
    scan_frames,
    step,
    with_masks,
)
from tttlrm_jax.models.ttt3r_network import RateGates
from tttlrm_jax.ttt.state_rules import STATE_RULES, Proposal, build_state_rule

CONFIG = TTT3RConfig(
    encoder_width=16, encoder_heads=2, encoder_depth=2, ray_encoder_depth=1, ray_encoder_heads=2,
    decoder_width=12, decoder_depth=2, decoder_heads=1, state_heads=3, num_state_tokens=5,
    memory_slots=3, memory_heads=2, mlp_factor=2.0, head="linear", head_depth=1, memory_depth=1,
)  # fmt: skip
TOLERANCE = 2e-5  # float32, over one frame of a tiny network
HEIGHT, WIDTH, FRAMES = 48, 32, 4  # portrait, an odd grid


def random_model(config: TTT3RConfig):
    abstract, rng = abstract_model(config), np.random.default_rng(0)
    tensors = {
        name: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in published_shapes(abstract).items()
    }
    return split_model(params_from_published(tensors, abstract))


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG)


@functools.cache
def compiled(graph, rule_name="ttt3r", behaviour="streaming"):
    rule = build_state_rule(rule_name)
    return jax.jit(functools.partial(step, graph=graph, rule=rule, behaviour=behaviour))


def images(batch=2, seed=0):
    shape = (FRAMES, batch, HEIGHT, WIDTH, 3)
    return on_device(np.random.default_rng(seed).uniform(size=shape), np.float32)


def masks(*rows):
    return jnp.asarray(rows, bool)


def sequence(batch=2, **changes):
    """Stacked frames with every mask spelled out, so that one program serves all tests."""
    full = jnp.ones((FRAMES, batch), bool)
    frames = Frame(images(batch), image_mask=full, update=full, reset=~full)
    return frames.replace(**changes)


def run(model, frames, **options):
    """Frames one by one: the states before and after each, and the outputs."""
    graph, params = model
    states, outs = [init_state(params, frames.image.shape[1], graph=graph)], []
    for index in range(frames.image.shape[0]):
        frame = cut(frames, index)
        state, out = compiled(graph, **options)(params, states[-1], frame)
        states.append(state)
        outs.append(out)
    return states, outs


def assert_close(a, b, tolerance=TOLERANCE):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, tolerance, tolerance), a, b)


def same_tokens(one, other) -> bool:
    return np.array_equal(one.tokens, other.tokens) and np.array_equal(one.memory, other.memory)


def test_scan_equals_calls(model):
    graph, params = model
    frames = sequence()
    states, outs = run(model, frames)
    state, stacked = jax.jit(functools.partial(scan_frames, graph=graph))(params, states[0], frames)
    assert_close(state, states[-1], 1e-4)
    assert_close(stacked, jax.tree.map(lambda *x: np.stack(x), *outs), 1e-4)
    assert outs[0].points_world.shape == (2, HEIGHT, WIDTH, 3)
    assert np.all((np.asarray(stacked.rgb) > 0) & (np.asarray(stacked.rgb) < 1))
    np.testing.assert_array_equal(state.num_frames, FRAMES)


def test_gate_is_per_scene(model):
    """A batch of two equals two batches of one."""
    both = run(model, sequence())
    for scene in range(2):
        alone = cut(sequence(), slice(None), slice(scene, scene + 1))
        states, outs = run(model, alone)
        picked = cut((both[0], both[1]), slice(scene, scene + 1))
        assert_close(picked, (states, outs), 1e-4)
    gates = np.asarray(both[1][1].gate)
    assert np.all((gates > 0) & (gates < 1))
    assert not np.allclose(gates[0], gates[1])


def test_first_frame_overwrites_and_later_ones_are_gated(model):
    _, outs = run(model, sequence())
    np.testing.assert_array_equal(outs[0].gate, 1)
    assert all(np.all(np.asarray(out.gate) < 1) for out in outs[1:])


@pytest.mark.parametrize("mask", ["update", "image_mask"])
def test_masked_frames_change_nothing(model, mask):
    held = masks([1, 1], [0, 1], [1, 1], [1, 1])
    frames = sequence(**{mask: held})
    if mask == "image_mask":  # what a missing image holds is never seen
        missing = ~held[..., None, None, None]
        frames = frames.replace(image=jnp.where(missing, jnp.nan, frames.image))
    states, outs = run(model, frames)
    first, second = ([cut(state, scene) for state in states] for scene in (0, 1))
    assert same_tokens(first[1], first[2])
    assert not same_tokens(second[1], second[2])
    np.testing.assert_array_equal(outs[1].gate[0], 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states, outs)))
    np.testing.assert_array_equal(states[-1].num_frames, [FRAMES - 1, FRAMES])


@pytest.mark.parametrize("behaviour", ["streaming", "batch"])
def test_reset_starts_over(model, behaviour):
    frames = sequence(reset=masks([0, 0], [0, 1], [0, 0], [0, 0]))
    states, outs = run(model, frames, behaviour=behaviour)
    scene = [cut(state, 1) for state in states]
    assert same_tokens(scene[2], scene[0])
    assert bool(scene[2].first) == (behaviour == "streaming")
    assert np.all(np.asarray(outs[1].gate[1]) < 1)  # the frame itself is an ordinary one
    ungated = np.all(np.asarray(outs[2].gate[1]) == 1)
    assert ungated == (behaviour == "streaming")
    # in streaming the rest is a sequence of its own
    rest = cut(frames, slice(2, None), slice(1, None))
    _, alone = run(model, rest, behaviour=behaviour)
    after = cut(outs[2], slice(1, None))
    if behaviour == "streaming":
        assert_close(after, alone[0], 1e-4)
    else:
        assert not np.allclose(after.camera_pose, alone[0].camera_pose, atol=1e-3)


def test_behaviours_agree_on_images_without_resets(model):
    assert_close(run(model, sequence()), run(model, sequence(), behaviour="batch"), 1e-6)


def test_outputs_do_not_depend_on_their_own_update(model):
    _, with_update = run(model, sequence())
    _, without = run(model, sequence(update=masks([1, 1], [1, 1], [1, 1], [0, 0])))
    last, held = with_update[-1], without[-1]
    assert_close(last.replace(gate=held.gate), held, 0)


def test_rules_move_tokens_as_they_say(model):
    graph, params = model
    frame = cut(sequence(), 1)
    state, _ = compiled(graph)(params, init_state(params, 2, graph=graph), frame)
    overwritten, _ = compiled(graph, "cut3r")(params, state, frame)
    halved, out = compiled(graph, "ema")(params, state, frame)
    assert_close(halved.tokens, 0.5 * (state.tokens + overwritten.tokens))
    np.testing.assert_array_equal(out.gate, 0.5)
    assert_close(halved.memory, overwritten.memory)  # no rule slows it


def test_recipe_of_the_documentation_moves_less(model):
    page = Path(__file__).resolve().parents[3] / "docs" / "guides" / "update_rules.md"
    (code,) = re.findall(r"```python\n(# cautious\.py.*?)```", page.read_text(), re.S)
    space: dict = {"__name__": "cautious"}
    try:
        exec(code, space)
        rule = space["cautious"](limit=0.3)
    finally:
        STATE_RULES.pop("cautious", None)
    tokens = jnp.zeros((1, 5, 12))
    proposal = Proposal(candidate=tokens, alignment=jnp.linspace(-3, 3, 5).reshape(1, 1, 1, 5))
    rate, _ = rule.update(proposal, rule.init(tokens), tokens)
    np.testing.assert_allclose(rate[0, 0], jax.nn.sigmoid(-3.0), rtol=1e-5)
    np.testing.assert_allclose(rate[0, 2:], 0.3)


@pytest.mark.parametrize("kind", ["scalar", "input"])
def test_learned_rates_are_parameters_of_the_network(model, kind):
    """They start at one half, their derivative reaches them, and published names stay exact."""
    config = dataclasses.replace(CONFIG, state_rate=kind)
    gates = RateGates(config)
    rng = np.random.default_rng(2)
    candidate, seen = (on_device(rng.normal(size=(2, n, 12)), np.float32) for n in (5, 7))
    graph, params = nnx.split(gates)
    rule = build_state_rule("learned")

    def rates(params):
        logits = nnx.merge(graph, params)(candidate, seen)
        proposal = Proposal(candidate, jnp.zeros((2, 1, 1, 5)), seen, logits)
        return rule.update(proposal, (), candidate)[0]

    np.testing.assert_array_equal(rates(params), 0.5)
    slopes = jax.grad(lambda params: jnp.sum(jnp.sin(rates(params))))(params)
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(slopes))
    with_rates, without = (
        {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(each, nnx.Param))}
        for each in (abstract_model(config), abstract_model(CONFIG))
    )
    assert with_rates >= without
    assert len(with_rates - without) == {"scalar": 1, "input": 3}[kind]
    assert all(name.startswith("rule_gates/") for name in with_rates - without)


def test_query_changes_nothing_and_sees_the_state(model):
    graph, params = model
    states, _ = run(model, sequence())
    shape = (2, HEIGHT, WIDTH, 6)
    rays = on_device(np.random.default_rng(1).normal(size=shape), np.float32)
    read = jax.jit(functools.partial(query, graph=graph))
    early, late = (read(params, state, rays) for state in (states[1], states[-1]))
    assert not np.allclose(early.camera_pose, late.camera_pose)
    np.testing.assert_array_equal(late.gate, 0)


def test_mixed_modalities_differ_between_behaviours_only_where_rays_are_missing(model):
    network, rays = merge_model(*model), jnp.ones((2, HEIGHT, WIDTH, 6))
    frame = Frame(images()[0], ray_map=rays, ray_mask=masks(0, 1))

    @functools.partial(jax.jit, static_argnums=1)
    def tokens(image, behaviour, some):
        seen = frame.replace(image=image)
        return frame_tokens(network, with_masks(seen, CONFIG), behaviour, some)

    streamed = tokens(frame.image, "streaming", masks(1, 1))
    assert_close(tokens(frame.image, "batch", masks(0, 0)), streamed, 1e-6)
    mixed = tokens(frame.image, "batch", masks(1, 1))
    assert_close(mixed[1], streamed[1], 1e-6)
    missing = jnp.broadcast_to(network.missing_rays[...], mixed[0].shape)
    assert_close(mixed[0], streamed[0] + missing, 1e-5)


@pytest.mark.extended
def test_gradients_are_finite_everywhere(model):
    graph, params = model
    frames = cut(sequence(), slice(2))

    @jax.jit
    def gradient(params):
        def loss(params):
            state = init_state(params, 2, graph=graph)
            _, out = scan_frames(params, state, frames, graph=graph, remat=True)
            return sum(jnp.mean(x) for x in jax.tree.leaves(out))

        return jax.grad(loss)(params)

    gradients = gradient(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    for name in ("state_tokens", "pose_token", "image_branch", "state_branch", "memory", "head"):
        leaves = jax.tree.leaves(gradients[name])
        assert any(np.any(np.asarray(leaf) != 0) for leaf in leaves), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": jnp.zeros((2, 40, 32, 3))}, "height=40 is not a multiple"),
        ({"image": jnp.zeros((48, 32, 3))}, "is not .batch, height, width, 3."),
        ({"update": jnp.ones(3, bool)}, "frame.update shape"),
        ({"ray_map": jnp.zeros((2, 32, 32, 6))}, "frame.ray_map size"),
        ({"image": jnp.full((2, 48, 32, 3), jnp.nan)}, "non-finite"),
        ({"image": jnp.zeros((1, 48, 32, 3))}, "number of scenes"),
    ],
)
def test_bad_frames_are_one_sentence(model, change, words):
    graph, params = model
    state = init_state(params, 2, graph=graph)
    frame = Frame(jnp.zeros((2, HEIGHT, WIDTH, 3))).replace(**change)
    with pytest.raises(InputError, match=words):
        live_step(params, state, frame, graph=graph)


def test_batch_behaviour_needs_an_image(model):
    graph, params = model
    frames = sequence(image_mask=jnp.zeros((FRAMES, 2), bool))
    state = init_state(params, 2, graph=graph)
    with pytest.raises(InputError, match="without any image"):
        scan_frames(params, state, frames, graph=graph, behaviour="batch")


@pytest.mark.parametrize(
    ("field", "value"),
    [("decoder_heads", 5), ("memory_heads", 7), ("decoder_depth", 1), ("head", "conv"),
     ("state_positions", "3d"), ("num_state_tokens", 0)],
)  # fmt: skip
def test_configuration_is_checked(field, value):
    with pytest.raises(ConfigError, match=f"model.{field}"):
        dataclasses.replace(CONFIG, **{field: value})


def test_rules_are_found_and_checked():
    assert build_state_rule("ema") is build_state_rule(RuleConfig.of("ema", rate=0.5))
    for rule, words in (
        (RuleConfig("tttr"), "did you mean ttt3r"),
        (RuleConfig.of("ema", rate=2.0), "rule.rate=2.0 is not in"),
        (RuleConfig.of("cut3r", rate=0.5), "has no option rate"),
    ):
        with pytest.raises(ConfigError, match=words):
            build_state_rule(rule)
