"""Reads weights in the safetensors format: one file, or the index of several beside each other."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.core.errors import InputError

WEIGHT_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
}  # fmt: skip
WHOLE_TYPES = {
    f"{sign.upper()}{8 * size}": np.dtype(f"{sign}{size}") for sign in "iu" for size in (1, 2, 4, 8)
}
DTYPES = WEIGHT_TYPES | WHOLE_TYPES | {"BOOL": np.bool_}
SUFFIX, INDEX_SUFFIX = ".safetensors", ".safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """A tensor of a safetensors file, read from disk by `np.asarray`."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy
        with _opened(self.path) as file:
            values = file.get_tensor(self.name)
        return values if dtype is None else values.astype(dtype)


def is_safetensors(path: Path) -> bool:
    """Whether the file's name is that of weights in this format, or of their index."""
    return path.name.endswith((SUFFIX, INDEX_SUFFIX))


def read_safetensors(path: Path) -> dict[str, FileTensor]:
    """The tensors by name, of all files that an index lists.

    Raises InputError for files that are missing, damaged, or do not hold what the index says.
    """
    return _of_index(path) if path.name.endswith(INDEX_SUFFIX) else _of_file(path)


def _of_index(path: Path) -> dict[str, FileTensor]:
    tensors: dict[str, FileTensor] = {}
    places = _weight_map(path)
    for name in sorted(set(places.values())):
        held = _of_file(path.parent / name)
        listed = [tensor for tensor, file in places.items() if file == name]
        absent = [tensor for tensor in listed if tensor not in held]
        if absent:
            raise InputError.of(
                "checkpoint", path, f"lists {absent[0]} in {name}, which does not hold it",
                "fetch both again",
            )  # fmt: skip
        tensors |= {tensor: held[tensor] for tensor in listed}
    return tensors


def _weight_map(path: Path) -> dict[str, str]:
    """Names of tensors to names of files beside the index."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except OSError as error:
        raise InputError.of(
            "checkpoint", path, f"cannot be read ({error.strerror})", "give the index of the files"
        ) from error
    except (ValueError, KeyError, TypeError):
        places = None
    if not isinstance(places, dict) or not all(isinstance(n, str) for n in places.values()):
        raise InputError.of(
            "checkpoint", path, "is no index of safetensors files (a weight_map of names)",
            "fetch it again, or give a .safetensors file",
        )  # fmt: skip
    outside = [name for name in places.values() if Path(name).name != name]
    if outside:
        raise InputError.of(
            "checkpoint", path, f"names {outside[0]}, which is no file beside it",
            "put all files into one folder",
        )  # fmt: skip
    return places


def _of_file(path: Path) -> dict[str, FileTensor]:
    with _opened(path) as file:
        return {name: _described(file, path, name) for name in file.keys()}  # noqa: SIM118


def _described(file: Any, path: Path, name: str) -> FileTensor:
    """Shape and type without the numbers."""
    part = file.get_slice(name)
    if part.get_dtype() not in DTYPES:
        raise InputError.of(
            "checkpoint", path, f"holds {name} as {part.get_dtype()}, which is no type of weights",
            f"save it as one of {', '.join(WEIGHT_TYPES)}",
        )  # fmt: skip
    return FileTensor(path, name, tuple(part.get_shape()), np.dtype(DTYPES[part.get_dtype()]))


def _opened(path: Path) -> Any:
    """The open file. Raises InputError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError.of("checkpoint", path, "is not a file", "fetch it, too")
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise InputError.of(
            "checkpoint", path, f"is damaged ({error})", "fetch it again"
        ) from error
