import dataclasses

import pytest

from tttlrm_jax.config.command_line import parse_arguments
from tttlrm_jax.core.errors import ConfigError, InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
    number: int | None = None
    pair: tuple[int, int] = (1, 2)
    inner: Inner = dataclasses.field(default_factory=Inner)

    def __post_init__(self):
        if self.number == 13:
            raise InputError("number=13 is unlucky; use 12")


def test_values():
    config = parse_arguments(ToyConfig, ["--pair", "5", "6", "--inner.size", "7"], "toy")
    assert (config.pair, config.inner.size, config.number) == ((5, 6), 7, None)
    assert parse_arguments(ToyConfig, [], "toy", default=config) == config


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nmber", "1"], ["--nmber", "did you mean --number?"]),
        (["--inner.sise", "1"], ["--inner.sise", "--inner.size"]),
        (["stray"], ["stray"]),
        (["--number", "x"], ["--number", "'x'"]),
        (["--pair", "1"], ["--pair"]),
        (["--number", "13"], ["number=13 is unlucky; use 12"]),
    ],
)
def test_mistakes_are_one_sentence(arguments, words, capsys):
    with pytest.raises(ConfigError) as raised:
        parse_arguments(ToyConfig, arguments, "toy")
    message = str(raised.value)
    assert "\n" not in message
    assert message.endswith("toy --help")
    assert "  " not in message
    assert all(word in message for word in words), message
    assert capsys.readouterr() == ("", "")


def test_help_prints_and_ends(capsys):
    with pytest.raises(SystemExit) as end:
        parse_arguments(ToyConfig, ["--help"], "toy")
    assert end.value.code == 0
    assert "--inner.size" in capsys.readouterr().out
