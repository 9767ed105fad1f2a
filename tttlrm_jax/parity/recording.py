"""One recording: its arrays, its parameters, and the precision variants it holds."""

import dataclasses
import functools
import importlib.metadata
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.config import Dtype
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parity.report import Row, compare, row

FLOAT64_STORED = 1e-11  # relative; other summation orders reach 1e-13
FLOAT32_STORED = 1e-7  # relative; rounding a float64 result to float32 costs up to 6e-8
ROUNDING_MULTIPLE = 5  # of the reference's float32 error that a correct float32 result may reach
BF16_CORRELATION = 0.05  # 1 - correlation with a chaotic bfloat16 result
BF16_DEVIATION = 0.25  # mean absolute difference over standard deviation, same

# Cases are small and each runs once, so that time goes into compiling: LLVM may be quick. The
# last two take more than half of what is left; other releases may end at options they do not know.
QUICK: dict[str, bool | str | int] = {"xla_backend_optimization_level": 0}
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK |= {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)
LONG = {name: value for name, value in QUICK.items() if "optimization" not in name}
long_jit = functools.partial(jax.jit, compiler_options=LONG)  # runs for longer than it compiles


@dataclasses.dataclass(frozen=True)
class Variant:
    """Precision of a recording: everything in `dtype`, Newton-Schulz in its own."""

    name: str
    dtype: Dtype
    newton_schulz_dtype: Dtype


VARIANTS = {
    "fp32": Variant("fp32", "float32", "float32"),
    "bf16": Variant("bf16", "float32", "bfloat16"),
    "fp64": Variant("fp64", "float64", "float64"),
}


@dataclasses.dataclass(frozen=True)
class Recording:
    """Arrays of one .npz by key, and what its `meta_json` or `meta` says."""

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            raise InputError(f"recording {self.path.name} has no array {key}; fetch it again")
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays whose key starts with `prefix`, which is cut off."""
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}

    def cases(self, suffix: str) -> list[str]:
        """What precedes `suffix` in every key that ends with it, in file order."""
        return [key.removesuffix(suffix) for key in self.arrays if key.endswith(suffix)]

    def float64_twin(self, quantity: str) -> np.ndarray | None:
        """The float64 value of a float32 quantity, in this file or in the one beside it."""
        key = quantity.replace("fp32", "fp64")
        if key != quantity:
            return self.arrays.get(key)
        path = self.path.with_name(self.path.name.replace("fp32", "fp64"))
        return load(path).arrays.get(quantity) if path.is_file() else None

    def variants(self, prefix: str = "") -> list[Variant]:
        """Precision variants recorded directly under `prefix`."""
        found = {key.split("/")[0] for key in self.under(prefix)}
        return [variant for name, variant in VARIANTS.items() if name in found]


@functools.lru_cache(maxsize=8)
def load(path: Path) -> Recording:
    """Reads a recording; a truncated or foreign file raises InputError."""
    if not path.is_file():
        raise InputError(f"recording {path.name} is missing in {path.parent}; fetch it again")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"recording {path} is truncated or no .npz file; fetch it again"
        ) from error
    try:
        text = arrays.pop("meta", "{}") if "meta_json" not in arrays else arrays.pop("meta_json")
        meta = json.loads(str(text))
    except json.JSONDecodeError as error:
        raise InputError(f"recording {path} has meta data that is not JSON; fetch it again") from (
            error
        )
    return Recording(path, arrays, meta)


def judge(
    recording: Recording, quantity: str, actual, variant: Variant, float32_tolerance: float
) -> Iterator[Row]:
    """Rows for one recorded quantity.

    float64 is judged by what storage keeps; float32 by `float32_tolerance`, or by
    `ROUNDING_MULTIPLE` times the reference's own rounding error where the recording shows that
    to be larger; chaotic bfloat16 results statistically.
    """
    expected = recording[quantity]
    if variant.name == "bf16":
        yield from judge_statistically(recording.path, quantity, actual, expected)
        return
    if variant.name == "fp64":
        tolerance = FLOAT64_STORED if expected.dtype == np.float64 else FLOAT32_STORED
    else:
        rounding = ROUNDING_MULTIPLE * float32_rounding(recording, quantity)
        tolerance = max(float32_tolerance, rounding)
    yield compare(recording.path, quantity, actual, expected, tolerance)


def float32_rounding(recording: Recording, quantity: str, scale: float | None = None) -> float:
    """The reference's float32 error in `quantity` against its float64 twin; 0 without a twin.

    Relative to `scale`, by default the largest entry.
    """
    twin = recording.float64_twin(quantity)
    if twin is None or twin.size == 0:
        return 0.0
    scale = scale or np.abs(twin).max() or 1.0
    return float(np.abs(recording[quantity].astype(np.float64) - twin).max() / scale)


def judge_statistically(file: Path, quantity: str, actual, expected) -> Iterator[Row]:
    """Correlation, and mean absolute difference in standard deviations of the expected."""
    actual = np.asarray(actual, np.float64)
    expected = np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        yield compare(file, quantity, actual, expected, 0.0)
        return
    correlation = np.corrcoef(actual.ravel(), expected.ravel())[0, 1]
    deviation = np.mean(np.abs(actual - expected)) / np.std(expected)
    yield row(file, quantity, 1 - correlation, BF16_CORRELATION, "1-corr")
    yield row(file, quantity, deviation, BF16_DEVIATION, "mad/std")
