"""Reads PyTorch checkpoints (`torch.save`, zip format) without PyTorch and without running them.

A checkpoint is a pickle, which may name any function to be called. Here a name stands for a
tensor, for a plain container, or for something inert that is not looked at; every other name is
refused before anything is done. Tensors stay on disk until they are asked for.
"""

import collections
import dataclasses
import io
import pickle
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.errors import InputError

MAX_PICKLE_BYTES = 2**28
STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
# Training arguments and the like: read as nothing. A star stands for every name of a module.
INERT = {
    "argparse": {"Namespace"},
    "builtins": {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object",
                 "set", "slice", "str", "tuple"},
    "__builtin__": {"dict", "int", "list", "object", "set", "str", "unicode"},
    "_codecs": {"encode"},
    "collections": {"Counter", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "copy_reg": {"_reconstructor"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "omegaconf.base": {"*"},
    "omegaconf.dictconfig": {"*"},
    "omegaconf.listconfig": {"*"},
    "omegaconf.nodes": {"*"},
    "pathlib": {"*"},
    "torch": {"Size", "device", "float16", "float32", "float64", "bfloat16", "int64"},
    "typing": {"*"},
}  # fmt: skip
WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict", "module")


class Inert:
    """Stands for an object that nobody needs; takes whatever a pickle does to it."""

    def __init__(self, *arguments, **options):
        del arguments, options

    def __new__(cls, *arguments, **options):
        del arguments, options
        return super().__new__(cls)

    def __setstate__(self, state):
        del state

    def __setitem__(self, key, value):
        del key, value

    def append(self, value):
        del value

    def extend(self, values):
        del values

    def add(self, value):
        del value


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers in the archive."""

    archive: zipfile.ZipFile
    entry: str
    dtype: np.dtype
    count: int
    swapped: bool  # written on a machine of the other byte order

    def read(self) -> np.ndarray:
        """All numbers; InputError if there are fewer than the checkpoint says."""
        try:
            content = self.archive.read(self.entry)
        except (KeyError, zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise _damaged(self.archive.filename, f"{self.entry} cannot be read") from error
        if len(content) < self.count * self.dtype.itemsize:
            raise _damaged(self.archive.filename, f"{self.entry} is too short")
        if self.swapped:
            content = np.frombuffer(content, f"u{self.dtype.itemsize}").byteswap().tobytes()
        return np.frombuffer(content, self.dtype, self.count)


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint, read from disk by `np.asarray`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        return self.storage.dtype

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy
        numbers, strides = self.storage.read()[self.offset :], self.stride
        strides = tuple(step * self.dtype.itemsize for step in strides)
        view = np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)
        return view if dtype is None else view.astype(dtype)


def _rebuild_tensor(storage, offset, shape, stride, *_) -> StoredTensor:
    """What a checkpoint calls `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without numbers")
    numbers = (offset, *shape, *stride)
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or len(shape) != len(stride):
        raise pickle.UnpicklingError("a tensor of impossible shape")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= storage.count:
        raise pickle.UnpicklingError("a tensor beyond the end of its numbers")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(tensor, *_) -> Any:
    """What a checkpoint calls `torch._utils._rebuild_parameter`."""
    return tensor


TENSOR_FUNCTIONS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is neither a tensor nor inert."""


class _CheckpointUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, archive: zipfile.ZipFile, prefix: str, order: str):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._archive, self._prefix, self._swapped = archive, prefix, order != sys.byteorder

    def find_class(self, module: str, name: str) -> Any:
        """Never imports: gives one of our own functions, or a stand-in."""
        if (module, name) in TENSOR_FUNCTIONS:
            return TENSOR_FUNCTIONS[module, name]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if INERT.get(module, set()) & {name, "*"}:
            return Inert
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("an unknown reference")
        _, dtype, key, _, count = pid
        if not isinstance(dtype, np.dtype) or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError("numbers of an unknown kind")
        return Storage(self._archive, f"{self._prefix}data/{key}", dtype, count, self._swapped)


def read_checkpoint(path: Path | str) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors of a checkpoint by name, and the names of what else the file holds.

    Weights may be the whole content or lie under `model`, `state_dict`, `model_state_dict` or
    `module`. Raises InputError for files that are no checkpoint in zip format, are damaged, hold
    no tensors, or name anything that would have to be run.
    """
    content = _unpickle(Path(path))
    others: list[str] = []
    if isinstance(content, dict) and not _tensors(content):
        key = next((k for k in WEIGHTS_KEYS if isinstance(content.get(k), dict)), None)
        others = sorted(str(name) for name in content if name != key)
        content = content[key] if key is not None else {}
    tensors = _tensors(content) if isinstance(content, dict) else {}
    if not tensors:
        raise InputError.of(
            "checkpoint", path, f"holds no tensors by name, whole or under {WEIGHTS_KEYS}",
            "give a file with a model's state",
        )  # fmt: skip
    others += sorted(str(name) for name in content if name not in tensors)
    return tensors, others


def _tensors(content: dict) -> dict[str, StoredTensor]:
    return {
        name: value for name, value in content.items()
        if isinstance(name, str) and isinstance(value, StoredTensor)
    }  # fmt: skip


def _unpickle(path: Path) -> Any:
    if not path.is_file():
        raise InputError.of("checkpoint", path, "is not a file", "give a .pth or .pt file")
    if not zipfile.is_zipfile(path):
        raise InputError.of(
            "checkpoint", path, "is not in the zip format of PyTorch 1.6 and later",
            "load it there and save it again with torch.save, or fetch it again",
        )  # fmt: skip
    try:
        archive = zipfile.ZipFile(path)
        pickles = [info for info in archive.infolist() if info.filename.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise _damaged(path, "it has no single data.pkl of a checkpoint's size")
        prefix = pickles[0].filename.removesuffix("data.pkl")
        names = set(archive.namelist())
        order = archive.read(prefix + "byteorder") if prefix + "byteorder" in names else b"little"
        content = archive.read(pickles[0])
        return _CheckpointUnpickler(content, archive, prefix, order.strip().decode()).load()
    except _Refused as error:
        raise InputError.of(
            "checkpoint", path, f"names {error}, which is neither tensor nor plain data: nothing "
            f"of it was run", "use a file from a source you trust that holds tensors only",
        ) from error  # fmt: skip
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError,
        TypeError, AttributeError, IndexError, KeyError, NotImplementedError, RecursionError,
    ) as error:  # fmt: skip
        if isinstance(error, InputError):
            raise
        raise _damaged(path, str(error) or type(error).__name__) from error


def _damaged(path: Any, reason: str) -> InputError:
    return InputError.of("checkpoint", path, f"is damaged ({reason})", "fetch it again")
