"""Imports go one way: to lower levels or within the own folder (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import tttlrm_jax

PACKAGE = Path(tttlrm_jax.__file__).parent
LEVELS = {
    "core": 0,
    "config": 1,
    "parallel": 2,
    "ttt": 3, "rasterize": 3, "volume": 3,
    "captures": 4,
    "sequences": 5,
    "procedural": 6, "structure_from_motion": 6,
    "datasets": 7,
    "models": 8,
    "metrics": 9, "convert": 9,
    "checkpoints": 10,
    "per_scene": 11, "export": 11,
    "reports": 12, "mesh": 12,
    "training": 13, "api": 13,
    "apps": 14, "parity": 14,
    "render": 15, "view": 15,
    "__main__": 15,
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


def wrong_imports(path: Path) -> list[str]:
    """Imports of a file that do not go down; everything may use `core`, `core` only itself."""
    own = part_of(path)
    return [
        f"{path.relative_to(PACKAGE)} (level {LEVELS[own]}) imports {other} ({LEVELS[other]})"
        for other in sorted(imported_parts(path) - {own})
        if LEVELS[other] >= LEVELS[own]
    ]


def test_imports_go_down():
    assert [line for path in MODULES for line in wrong_imports(path)] == []


def test_every_folder_has_a_level():
    assert {part_of(path) for path in MODULES} == set(LEVELS)
