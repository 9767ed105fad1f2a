"""One recording: its arrays, its parameters, the precisions it holds, and what is judged by it."""

import dataclasses
import functools
import importlib.metadata
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tttlrm_jax.config import Dtype
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parity.report import MEASURES, Measure, Row, error_of

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


class Variant(NamedTuple):
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
    """Arrays of one .npz by key, and what its `meta_json` or `meta` says, or a whole .json."""

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            raise InputError(f"recording {self.path.name} has no array {key}; fetch it again")
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def beside(self, name: str) -> "Recording":
        """The recording of another name in the same folder."""
        return load(self.path.with_name(name))

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays whose key starts with `prefix`, which is cut off."""
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}

    def cases(self, suffix: str) -> list[str]:
        """What precedes `suffix` in every key that ends with it, in file order."""
        return [key.removesuffix(suffix) for key in self.arrays if key.endswith(suffix)]

    def variants(self, prefix: str = "") -> list[Variant]:
        """Precision variants recorded directly under `prefix`."""
        found = {key.split("/")[0] for key in self.under(prefix)}
        return [variant for name, variant in VARIANTS.items() if name in found]

    def row(self, quantity: str, error: Any, tolerance: float = 0.0, measure: str = "exact") -> Row:
        return Row(self.path.name, quantity, float(error), float(tolerance), measure)

    def compare(
        self,
        quantity: str,
        actual: Any,
        tolerance: float = 0.0,
        measure: str = "rel",
        expected: Any = None,
        error: Measure | None = None,
    ) -> Row:
        """`actual` against `expected`, by default what is recorded under the quantity's name.

        Measures: `rel` divides by the largest absolute expected entry (by 1 when that is 0), `abs`
        does not divide, `1+abs` divides each entry by 1 plus its absolute value, `l2` is the
        relative Frobenius error, `exact` counts differing entries; others say so by `error`.
        """
        expected = np.asarray(self[quantity] if expected is None else expected)
        actual = np.asarray(actual)
        if actual.shape != expected.shape:
            quantity = f"{quantity} shape {actual.shape} != {expected.shape}"
            return self.row(quantity, math.inf, tolerance, measure)
        if measure == "exact":
            return self.row(quantity, np.sum(actual != expected))
        wrong = error_of(actual, expected, error or MEASURES[measure])
        return self.row(quantity, wrong, tolerance, measure)

    def compare_all(
        self,
        actual: Mapping[str, Any],
        tolerance: float = 0.0,
        measure: str = "rel",
        prefix: str = "",
        optional: bool = False,
    ) -> Iterator[Row]:
        """`compare` of values by name, of those that are recorded where they are `optional`."""
        for name, value in actual.items():
            if not optional or prefix + name in self:
                yield self.compare(prefix + name, value, tolerance, measure)

    def judge(
        self, actual: Mapping[str, Any], variant: Variant, tolerance: float, prefix: str = ""
    ) -> Iterator[Row]:
        """Rows for values by name, in a precision.

        float64 is judged by what storage keeps; float32 by `tolerance`, or by `ROUNDING_MULTIPLE`
        times the reference's own rounding error where the recording shows that to be larger;
        chaotic bfloat16 results statistically.
        """
        for name, value in actual.items():
            quantity = prefix + name
            expected = self[quantity]
            if variant.name == "bf16":
                yield from self.judge_statistically(quantity, value, expected)
            elif variant.name == "fp64":
                stored = FLOAT64_STORED if expected.dtype == np.float64 else FLOAT32_STORED
                yield self.compare(quantity, value, stored)
            else:
                rounding = ROUNDING_MULTIPLE * self.float32_rounding(quantity)
                yield self.compare(quantity, value, max(tolerance, rounding))

    def judge_statistically(self, quantity: str, actual, expected) -> Iterator[Row]:
        """Correlation, and mean absolute difference in standard deviations of the expected."""
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        if actual.shape != expected.shape:
            yield self.compare(quantity, actual, expected=expected)
            return
        correlation = np.corrcoef(actual.ravel(), expected.ravel())[0, 1]
        deviation = np.mean(np.abs(actual - expected)) / np.std(expected)
        yield self.row(quantity, 1 - correlation, BF16_CORRELATION, "1-corr")
        yield self.row(quantity, deviation, BF16_DEVIATION, "mad/std")

    def float32_rounding(self, quantity: str, scale: float | None = None) -> float:
        """The reference's float32 error in `quantity` against its float64 twin; 0 without a twin.

        Relative to `scale`, by default the largest entry.
        """
        twin = self._float64_twin(quantity)
        if twin is None or twin.size == 0:
            return 0.0
        scale = scale or np.abs(twin).max() or 1.0
        return float(np.abs(self[quantity].astype(np.float64) - twin).max() / scale)

    def _float64_twin(self, quantity: str) -> np.ndarray | None:
        """The float64 value of a float32 quantity, in this file or in the one beside it."""
        key = quantity.replace("fp32", "fp64")
        if key != quantity:
            return self.arrays.get(key)
        path = self.path.with_name(self.path.name.replace("fp32", "fp64"))
        return load(path).arrays.get(quantity) if path.is_file() else None


Check = Callable[[Recording], Iterator[Row]]  # yields a row for each recorded quantity


def in_both_precisions(template: str) -> Callable[[Callable[[Recording, Variant], Any]], Check]:
    """Makes a check of one that takes a precision as well: runs it in float32 and in float64.

    `template` names the rows, from the quantity `{}` and the fields of `{variant}`.
    """

    def decorated(check: Callable[[Recording, Variant], Iterator[Row]]) -> Check:
        def in_both(recording: Recording) -> Iterator[Row]:
            for variant in (VARIANTS["fp32"], VARIANTS["fp64"]):
                name = template.format("{}", variant=variant)
                yield from (each.named(name) for each in check(recording, variant))

        return in_both

    return decorated


@functools.lru_cache(maxsize=8)
def load(path: Path) -> Recording:
    """Reads a recording; a truncated or foreign file raises InputError."""
    if not path.is_file():
        raise InputError(f"recording {path.name} is missing in {path.parent}; fetch it again")
    if path.suffix == ".json":
        return Recording(path, {}, _read_json(path))
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"recording {path} is truncated or no .npz file; fetch it again"
        ) from error
    try:
        text = arrays.pop("meta", "{}") if "meta_json" not in arrays else arrays.pop("meta_json")
        return Recording(path, arrays, json.loads(str(text)))
    except json.JSONDecodeError as error:
        raise InputError(f"recording {path} has meta data that is not JSON; fetch it again") from (
            error
        )


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"recording {path} is truncated or no JSON; fetch it again") from error
    if not isinstance(content, dict):
        raise InputError(f"recording {path} holds no JSON object; fetch it again")
    return content
