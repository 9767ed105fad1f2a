"""`--rule` on command lines, in files and in JSON; the recipe of docs/guides/update_rules.md."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tttlrm_jax.apps.rule_arguments import parse_with_rule
from tttlrm_jax.config import (
    EvalConfig,
    ModelConfig,
    RuleConfig,
    RunConfig,
    config_from_dict,
    config_to_dict,
)
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.models.nn.ttt_layer import TTTLayer
from tttlrm_jax.ttt import FastWeights, build_rule, full_plan, rule_from_config
from tttlrm_jax.ttt.rules import RULES, override_rule, register_rule, sgd

RUN = RunConfig(name="test")


def train_rule(*arguments: str, model: ModelConfig = RUN.model) -> RuleConfig | None:
    default = RunConfig(name="test", model=model)
    return parse_with_rule(RunConfig, list(arguments), "train.py", default).model.rule


def test_without_arguments_nothing_changes():
    assert parse_with_rule(RunConfig, [], "train.py", RUN) == RUN
    assert parse_with_rule(EvalConfig, [], "eval.py") == EvalConfig()


def test_options_nest_and_defaults_are_spelled_out():
    rule = train_rule(
        "--rule", "elastic", "--rule.strength=0.2", "--rule.inner", "momentum",
        "--rule.inner.decay", "0.8",
    )  # fmt: skip
    inner = RuleConfig.of("momentum", decay=0.8, inner=RuleConfig.of("sgd", rate=1.0))
    assert rule == RuleConfig.of(
        "elastic", strength=0.2, fisher_decay=0.5, anchor_decay=0.8, inner=inner
    )
    assert train_rule("--model.rule", "gram", "--rule.coefficients", "polar_express") == (
        RuleConfig.of("gram", steps=5, restart=2, coefficients="polar_express", rate=1.0)
    )


def test_options_alone_change_the_configured_rule():
    muon = RuleConfig.of("muon", steps=3)
    model = ModelConfig(rule=RuleConfig.of("elastic", inner=muon, strength=0.1))
    rule = train_rule("--rule.inner.rate", "0.5", model=model)
    assert rule is not None
    options = dict(rule.options)
    assert (rule.name, options["strength"]) == ("elastic", 0.1)
    assert dict(options["inner"].options) == {"steps": 3, "rate": 0.5}


def test_options_reach_a_wrapped_rule_that_is_named_only():
    model = ModelConfig(rule=RuleConfig.of("delta", inner="muon"))
    rule = train_rule("--rule.inner.rate", "2", model=model)
    assert rule == RuleConfig.of("delta", inner=RuleConfig.of("muon", steps=5, rate=2.0))
    assert train_rule("--rule.inner", "sgd", model=model) == (
        RuleConfig.of("delta", inner=RuleConfig.of("sgd", rate=1.0))
    )


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RuleConfig.of("sgd", rate=math.inf), ["rule.rate=inf", "finite"]),
        (RuleConfig.of("delta", inner=3), ["rule.inner=3", "a rule's name"]),
    ],
)
def test_configurations_in_files_are_checked_too(rule, words):
    with pytest.raises(ConfigError) as raised:
        RULES.complete(rule)
    assert all(word in str(raised.value) for word in words)


def test_a_rule_built_directly_is_checked():
    with pytest.raises(ConfigError, match="finite and 0 or more"):
        sgd(rate=math.inf)


def test_other_arguments_pass_by_their_parser():
    config = parse_with_rule(
        EvalConfig, ["--views", "3", "--rule", "sgd", "--seed", "7"], "eval.py"
    )
    assert (config.views, config.seed, config.rule) == (3, 7, RuleConfig("sgd"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rule", "mun"], ["mun", "did you mean muon?"]),
        (["--rule", "sgd", "--rule.rte", "1"], ["rte", "rate"]),
        (["--rule", "muon", "--rule.steps", "x"], ["--rule.steps=x", "whole number"]),
        (["--rule", "sgd", "--rule.rate", "-1"], ["rate=-1.0", "0 or more"]),
        (["--rule", "sgd", "--rule.rate", "inf"], ["--rule.rate=inf", "finite number"]),
        (["--rule", "elastic", "--rule.inner.rate", "nan"], ["--rule.inner.rate=nan", "finite"]),
        (["--rule", "forget", "--rule.gate", "maybe"], ["maybe", "constant"]),
        (["--rule", "forget", "--rule.inner", "mun"], ["mun", "muon"]),
        (["--rule"], ["--rule", "no value"]),
        (["--rule", "absent.py"], ["absent.py", "does not exist"]),
    ],
)
def test_mistakes_are_one_sentence(arguments, words):
    with pytest.raises(ConfigError) as raised:
        train_rule(*arguments)
    message = str(raised.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_an_option_without_a_rule_is_an_error_where_none_is_known():
    with pytest.raises(ConfigError, match="name the rule"):
        parse_with_rule(EvalConfig, ["--rule.rate", "1"], "eval.py")


def test_json_round_trip():
    rule = train_rule("--rule", "forget", "--rule.inner", "delta")
    config = RunConfig(name="test", model=ModelConfig(rule=rule))
    assert config_from_dict(RunConfig, json.loads(json.dumps(config_to_dict(config)))) == config
    assert hash(config.model) == hash(ModelConfig(rule=rule))


def test_older_configurations_keep_their_rule():
    """Files from before `model.rule` alone said it: the same rule, the same numbers."""
    values = config_to_dict(ModelConfig())
    del values["rule"]
    values |= {"muon_steps": 2, "elastic_strength": 0.3, "elastic_fisher_decay": 0.5}
    config = config_from_dict(ModelConfig, values)
    weights = FastWeights(*(jnp.ones((1, 1, 2, 2), jnp.float32) for _ in range(3)))
    named = RuleConfig.of("elastic", strength=0.3, inner=RuleConfig.of("muon", steps=2))
    results = [
        rule.update(weights, rule.init(weights), weights)[0]
        for rule in (rule_from_config(config), build_rule(named, "bfloat16"))
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert config.rule == RULES.complete(named)  # a run from then goes on


@pytest.mark.parametrize("rule", [None, RuleConfig.of("sgd", rate=2.0)])
def test_older_configurations_with_a_rule_or_none(rule):
    values = config_to_dict(ModelConfig()) | {
        "rule": rule and rule.to_dict(), "muon_steps": 5, "elastic_strength": 0.0,
        "elastic_fisher_decay": 0.5, "elastic_anchor_decay": 0.8,
    }  # fmt: skip
    assert config_from_dict(ModelConfig, values) == (
        ModelConfig(rule=rule) if rule else ModelConfig()
    )


def test_the_default_rule_names_every_option():
    assert RULES.complete(ModelConfig().rule) == ModelConfig().rule


def test_override_keeps_trained_options_of_the_same_rule():
    trained = ModelConfig(rule=RuleConfig.of("sgd", rate=3.0), newton_schulz_dtype="float32")
    assert override_rule(trained, None) is trained
    assert override_rule(trained, RuleConfig("sgd")).rule == trained.rule
    assert override_rule(trained, RuleConfig("muon")).rule.name == "muon"


def test_registering_refuses_what_a_command_line_cannot_say():
    with pytest.raises(ConfigError, match="default"):
        register_rule(lambda strength: None)
    with pytest.raises(ConfigError, match="annotated"):
        register_rule(lambda strength=(): None)

    def muon():
        return None

    with pytest.raises(ConfigError, match="registered already"):
        register_rule(muon)


def test_the_documented_recipe_is_in_the_help_and_trains(documented_rule, capsys):
    with pytest.raises(SystemExit):
        parse_with_rule(EvalConfig, ["--rule", str(documented_rule), "--help"], "eval.py")
    printed = capsys.readouterr().out
    assert "unit_ascent" in printed
    assert "--rule.length FLOAT (default: 0.5)" in printed
    rule = train_rule("--rule", str(documented_rule), "--rule.length", "0.1")
    assert rule == RuleConfig.of("unit_ascent", length=0.1)
    config = ModelConfig(d_model=8, attention_head_dim=4, ttt_inner_factor=2.0, rule=rule)
    layer = TTTLayer(config, projection_std=0.3, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    x = on_device(np.random.default_rng(0).standard_normal((1, 6, 8)), np.float32)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        layer = nnx.merge(graph, params)
        return jnp.mean((layer(x, full_plan(6, 6), layer.initial_state(1))[0] - x) ** 2)

    before, grads = loss(params)
    after, _ = loss(jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads))
    assert after < before


def test_a_file_that_registers_nothing_or_fails_is_named(tmp_path):
    empty, broken = tmp_path / "empty.py", tmp_path / "broken.py"
    empty.write_text("")
    broken.write_text("1 / 0")
    with pytest.raises(ConfigError, match="registers no update rule"):
        train_rule("--rule", str(empty))
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        train_rule("--rule", str(broken))
