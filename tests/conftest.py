"""Shared test settings: CPU, checked shapes, no silent rank promotion."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TTTLRM_TYPECHECK", "1")

from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings and captures beside the checkout; skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared (recordings, captures) is not beside this checkout")
    return SHARED
