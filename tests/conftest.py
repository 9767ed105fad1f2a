"""Shared test settings: CPU, checked shapes, no rank promotion, programs compiled once."""

import dataclasses
import gc
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path


def compiler_flags() -> str:
    """Quick compiling: the suite spends its time there, not computing."""
    flags = ["--xla_backend_optimization_level=0"]
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end at unknown flags
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    return " ".join(flags)


def program_directory() -> str:
    """Where compiled programs are kept, for workers, for commands started by tests, and for the
    next run: its names hold versions and flags. Delete it at any time."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(caches / "tttlrm-jax-tests" / f"jaxlib-{importlib.metadata.version('jaxlib')}")


SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "TTTLRM_TYPECHECK": "1",
    "XLA_FLAGS": compiler_flags(),
    "JAX_COMPILATION_CACHE_DIR": program_directory(),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)
gc.set_threshold(100_000, 50, 100)  # tracing makes many objects: a tenth of its time was collecting

import jax  # noqa: E402 - reads the environment
import pytest  # noqa: E402

# Benchmarks are not installed; at the end, so that the installed package is what is tested.
sys.path.append(str(Path(__file__).resolve().parents[1]))

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
SLOW = ROOT / "tests" / "slow"
SIZE = 32  # pixels, of the tiny capture
MAPPINGS, MOST_MAPPINGS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recordings and captures beside the checkout; skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared (recordings, captures) is not beside this checkout")
    return SHARED


def pytest_collection_modifyitems(config, items):
    """Whatever lies in `slow` is marked `extended`. Without `-m`, and outside of that folder, tests
    with the mark are left out: `pytest tests/fast tests/slow -m extended` runs them all."""
    slow = [item for item in items if SLOW in item.path.parents]
    for item in slow:
        item.add_marker(pytest.mark.extended)
    if not config.option.markexpr:
        left_out = [
            item for item in items if item.get_closest_marker("extended") and item not in slow
        ]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def tiny_run():
    """A run of the smallest model that the commands read."""
    from tttlrm_jax.config import DataConfig, ModelConfig, RunConfig, SyntheticConfig

    return RunConfig(
        name="tiny",
        model=ModelConfig(
            d_model=32, num_layers=1, patch_size=8, attention_head_dim=16, sh_degree=1,
            max_distance=6.0, ttt_inner_factor=1.0,
        ),
        data=DataConfig(
            synthetic=SyntheticConfig(height=SIZE, width=SIZE, num_views=8), num_input_views=3
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tiny_run):
    """A model directory of weights as they are drawn."""
    from tttlrm_jax.checkpoints.models import export_model
    from tttlrm_jax.models import build_model, split_model

    params = split_model(build_model(tiny_run.model, seed=1))[1]
    return export_model(tiny_run, params, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def dense_run(tiny_run):
    """It drawn without tiles, in a run: that compiles sooner, and once for all scenes, as there is
    no capacity that follows from them. A model directory does not keep the rasterizer."""
    from tttlrm_jax.config import RasterConfig

    return dataclasses.replace(tiny_run, raster=RasterConfig(backend="reference"))


@pytest.fixture(scope="session")
def tiny_capture_source(tmp_path_factory):
    """A capture of ten small pictures."""
    from tttlrm_jax.apps.make_sample import SampleConfig, write_sample
    from tttlrm_jax.config import SyntheticConfig

    directory = tmp_path_factory.mktemp("captures") / "object"
    views = SyntheticConfig(
        split="eval", num_views=10, height=SIZE, width=SIZE + 16, max_primitives=2, supersampling=1
    )
    write_sample(SampleConfig(output=str(directory), object=views))
    return directory


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
    """Frees programs once they take half of the mappings that a process may have: beyond, it
    crashes."""
    yield
    few = MAPPINGS.exists() and (
        MAPPINGS.read_bytes().count(b"\n") < int(MOST_MAPPINGS.read_text()) // 2
    )
    if not few:
        jax.clear_caches()
