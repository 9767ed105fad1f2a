"""Shared test settings: CPU, checked shapes, no rank promotion, programs compiled once."""

import atexit
import os
import shutil
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TTTLRM_TYPECHECK", "1")
if "XLA_FLAGS" not in os.environ:  # the suite spends its time compiling, not computing
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # commands started by tests compile once
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="tttlrm-jax-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

from pathlib import Path

import jax
import pytest

from tttlrm_jax.host_memory import keep_freed_memory

# Benchmarks are not installed; at the end, so that the installed package is what is tested.
sys.path.append(str(Path(__file__).resolve().parents[1]))

keep_freed_memory()
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings and captures beside the checkout; skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared (recordings, captures) is not beside this checkout")
    return SHARED
