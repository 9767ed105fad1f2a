"""Every configuration in configs/ is valid as it stands and says how it is run."""

import ast
from pathlib import Path

import pytest

from tttlrm_jax.apps.train import load_config_file

FOLDER = Path(__file__).parents[3] / "configs"
CONFIGS = sorted({*FOLDER.glob("*.py"), *FOLDER.glob("presets/*.py")} - {FOLDER / "paper.py"})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid_and_names_its_command(path):
    config = load_config_file(path)
    assert config.name
    header = ast.get_docstring(ast.parse(path.read_text()))
    assert f"train.py {path.relative_to(FOLDER.parent)}" in header


def test_names_are_distinct():
    names = [load_config_file(path).name for path in CONFIGS]
    assert len(set(names)) == len(names) > 0
