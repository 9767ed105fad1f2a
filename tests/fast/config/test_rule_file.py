"""Files that register a rule: annotations as text, files of one name, failures."""

import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.apps.rule_arguments import register_from_file
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.ttt import RULES, FastWeights, build_rule

COUNTED = """
    from __future__ import annotations

    import flax.struct
    import jax
    import jax.numpy as jnp

    from tttlrm_jax.ttt import UpdateRule, register_rule

    @flax.struct.dataclass
    class Count:
        updates: jax.Array

    @register_rule
    def NAME(rate: float = 1.0) -> UpdateRule:
        def update(grad, count, weights):
            step = rate / (1 + count.updates)
            return jax.tree.map(lambda g: step * g, grad), Count(count.updates + 1)

        return UpdateRule(lambda weights: Count(jnp.zeros(())), update)
"""

pytestmark = pytest.mark.usefixtures("registered_rules")


def write(path, name):
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(COUNTED.replace("NAME", name)))
    return str(path)


def test_state_with_postponed_annotations(tmp_path):
    name = register_from_file(write(tmp_path / "rule.py", "counted"), RULES)
    rule = build_rule(RuleConfig.of(name, rate=3.0))
    weights = FastWeights(*(jnp.ones((2, 3, 4, 5)),) * 3)
    state = rule.init(weights)
    for expected in (3.0, 1.5):
        step, state = jax.jit(rule.update)(weights, state, weights)
        np.testing.assert_allclose(step.down, np.full((2, 3, 4, 5), expected))


def test_files_of_one_name_are_apart(tmp_path, monkeypatch):
    first = write(tmp_path / "a" / "rule.py", "one")
    second = write(tmp_path / "b" / "rule.py", "two")
    assert register_from_file(first, RULES) == "one"
    assert register_from_file(second, RULES) == "two"
    monkeypatch.chdir(tmp_path / "a")
    assert register_from_file("rule.py", RULES) == "one"  # the same file, called otherwise
    assert {"one", "two"} <= set(RULES)


def test_one_name_for_rules_of_two_files_is_refused(tmp_path):
    register_from_file(write(tmp_path / "a" / "rule.py", "one"), RULES)
    with pytest.raises(ConfigError, match="one is registered already"):
        register_from_file(write(tmp_path / "b" / "rule.py", "one"), RULES)


def test_a_file_that_fails_leaves_no_module(tmp_path):
    before = set(sys.modules)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=r"broken\.py, line 1 fails \(ZeroDivisionError"):
        register_from_file(str(tmp_path / "broken.py"), RULES)
    assert not {name for name in set(sys.modules) - before if name.startswith("broken")}
