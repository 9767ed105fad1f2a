"""Where states may be written."""

import pytest

from tttlrm_jax.apps.reconstruct.command import state_directory
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.errors import InputError


def test_a_state_is_replaced_only_when_asked_and_only_at_the_end(tmp_path):
    target = tmp_path / "state"

    def write(text, overwrite):
        config = EvalConfig(plan="causal", save_state=str(target), overwrite_state=overwrite)
        with state_directory(config, tmp_path / "out") as directory:
            assert directory is not None
            (directory / "state.json").write_text(text)
            if text == "broken":
                raise KeyboardInterrupt

    write("first", overwrite=False)
    with pytest.raises(InputError, match="--overwrite-state"):
        write("second", overwrite=False)
    with pytest.raises(KeyboardInterrupt):
        write("broken", overwrite=True)
    assert (target / "state.json").read_text() == "first"
    write("third", overwrite=True)
    assert (target / "state.json").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with state_directory(EvalConfig(), tmp_path) as nothing:
        assert nothing is None
