"""Files that build a protocol."""

from pathlib import Path
from typing import TypeVar

from tttlrm_jax.config.user_file import run_user_file
from tttlrm_jax.core.errors import ConfigError

_Kind = TypeVar("_Kind")


def read_protocol_file(name: str, kind: type[_Kind]) -> _Kind:
    """The PROTOCOL of a configuration file, of this class. Raises ConfigError for another file."""
    protocol = built_protocol(name)
    if isinstance(protocol, kind):
        return protocol
    problem = "; add it"
    if protocol is not None:
        problem = f" but a {type(protocol).__name__}; leave --model out"
    raise ConfigError(f"protocol={name} builds no {kind.__name__} named PROTOCOL{problem}")


def built_protocol(name: str) -> object:
    """The PROTOCOL of a configuration file, or None. Raises ConfigError for one that fails."""
    remedy = "give one such as configs/tttlrm/*.py or configs/ttt3r/*.py"
    if Path(name).suffix != ".py" or not Path(name).is_file():
        raise ConfigError(f"protocol={name} is no Python file; {remedy}")
    module = run_user_file(name, "protocol", "building PROTOCOL", remedy)
    return getattr(module, "PROTOCOL", None)


def named_protocol(arguments: list[str]) -> str | None:
    """The file that `--protocol` names on a command line; "" where the name is lacking."""
    for number, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if key == "--protocol":
            return value if equals else next(iter(arguments[number + 1 :]), "")
    return None
