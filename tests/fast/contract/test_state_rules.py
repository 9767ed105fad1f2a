"""Every state rule keeps the promises of `StateRule`, inside of the recurrence that runs it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.cutting import cut
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.models.ttt3r import RecurrentState, advance
from tttlrm_jax.ttt.state_rules import STATE_RULES, Proposal, Step, build_state_rule
from tttlrm_jax.ttt.state_rules.base import stateless, written
from tttlrm_jax.ttt.state_rules.memix import least
from tttlrm_jax.ttt.state_rules.ssr import expressed

FRAMES, BATCH, STATE, WIDTH, LAYERS, HEADS, TOKENS = 5, 2, 6, 4, 2, 3, 7


def drawn(seed=0):
    """Proposals of all frames, the initial tokens, and a memory that stays."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return on_device(rng.normal(size=shape), np.float32)

    proposals = Proposal(
        candidate=normal(FRAMES, BATCH, STATE, WIDTH),
        alignment=normal(FRAMES, BATCH, LAYERS, HEADS, STATE),
        image_tokens=normal(FRAMES, BATCH, TOKENS, WIDTH),
        rate_logits=normal(FRAMES, BATCH, STATE),
    )
    return proposals, normal(BATCH, STATE, WIDTH)


def start(rule, tokens):
    batch = tokens.shape[0]
    return RecurrentState(
        tokens=tokens, memory=jnp.zeros((batch, 1, 2)), first=jnp.ones(batch, bool),
        num_frames=jnp.zeros(batch, jnp.int32), rule_state=rule.init(tokens),
    )  # fmt: skip


@functools.cache
def compiled(name):
    """One program a rule: all frames under masks, the states after each, and the derivative."""
    rule = build_state_rule(name)

    def run(proposals, tokens, update, reset):
        initial = start(rule, tokens)

        def body(state, frame):
            proposal, updates, resets = frame
            state, rate = advance(
                state, initial, proposal, state.memory, updates, resets, rule, "streaming"
            )
            return state, (state, rate)

        return jax.lax.scan(body, initial, (proposals, update, reset))[1]

    def loss(proposals, tokens, update, reset):
        states, rates = run(proposals, tokens, update, reset)
        return jnp.sum(jnp.sin(states.tokens)) + jnp.sum(rates**2), (states, rates)

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


def run(name, proposals, tokens, update=None, reset=None):
    """States after each frame, rates, gradients."""
    every = np.ones((FRAMES, tokens.shape[0]), bool)
    update = every if update is None else update
    reset = ~every if reset is None else reset
    (_, (states, rates)), grads = compiled(name)(proposals, tokens, update, reset)
    return states, np.asarray(rates), grads


def by_hand(name, proposals, tokens):
    """The tokens after each frame, one call of the rule after the other."""
    rule = build_state_rule(name)
    rule_state, after = rule.init(tokens), []
    for index in range(FRAMES):
        proposal = cut(proposals, index)
        write, rule_state = rule.update(proposal, rule_state, tokens)
        tokens = written(write, proposal, tokens) if index else proposal.candidate
        after.append(tokens)
    return np.stack(after)


@pytest.fixture(params=sorted(STATE_RULES))
def name(request):
    return request.param


def test_rules_step_as_they_are_called_and_first_frames_overwrite(name):
    """Scan = single calls, shapes stay, nothing is infinite, derivatives are finite."""
    proposals, tokens = drawn()
    states, rates, grads = run(name, proposals, tokens)
    np.testing.assert_allclose(states.tokens, by_hand(name, proposals, tokens), atol=2e-5)
    np.testing.assert_array_equal(states.tokens[0], proposals.candidate[0])
    np.testing.assert_array_equal(rates[0], 1)
    assert rates.shape == (FRAMES, BATCH, STATE)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states, rates, grads)))
    assert np.any(grads[0].candidate[-1])
    fresh = build_state_rule(name).init(tokens)
    kept = cut(states.rule_state, 0)
    assert jax.eval_shape(lambda: kept) == jax.eval_shape(lambda: fresh)
    assert all(leaf.shape[0] == BATCH for leaf in jax.tree.leaves(fresh))


def test_held_frames_and_resets_are_as_if_they_had_not_been(name):
    """Scene 0 holds its third frame, scene 1 starts over after its second."""
    proposals, tokens = drawn()
    update, reset = np.ones((FRAMES, BATCH), bool), np.zeros((FRAMES, BATCH), bool)
    update[2, 0], reset[1, 1] = False, True
    states, rates, _ = run(name, proposals, tokens, update, reset)
    whole = jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), proposals)
    spliced = jax.tree.map(lambda x, y: jnp.concatenate([x[:2], y[2:]]), proposals, whole)
    alone = run(name, spliced, tokens)[0]
    np.testing.assert_array_equal(rates[2, 0], 0)
    np.testing.assert_array_equal(states.tokens[2, 0], states.tokens[1, 0])
    np.testing.assert_allclose(states.tokens[3:, 0], alone.tokens[2:4, 0], atol=1e-6)
    shifted = jax.tree.map(lambda x: jnp.roll(x, -2, axis=0), proposals)
    anew = run(name, shifted, tokens)[0]
    np.testing.assert_array_equal(states.tokens[1, 1], tokens[1])
    np.testing.assert_allclose(states.tokens[2:, 1], anew.tokens[:3, 1], atol=1e-6)


def test_scenes_do_not_mix(name):
    proposals, tokens = drawn()
    both = run(name, proposals, tokens)[0].tokens
    turned = jax.tree.map(lambda x: x[:, ::-1], proposals)
    np.testing.assert_allclose(both[:, ::-1], run(name, turned, tokens[::-1])[0].tokens, atol=1e-6)
    other = jax.tree.map(lambda x, y: x.at[:, 1].set(y[:, 0]), proposals, proposals)
    np.testing.assert_allclose(both[:, 0], run(name, other, tokens)[0].tokens[:, 0], atol=1e-6)


def first_update(rule, index=1):
    """Proposal, tokens before, and the write of a rule's second frame."""
    proposals, tokens = drawn()
    built = build_state_rule(rule)
    _, rule_state = built.update(cut(proposals, 0), built.init(tokens), tokens)
    proposal, before = cut(proposals, index), proposals.candidate[0]
    return proposal, before, built.update(proposal, rule_state, before)[0]


def test_steps_are_rates_where_they_go_straight():
    """A step that is a rate in disguise reports it; one to the side reports what it has of one."""
    proposals, tokens = drawn()
    straight = stateless(lambda proposal, s: Step(s + 0.25 * (proposal.candidate - s)))
    state = start(straight, tokens).replace(first=jnp.zeros(BATCH, bool))
    always, never = jnp.ones(BATCH, bool), jnp.zeros(BATCH, bool)
    proposal = cut(proposals, 0)
    moved, rate = advance(
        state, state, proposal, state.memory, always, never, straight, "streaming"
    )
    np.testing.assert_allclose(rate, 0.25, rtol=1e-5)
    np.testing.assert_allclose(moved.tokens, 0.75 * tokens + 0.25 * proposal.candidate, rtol=1e-5)
    same = proposal.replace(candidate=tokens)
    _, rate = advance(state, state, same, state.memory, always, never, straight, "streaming")
    np.testing.assert_array_equal(rate, 0)


def test_delta_rule_corrects_the_answer_at_its_addresses():
    """One address for all pairs, rate 1: the state answers there what the candidate does."""
    proposals, tokens = drawn()
    proposal = cut(proposals, 0)
    one = jnp.broadcast_to(proposal.alignment[:, :1, :1], proposal.alignment.shape)
    proposal = proposal.replace(alignment=one)
    write, _ = build_state_rule("delta").update(proposal, (), tokens)
    key = jax.nn.softmax(one[:, 0, 0])
    answer = jnp.einsum("bs,bsd->bd", key, write.tokens)
    np.testing.assert_allclose(answer, jnp.einsum("bs,bsd->bd", key, proposal.candidate), atol=1e-5)
    beside = write.tokens - tokens  # a rank of one: nothing is written off the address
    assert np.linalg.matrix_rank(np.asarray(beside[0]), tol=1e-4) == 1


def test_sum_of_equation_seven():
    proposal, _, rate = first_update(RuleConfig.of("ttt3r", pool="sum"))
    score = np.mean(proposal.alignment, axis=(1, 2)) * (TOKENS + 1)
    np.testing.assert_allclose(rate, jax.nn.sigmoid(score), rtol=1e-4)


def test_frame_gate_scales_all_tokens_alike_and_rests_with_the_camera():
    proposal, before, write = first_update("frame_gate")
    inner = build_state_rule("ttt3r").update(proposal, (), before)[0]
    full = written(inner, proposal, before) - before
    share = np.asarray((write.tokens - before) / full)
    np.testing.assert_allclose(share, 1 - np.exp(-1), rtol=1e-3)  # the first change is the usual
    proposal, before, write = first_update("frame_gate", index=0)
    np.testing.assert_allclose(write.tokens, before, atol=1e-6)


def test_memix_writes_the_least_aligned_patches_only():
    aligned = jnp.asarray([[3.0, 2.0, -1.0, 0.0, 9.0, -9.5], [0, 0, 1, 1, 2, 2]])
    chosen = np.asarray(least(aligned, 0.34, 2))
    np.testing.assert_array_equal(chosen, [[0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    odd = np.asarray(least(aligned, 0.0, 4))  # at least one; the last patch is shorter
    np.testing.assert_array_equal(odd, [[0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0]])
    proposal, before, write = first_update(RuleConfig.of("memix", share=0.5))
    dots = np.einsum("bsd,btd->bs", proposal.candidate, proposal.image_tokens)
    low = np.argsort(np.argsort(dots, axis=1), axis=1) < STATE // 2
    np.testing.assert_array_equal(write.tokens[low], proposal.candidate[low])
    np.testing.assert_array_equal(write.tokens[~low], before[~low])


def test_ttsa3r_has_the_gate_as_its_spatial_rate():
    rule = RuleConfig.of("ttsa3r", dynamics=0.0, sharpness=0.0)
    proposal, before, rate = first_update(rule)
    gate = build_state_rule("ttt3r").update(proposal, (), before)[0]
    np.testing.assert_allclose(rate, 0.5 * gate, rtol=1e-5)  # the temporal rate is even
    active, steady = (
        first_update(RuleConfig.of("ttsa3r", dynamics=0.0, temporal=kind))[2]
        for kind in ("active", "steady")
    )
    np.testing.assert_allclose((active + steady) / gate, 1, rtol=1e-4)
    assert not np.allclose(active, steady)


def test_ssr_leaves_what_the_past_expresses():
    rng = np.random.default_rng(3)
    past = on_device(rng.normal(size=(BATCH, 3, STATE, WIDTH)), np.float32).at[:, 0].set(0)
    within = 0.3 * past[:, 1] - 0.8 * past[:, 2]
    np.testing.assert_allclose(expressed(past, within, 1e-6), within, atol=1e-4)
    beyond = on_device(rng.normal(size=within.shape), np.float32)
    pulled = expressed(past, beyond, 1e-6)
    left = np.einsum("bwsd,bsd->bw", past, beyond - pulled)
    np.testing.assert_allclose(left, 0, atol=1e-2)  # least squares: orthogonal to the past
    assert np.linalg.norm(pulled) < np.linalg.norm(beyond)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("learned", "rule=learned needs rate_logits, which the network does not give; train"),
        ("memix", "rule=memix needs image_tokens"),
        (RuleConfig.of("ttt3r", pool="sum"), "rule=ttt3r needs image_tokens"),
    ],
)
def test_rules_say_what_they_lack(rule, words):
    proposals, tokens = drawn()
    built = build_state_rule(rule)
    bare = cut(proposals, 0).replace(image_tokens=None, rate_logits=None)
    with pytest.raises(InputError, match=words):
        built.update(bare, built.init(tokens), tokens)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RuleConfig.of("delta", rate=3.0), "rule.rate=3.0 is not in"),
        (RuleConfig.of("memix", share=1.5), "rule.share=1.5"),
        (RuleConfig.of("ssr", window=0), "rule.window=0"),
        (RuleConfig.of("ssr", ridge=0.0), "rule.ridge=0.0"),
        (RuleConfig.of("frame_gate", decay=2.0), "rule.decay=2.0"),
    ],
)
def test_options_have_limits(rule, words):
    with pytest.raises(ConfigError, match=words):
        build_state_rule(rule)
