"""`--rule FILE.py`: a state rule of the user's own."""

import importlib.util
from pathlib import Path

from tttlrm_jax.errors import ConfigError
from tttlrm_jax.ttt.state_rules import STATE_RULES, find_state_rule


def state_rule_name(name: str) -> str:
    """The name itself, or that of the rule which the file of that name registers.

    Raises ConfigError for a name that is unknown, and for a file that does not exist, fails, or
    registers no rule or several.
    """
    if not name.endswith(".py"):
        find_state_rule(name)
        return name
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ConfigError(f"rule file {name} does not exist; give a file that registers a rule")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:  # the file is the user's: whatever it raises is their mistake
        raise ConfigError(
            f"rule file {name} fails: {type(error).__name__}: {error}; correct it"
        ) from error
    own = [rule for rule, each in STATE_RULES.items() if each.build.__module__ == module.__name__]
    if len(own) != 1:
        raise ConfigError(
            f"rule file {name} registers {', '.join(own) or 'no state rule'}; it must register one"
        )
    return own[0]
