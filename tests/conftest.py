"""Shared test settings: CPU, checked shapes, no rank promotion, programs compiled once."""

import atexit
import importlib.metadata
import os
import shutil
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TTTLRM_TYPECHECK", "1")
if "XLA_FLAGS" not in os.environ:  # the suite spends its time compiling, not computing
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end at unknown flags
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # commands started by tests compile once
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="tttlrm-jax-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import re
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

# Benchmarks are not installed; at the end, so that the installed package is what is tested.
sys.path.append(str(Path(__file__).resolve().parents[1]))

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings and captures beside the checkout; skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared (recordings, captures) is not beside this checkout")
    return SHARED


@pytest.fixture
def registered_rules() -> Iterator[None]:
    """Forgets update rules and state rules that a test registers."""
    from tttlrm_jax.ttt.rules import RULES
    from tttlrm_jax.ttt.state_rules import STATE_RULES

    tables: list[dict] = [RULES, STATE_RULES]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture
def documented_rule(tmp_path, registered_rules) -> Path:
    """The file with a rule `unit_ascent` that docs/guides/update_rules.md shows."""
    text = (ROOT / "docs" / "guides" / "update_rules.md").read_text()
    (code,) = re.findall(r"```python\n(# unit_ascent\.py.*?)```", text, re.S)
    path = tmp_path / "unit_ascent.py"
    path.write_text(code)
    return path


@pytest.fixture(scope="module", autouse=True)
def compiled_programs():
    """Frees a file's programs at its end: a process may map only so many, then it crashes."""
    yield
    jax.clear_caches()
