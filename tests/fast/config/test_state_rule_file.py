"""`eval.py --model ttt3r --rule FILE.py`: a state rule of one's own, with a state of its own."""

import functools
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.apps.sequences.command import parse
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.models.ttt3r import Frame, init_state, step
from tttlrm_jax.ttt.state_rules import build_state_rule

CONFIG = TTT3RConfig(
    patch_size=8, encoder_width=8, encoder_heads=2, encoder_depth=1, ray_encoder_depth=1,
    ray_encoder_heads=2, decoder_width=8, decoder_depth=2, decoder_heads=2, state_heads=2,
    num_state_tokens=3, memory_slots=2, memory_heads=2, memory_depth=1, mlp_factor=1.0,
    head="linear", head_depth=1,
)  # fmt: skip
WANING = """
    from __future__ import annotations

    import flax.struct
    import jax
    import jax.numpy as jnp

    from tttlrm_jax.ttt.state_rules import StateRule, register_state_rule

    @flax.struct.dataclass
    class Count:
        frames: jax.Array

    @register_state_rule
    def waning(start: float = 1.0) -> StateRule:
        '''A rate that wanes with the frames that were taken in.'''

        def init(tokens):
            return Count(jnp.zeros(tokens.shape[0]))

        def update(proposal, count, tokens):
            rate = start / (1 + count.frames)
            return jnp.broadcast_to(rate[:, None], tokens.shape[:2]), Count(count.frames + 1)

        return StateRule(init, update)
"""

pytestmark = pytest.mark.usefixtures("registered_rules")


@pytest.fixture(scope="module")
def network():
    graph, params = split_model(build_model(CONFIG, seed=0))
    return graph, params, jax.jit(functools.partial(step, graph=graph), static_argnames="rule")


@pytest.fixture
def rule(tmp_path):
    path = tmp_path / "waning.py"
    path.write_text(textwrap.dedent(WANING))
    _, configured = parse(["--capture", "room", "--rule", str(path), "--rule.start", "0.5"])
    assert configured.name == "waning"
    return build_state_rule(configured)


def walk(network, rule, **masks):
    """States before and after each frame of two scenes, and the rates; masks are [frame, scene]."""
    graph, params, compiled = network
    rows = {name: jnp.asarray(values, bool) for name, values in masks.items()}
    count = len(next(iter(rows.values())))
    full = {"image_mask": True, "update": True, "reset": False}
    images = np.random.default_rng(0).uniform(size=(count, 2, 8, 16, 3)).astype(np.float32)
    states, rates = [init_state(params, 2, graph=graph, rule=rule)], []
    for index in range(count):
        given = {
            name: rows[name][index] if name in rows else jnp.full(2, default)
            for name, default in full.items()
        }
        image = np.where(
            np.asarray(given["image_mask"])[:, None, None, None], images[index], np.nan
        )
        state, out = compiled(params, states[-1], Frame(jnp.asarray(image), **given), rule=rule)
        states.append(state)
        rates.append(out.gate)
    return states, rates


def test_a_rule_of_a_file_moves_tokens_by_its_own_state(network, rule):
    states, rates = walk(network, rule, update=[[1, 1], [1, 1], [1, 1]])
    np.testing.assert_array_equal(rates[0], 1)  # a first frame overwrites
    np.testing.assert_allclose(rates[1], 0.5 / 2)
    np.testing.assert_allclose(rates[2], 0.5 / 3)
    np.testing.assert_array_equal(states[-1].rule_state.frames, [3, 3])
    assert not np.array_equal(states[2].tokens, states[3].tokens)


@pytest.mark.parametrize("mask", ["update", "image_mask"])
def test_masks_keep_the_state_of_the_rule(network, rule, mask):
    states, rates = walk(network, rule, **{mask: [[1, 1], [0, 1], [1, 1]]})
    np.testing.assert_array_equal(states[2].rule_state.frames, [1, 2])
    np.testing.assert_array_equal(rates[1][0], 0)
    np.testing.assert_allclose(rates[2], [[0.5 / 2] * 3, [0.5 / 3] * 3])


def test_a_reset_renews_the_state_of_the_rule(network, rule):
    states, rates = walk(network, rule, reset=[[0, 0], [1, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(states[2].rule_state.frames, [0, 2])
    np.testing.assert_allclose(rates[1], 0.5 / 2)  # the frame itself is an ordinary one
    np.testing.assert_allclose(rates[3], [[0.5 / 2] * 3, [0.5 / 4] * 3])


@pytest.mark.parametrize("mask", ["update", "image_mask"])
def test_a_masked_first_frame_changes_nothing(network, rule, mask):
    states, rates = walk(network, rule, **{mask: [[0, 1], [1, 1]]})
    before, after = ([leaf[0] for leaf in map(np.asarray, part)] for part in (
        jax.tree.leaves(states[index].replace(first=jnp.zeros(2, bool))) for index in (0, 1)
    ))  # fmt: skip
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(rates[0], [[0] * 3, [1] * 3])
    np.testing.assert_array_equal(states[1].first, False)
    np.testing.assert_allclose(rates[1], [[0.5] * 3, [0.5 / 2] * 3])  # ordinary, not a first one
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states))


def test_files_that_register_no_state_rule_or_lack_an_option_are_refused(tmp_path, rule):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="registers no state rule"):
        parse(["--capture", "room", "--rule", str(tmp_path / "empty.py")])
    with pytest.raises(ConfigError, match="has no option pace; it has start"):
        parse(["--rule", str(tmp_path / "waning.py"), "--rule.pace", "2"])
