"""Imports go one way: to lower levels or within the own folder (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

import tttlrm_jax

PACKAGE = Path(tttlrm_jax.__file__).parent
LEVELS = {
    "types": 0, "config": 0, "config_ttt3r": 0, "config_sequences": 0,
    "config_pods": 0, "errors": 0, "host_memory": 0, "precision": 0, "command_line": 0,
    "processes": 0, "parallel": 0, "devices": 0,
    "geometry": 1,
    "ttt": 2, "rasterize": 2,
    "data": 3, "nn": 3,
    "decoders": 4,
    "models": 5,
    "convert": 6, "evaluation": 6, "export": 6,
    "training": 7, "optimize": 7,
    "parity": 8, "commands": 8,
    "__main__": 9,
}  # fmt: skip
BASE_ORDER = {
    "errors": 0, "precision": 0, "host_memory": 0, "types": 1, "config": 1, "command_line": 1,
    "config_ttt3r": 2, "config_sequences": 2, "config_pods": 2, "processes": 2, "parallel": 3,
    "devices": -1,
}  # fmt: skip
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_parts(path: Path) -> set[str]:
    """First component below the package of every import in a file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names.append(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("tttlrm_jax.")}


def part_of(path: Path) -> str:
    if path.name == "__main__.py":  # an entry point, like the root scripts
        return "__main__"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = part_of(path)
    for other in imported_parts(path) - {own}:
        down = LEVELS[other] < LEVELS[own]
        base = LEVELS[own] == 0 and BASE_ORDER.get(other, 9) < BASE_ORDER[own]
        assert down or base, f"{own} (level {LEVELS[own]}) imports {other} ({LEVELS[other]})"


def test_every_folder_has_a_level():
    assert {part_of(path) for path in MODULES} == set(LEVELS)
